// The explorer: what happens to the picture when the noise changes.
"use strict";

// What each kind of layer does, for a reader who meets it for the first time.
const MEANING = {
  dense: "Every number of its output is a weighted sum of its whole input.",
  batchnorm: "Brings every channel to a common scale, then to the one that training found best.",
  leaky_relu: "Keeps what is above 0 and shrinks what is below: without such a bend, many layers could do no more than one.",
  reshape: "The same numbers, arranged as rows, columns and channels.",
  flatten: "The same numbers, in a single row.",
  conv: "Every number is a weighted sum of a small window of the map before it, the same weights everywhere.",
  dropout: "In training it drops three numbers of ten at random, so that the network relies on no single one; now it does nothing.",
  conv_transpose: "Every place is added, times the weights, to a small patch of the next map; patches overlap and add up.",
  tanh: "Squeezes everything into −1 (dark) to 1 (bright): the picture.",
};

/** `count` independent standard normal numbers (Box & Muller 1958). */
function drawNoise(count) {
  const draw = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return Array.from({ length: count }, draw);
}

/** The point at `t` in [0, 1] of the way from `a` to `b` on a great circle (Shoemake 1985). Noise lies close
 * to a sphere; a straight line would cut through its inside, where the generator was never trained. */
function greatCircle(a, b, t) {
  const dot = (u, v) => u.reduce((sum, value, i) => sum + value * v[i], 0);
  const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (Math.sin(angle) < 1e-6) return a.map((value, i) => (1 - t) * value + t * b[i]);
  return a.map((value, i) => (Math.sin((1 - t) * angle) * value + Math.sin(t * angle) * b[i]) / Math.sin(angle));
}

/** Channels of a map (height, width, channels) side by side: orange above 0, blue below. */
function drawChannels(canvas, map, [height, width, channels]) {
  const columns = Math.ceil(Math.sqrt((channels * height) / width)), rows = Math.ceil(channels / columns);
  const largest = map.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
  drawPixels(canvas, rows * (height + 1) - 1, columns * (width + 1) - 1, (row, column) => {
    const i = row % (height + 1), j = column % (width + 1);
    const channel = Math.floor(row / (height + 1)) * columns + Math.floor(column / (width + 1));
    if (i === height || j === width || channel >= channels) return [0, 0, 0, 0]; // between the maps and after the last
    const value = map[(i * width + j) * channels + channel];
    const strength = Math.sqrt(Math.abs(value) / largest); // so that small numbers are visible as well
    return [...(value > 0 ? POSITIVE : NEGATIVE).map((color) => color * strength), 255];
  });
}

/** [7, 7, 128] -> "7 × 7, 128 channels"; [100] -> "100 numbers". */
function sizes(shape) {
  const many = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
  return shape.length === 1 ? many(shape[0], "number") : `${shape[0]} × ${shape[1]}, ${many(shape[2], "channel")}`;
}

/** The noise as bars from the middle up and down; 4 fills the height. */
function drawBars(canvas, noise) {
  const bar = 6, height = 128, context = canvas.getContext("2d");
  Object.assign(canvas, { width: noise.length * bar, height });
  noise.forEach((value, i) => {
    context.fillStyle = `rgb(${value > 0 ? POSITIVE : NEGATIVE})`;
    context.fillRect(i * bar, height / 2, bar - 1, -Math.max(-4, Math.min(4, value)) * (height / 8));
  });
}

class Explorer {
  /** `run` is the page's contents; the weights lie in elements of their own. */
  constructor(run) {
    const weights = ["generator-weights", "discriminator-weights"].map((id) => byId(id).textContent);
    [this.generator, this.discriminator] = run.networks.map((network, i) => new Network(network, weights[i]));
    const shape = this.discriminator.input, noiseSize = run.noise[0].length;
    Object.assign(this, { shape, noiseSize, directions: run.directions, walked: 0, waiting: false });
    this.strollingSince = null; // when the walk's last step was made; null while it rests
    byId("noise-caption").textContent = `noise: ${noiseSize} numbers, normally distributed`;
    this.addStarts(run.noise);
    this.sliders = run.directions.map((_, n) => this.addSlider(n + 1));
    this.drawLayers = this.addLayers(this.generator.layers, byId("layers"));
    this.drawDiscriminator = this.addLayers(this.discriminator.layers, byId("discriminator-layers"));
    byId("discriminator").addEventListener("toggle", () => this.draw());
    byId("new-noise").addEventListener("click", () => this.start(drawNoise(this.noiseSize)));
    byId("reset").addEventListener("click", () => this.reset());
    byId("walk").addEventListener("input", ({ target }) => {
      this.setStrolling(false);
      this.walkTo(target.valueAsNumber);
    });
    byId("stroll").addEventListener("click", () => this.setStrolling(this.strollingSince === null));
    byId("new-goal").addEventListener("click", () => this.setGoal(drawNoise(this.noiseSize)));
    this.start(run.noise[0]);
  }

  /** Draw the generator's picture for some noise. */
  drawPictureOf(noise, canvas) {
    drawPicture(canvas, this.generator.run(noise).at(-1), this.shape);
  }

  /** The noise that the controls are set to: a place on the walk, pushed along the directions. */
  get noise() {
    return this.push(greatCircle(this.from, this.to, this.walked));
  }

