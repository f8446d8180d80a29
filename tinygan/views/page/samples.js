// The pictures of a run, epoch by epoch, with a slider that can play them.

/** Cut a grid without gaps (`url` of an image) into tiles, each a canvas; the shape is the data's. */
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

/** Copy one canvas onto another. */
function copyCanvas(from, to) {
  Object.assign(to, { width: from.width, height: from.height });
  to.getContext("2d").drawImage(from, 0, 0);
}

class Player {
  /** `run` is the page's contents; `onEpoch(epoch, tiles, text, last)` is called for each epoch shown, with its
   * pictures, a text such as "after epoch 3", and whether it is the last. */
  constructor(run, onEpoch) {
    Object.assign(this, { run, onEpoch, timer: null, slider: byId("epoch"), tiles: [] });
    this.slider.max = run.frames.length - 1;
    this.slider.oninput = () => {
      this.setPlaying(false);
      this.show(this.slider.valueAsNumber);
    };
    byId("play").onclick = () => this.setPlaying(!this.timer);
    byId("player").hidden = run.frames.length < 2;
    if (run.frames.length) this.show(run.frames.length - 1);
    else byId("epoch-facts").textContent = "No pictures were found in the run folder.";
  }

  async show(index) {
    const { frames, steps_per_epoch: stepsPerEpoch, config: { data: { shape } } } = this.run;
    const { epoch, step, picture } = frames[index], last = index === frames.length - 1;
    const now = this.run.step, newer = last && now > epoch * stepsPerEpoch + step; // than the picture: so show the networks
    const text = newer ? `after step ${number(now)}` : step ? `after step ${number(step)}` : epoch === 0 ? "before training" : `after epoch ${epoch}`;
    Object.assign(this, { index });
    this.slider.value = index;
    this.slider.setAttribute("aria-valuetext", text);
    byId("epoch-number").textContent = `${number(epoch)} of ${number(frames.at(-1).epoch)}`;
    byId("epoch-facts").textContent = this.facts(epoch, step || newer, text);
    const tiles = await (this.tiles[index] ??= tilesOf(picture, shape));
    if (this.index === index) this.onEpoch(epoch + step / stepsPerEpoch, tiles, text, last); // no other epoch was chosen meanwhile
  }

  facts(epoch, step, text) {
    const row = step ? null : this.run.stats.find((one) => one.epoch === epoch), when = text.charAt(0).toUpperCase() + text.slice(1);
    return !row ? `${when}.` : `${when}: mean loss of the generator ${fixed(row.g_loss)}, of the discriminator ${fixed(row.d_loss)}. On average it gave ` +
      `real images a probability of ${percent(row.real_score)} of being real, and fakes ${percent(row.fake_score)}.`;
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
    byId("epoch-facts").setAttribute("aria-live", playing ? "off" : "polite"); // five epochs a second are too many to read out
  }
}
