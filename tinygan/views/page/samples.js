// The picture grids of a run under a slider that also plays.
"use strict";

/** The tiles of a grid without gaps (the URL of an image), each a canvas; the shape is the data's. */
async function tilesOf(url, [, height, width]) {
  const image = Object.assign(new Image(), { src: url });
  await image.decode();
  const columns = image.naturalWidth / width, count = columns * (image.naturalHeight / height);
  return Array.from({ length: count }, (_, i) => {
    const tile = element("canvas", { width, height }), x = i % columns, y = Math.floor(i / columns);
    tile.getContext("2d", { willReadFrequently: true }).drawImage(image, -x * width, -y * height);
    return tile;
  });
}

/** Draw pictures (canvases of one size) onto `canvas` as a square grid, magnified and with gaps. */
function drawGrid(canvas, tiles, columns = Math.ceil(Math.sqrt(tiles.length)), least = 600) {
  const { width, height } = tiles[0], rows = Math.ceil(tiles.length / columns);
  const scale = Math.ceil(least / (columns * width)), gap = 6, W = width * scale, H = height * scale;
  Object.assign(canvas, { width: columns * (W + gap) - gap, height: rows * (H + gap) - gap });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  tiles.forEach((tile, i) => context.drawImage(tile, (i % columns) * (W + gap), Math.floor(i / columns) * (H + gap), W, H));
  return canvas;
}

/** Copy one canvas onto another. */
function copyCanvas(from, to) {
  Object.assign(to, { width: from.width, height: from.height });
  to.getContext("2d").drawImage(from, 0, 0);
}

class Player {
  /** `run` is the page's contents; `onEpoch(epoch, tiles, text, last)` is called whenever another one is shown:
   * its pictures, when it was, and whether it is the last. */
  constructor(run, onEpoch) {
    Object.assign(this, { run, onEpoch, timer: null, sliders: [...document.querySelectorAll(".epoch")] });
    const { frames, config: { data: { shape } } } = run;
    this.tiles = frames.map(() => null);
    for (const slider of this.sliders) {
      slider.max = frames.length - 1;
      slider.addEventListener("input", () => {
        this.setPlaying(false);
        this.show(slider.valueAsNumber);
      });
    }
    byId("play").addEventListener("click", () => this.setPlaying(!this.timer));
    this.reals = run.reals ? tilesOf(run.reals, shape) : Promise.resolve([]);
    this.reals.then((tiles) => tiles.length && drawGrid(byId("real-grid"), tiles));
    byId("real-grid").parentElement.hidden = !run.reals;
    for (const player of document.querySelectorAll(".player")) player.hidden = frames.length < 2;
    byId("sample-grid").hidden = frames.length === 0;
    if (frames.length) this.show(frames.length - 1);
    else byId("sample-caption").textContent = "no pictures were found in the folder of the run";
  }

  async show(index) {
    const { frames, steps_per_epoch: stepsPerEpoch, config: { data: { shape } } } = this.run;
    const { epoch, step, picture } = frames[index], last = index === frames.length - 1;
    const text = step ? `after step ${number(step)}` : epoch === 0 ? "before training" : `after epoch ${epoch}`;
    for (const slider of this.sliders) {
      slider.value = index;
      slider.setAttribute("aria-valuetext", step ? `step ${step}` : `epoch ${epoch}`);
    }
    for (const count of document.querySelectorAll(".count")) count.textContent = `${number(epoch)} of ${number(frames.at(-1).epoch)}`;
    byId("sample-caption").textContent = text;
    byId("sample-grid").setAttribute("aria-label", `16 pictures of the generator ${text}`);
    byId("epoch-facts").textContent = step ? `Epoch ${epoch + 1}, step ${number(step)}` : this.facts(epoch);
    this.index = index;
    const tiles = await (this.tiles[index] ??= tilesOf(picture, shape));
    if (this.index !== index) return; // overtaken
    drawGrid(byId("sample-grid"), tiles);
    this.onEpoch(epoch + step / stepsPerEpoch, tiles, text, last);
  }

  facts(epoch) {
    const row = this.run.stats.find((one) => one.epoch === epoch);
    if (!row) return epoch === 0 ? "Epoch 0: before the training." : `Epoch ${epoch}`;
    return `Epoch ${epoch}: mean loss of the generator ${fixed(row.g_loss)}, of the discriminator ${fixed(row.d_loss)}. It gave real ` +
      `images a probability of ${percent(row.real_score)} of being real, and fakes ${percent(row.fake_score)}.`;
  }

  setPlaying(playing) {
    const last = this.run.frames.length - 1;
    if (playing && this.index === last) this.show(0);
    clearInterval(this.timer);
    this.timer = playing ? setInterval(() => {
      this.show(this.index + 1);
      if (this.index === last) this.setPlaying(false);
    }, 200) : null;
    byId("play").textContent = playing ? "Pause" : "Play";
    byId("epoch-facts").setAttribute("aria-live", playing ? "off" : "polite"); // five epochs a second are too many to be read out
  }
}
