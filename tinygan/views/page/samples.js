// The picture grids of a run under a slider that also plays.
"use strict";

/** Draw the tiles of a grid without gaps (an image) onto a canvas, magnified and with gaps; the shape is the data's. */
function drawTiles(canvas, image, [, height, width]) {
  const columns = image.naturalWidth / width, rows = image.naturalHeight / height;
  const scale = Math.ceil(600 / image.naturalWidth), gap = 6, W = width * scale, H = height * scale;
  Object.assign(canvas, { width: columns * (W + gap) - gap, height: rows * (H + gap) - gap });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  for (let i = 0; i < rows * columns; i++) {
    const x = i % columns, y = Math.floor(i / columns);
    const from = [x * width, y * height, width, height], to = [x * (W + gap), y * (H + gap), W, H];
    context.drawImage(image, ...from, ...to);
  }
}

class Player {
  /** `run` is the page's contents; `onEpoch(epoch)` is called whenever another epoch is shown. */
  constructor(run, onEpoch) {
    Object.assign(this, { run, onEpoch, slider: byId("epoch"), timer: null });
    this.images = run.frames.map(({ picture }) => Object.assign(new Image(), { src: picture }));
    this.slider.max = run.frames.length - 1;
    this.slider.addEventListener("input", () => {
      this.setPlaying(false);
      this.show(this.slider.valueAsNumber);
    });
    byId("play").addEventListener("click", () => this.setPlaying(!this.timer));
    if (run.reals) {
      const image = Object.assign(new Image(), { src: run.reals });
      image.decode().then(() => drawTiles(byId("real-grid"), image, run.config.data.shape));
    }
    byId("real-grid").parentElement.hidden = !run.reals;
    byId("player").hidden = run.frames.length < 2;
    byId("sample-grid").hidden = run.frames.length === 0;
    if (run.frames.length) this.show(run.frames.length - 1);
    else byId("sample-caption").textContent = "no pictures were found in the folder of the run";
  }

  async show(index) {
    const { epoch, step } = this.run.frames[index];
    const text = step ? `after step ${number(step)}` : epoch === 0 ? "before training" : `after epoch ${epoch}`;
    this.slider.value = index;
    this.slider.setAttribute("aria-valuetext", step ? `step ${step}` : `epoch ${epoch}`);
    byId("epoch-number").textContent = `${number(epoch)} of ${number(this.run.frames.at(-1).epoch)}`;
    byId("sample-caption").textContent = text;
    byId("sample-grid").setAttribute("aria-label", `16 pictures of the generator ${text}`);
    byId("epoch-facts").textContent = step ? `Epoch ${epoch + 1}, step ${number(step)}` : this.facts(epoch);
    this.onEpoch(epoch + step / this.run.steps_per_epoch);
    this.index = index;
    await this.images[index].decode();
    if (this.index === index) drawTiles(byId("sample-grid"), this.images[index], this.run.config.data.shape);
  }

  facts(epoch) {
    const row = this.run.stats.find((one) => one.epoch === epoch);
    if (!row) return epoch === 0 ? "Epoch 0: before the training." : `Epoch ${epoch}`;
    return `Epoch ${epoch}: mean loss G ${fixed(row.g_loss)}, D ${fixed(row.d_loss)}, ` +
      `D(x) ${fixed(row.real_score, 2)}, D(G(z)) ${fixed(row.fake_score, 2)}. ${advice(row)}`;
  }

  setPlaying(playing) {
    const last = this.images.length - 1;
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