  push(start) {
    const noise = Float64Array.from(start);
    this.sliders.forEach(({ valueAsNumber: push }, n) => this.directions[n].forEach((value, i) => (noise[i] += push * value)));
    return noise;
  }

  /** Go to `noise`, from which a new walk begins. */
  start(noise) {
    this.from = noise;
    this.to = drawNoise(this.noiseSize);
    this.reset();
    this.walkTo(0);
  }

  setGoal(noise) {
    this.to = noise;
    this.drawEnds();
    this.draw();
  }

  walkTo(way) {
    this.walked = way;
    byId("walk").value = way;
    byId("walk").setAttribute("aria-valuetext", `${number(100 * way, 0)} % of the way`);
    this.draw();
  }

  reset() {
    for (const slider of this.sliders) slider.value = 0;
    this.drawEnds();
    this.draw();
  }

  /** Draw picture, noise and layers before the browser's next frame; any number of calls cost one drawing. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const noise = this.noise, begin = performance.now();
      const outputs = this.generator.run(noise), picture = outputs.at(-1);
      byId("speed").textContent = `in ${number(performance.now() - begin, 0)} ms`;
      const answers = this.discriminator.run(picture), [logit] = answers.at(-1);
      byId("decision").textContent = `D: ${number(100 / (1 + Math.exp(-logit)), 0)} % real`;
      drawPicture(byId("picture"), picture, this.shape);
      drawBars(byId("noise"), noise);
      for (const slider of this.sliders) slider.nextSibling.textContent = slider.valueAsNumber.toFixed(1);
      this.drawLayers(outputs);
      if (byId("discriminator").open) this.drawDiscriminator(answers);
      if (this.strollingSince !== null) this.stroll();
    });
  }

  drawEnds() {
    this.drawPictureOf(this.push(this.from), byId("walk-from"));
    this.drawPictureOf(this.push(this.to), byId("walk-to"));
  }

  /** One step of a walk that never ends: what is reached is where the next stretch starts. */
  stroll() {
    const { top, bottom } = byId("explorer").getBoundingClientRect();
    if (bottom < 0 || top > innerHeight) return this.setStrolling(false); // scrolled away: nobody watches
    const now = performance.now(), seconds = (now - this.strollingSince) / 1000;
    this.strollingSince = now;
    const way = Math.min(1, this.walked + Math.min(seconds, 0.3) / 3); // three seconds a walk
    if (this.walked < 1) return this.walkTo(way);
    this.from = this.to;
    this.setGoal(drawNoise(this.noiseSize));
    this.walkTo(0);
  }

  setStrolling(strolling) {
    this.strollingSince = strolling ? performance.now() : null;
    byId("stroll").textContent = strolling ? "Pause" : "Walk";
    if (strolling) this.stroll();
  }

  addStarts(previews) {
    previews.forEach((noise, i) => {
      const canvas = element("canvas");
      const button = element("button", { type: "button", "aria-label": `Picture ${i + 1}` }, canvas);
      button.addEventListener("click", () => (byId("as-start").checked ? this.start(noise) : this.setGoal(noise)));
      byId("starts").append(button);
      setTimeout(() => this.drawPictureOf(noise, canvas)); // a task each, so that the page does not freeze meanwhile
    });
  }

  addSlider(n) {
    const about = { type: "range", min: -4, max: 4, step: 0.1, value: 0, "aria-label": `Direction ${n}` };
    const slider = element("input", about);
    slider.addEventListener("input", () => this.draw());
    slider.addEventListener("change", () => this.drawEnds());
    byId("directions").append(element("label", {}, String(n), slider, element("span", { class: "value" })));
    return slider;
  }

  /** A canvas for each of `layers` in `place`; returns the function that draws their outputs. */
  addLayers(layers, place) {
    const drawings = layers.map(({ kind, name, shape }) => {
      const figure = element("figure", {}, element("h4", {}, name.replaceAll("_", " ")));
      const meaning = MEANING[kind === "reshape" && shape.length === 1 ? "flatten" : kind];
      const caption = element("figcaption", {}, `${sizes(shape)}. ${meaning}`);
      place.append(figure);
      // Numbers in a row are drawn as the map that they come from or become.
      const map = shape.length === 3 ? shape
        : layers.find((other) => other.shape.length === 3 && size(other.shape) === size(shape))?.shape;
      if (!map) { // the logit
        caption.append(" It is the logit: above 0 for a picture that D takes for real, below 0 for a fake.");
        const value = element("p", { class: "logit" });
        figure.append(value, caption);
        return ([logit]) => (value.textContent = number(logit, 2));
      }
      const canvas = element("canvas");
      const enlarge = element("button", { type: "button", "aria-pressed": "false", "aria-label": `Output of layer ${name}, enlarged` }, canvas);
      enlarge.addEventListener("click", () => enlarge.setAttribute("aria-pressed", figure.classList.toggle("wide")));
      figure.append(enlarge, caption);
      return (output) => (kind === "tanh" ? drawPicture(canvas, output, map) : drawChannels(canvas, output, map));
    });
    return (outputs) => outputs.forEach((output, i) => drawings[i](output));
  }
}
