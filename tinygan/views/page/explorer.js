// The live generator: its picture of the current noise, and every control that changes this noise.

const POINTS = 4, CELLS = 3; // pictures on the strip, and cells from each to the next
const SECONDS = 3; // for a morph from one picture to the next
const REACH = 2; // push of the small pictures next to a slider, as tinygan.evaluation.directions.PUSH

/** `count` independent standard normal numbers (Box & Muller 1958), reproducible from the whole number `seed`, with
 * uniform ones from xorshift32 (Marsaglia 2003). */
function drawNoise(count, seed = newSeed()) {
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 8; i++) uniform(); // neighbouring seeds start with similar numbers
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

const newSeed = () => Math.floor(Math.random() * 1e6);

/** The point at `t` in [0, 1] on the great circle from `a` to `b` (Shoemake 1985). Noise is close to a sphere; a
 * straight line would cut through its inside, where the generator was never trained. */
function greatCircle(a, b, t) {
  const dot = (u, v) => u.reduce((sum, value, i) => sum + value * v[i], 0);
  const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (!(Math.sin(angle) > 1e-6)) return a.map((value, i) => (1 - t) * value + t * b[i]);
  return a.map((value, i) => (Math.sin((1 - t) * angle) * value + Math.sin(t * angle) * b[i]) / Math.sin(angle));
}

/** A name for noise in the page's address: 16 bits per number, in base 64. */
function nameOf(noise) {
  const bytes = new Uint8Array(Int16Array.from(noise, (value) => Math.max(-8, Math.min(7.99, value)) * 4096).buffer);
  return `n${btoa(String.fromCharCode(...bytes)).replaceAll("/", "_").replaceAll("=", "")}`;
}

/** The noise for a name: p3 is number 3 of `previews`, s17 is drawn with seed 17, n... comes from `nameOf`. */
function noiseOf(name, previews) {
  const size = previews[0].length, value = Number(name.slice(1));
  if (name[0] === "p" && previews[value]) return Float32Array.from(previews[value]);
  if (name[0] === "n" && name.length === nameOf(previews[0]).length) {
    const bytes = Uint8Array.from(atob(name.slice(1).replaceAll("_", "/")), (character) => character.charCodeAt(0));
    return Float32Array.from(new Int16Array(bytes.buffer), (number) => number / 4096);
  }
  return drawNoise(size, value || 0);
}

/** Small pictures, drawn one by one, so that the large one never waits for all of them. */
class Gallery {
  /** `draw(i)` draws the picture on `canvases[i]`, asynchronously. */
  constructor(canvases, draw) {
    Object.assign(this, { canvases, draw, stale: 0, next: 0 });
  }

  /** Redraw all pictures. If called again meanwhile, it restarts the count from where it is, so none waits forever. */
  async refresh() {
    const busy = this.stale > 0;
    this.stale = this.canvases.length;
    if (busy) return;
    for (; this.stale > 0; this.stale--) {
      this.next = (this.next + 1) % this.canvases.length;
      await this.draw(this.next).catch(() => {}); // the large picture shows what is wrong
    }
  }
}

class Explorer {
  /** `grid`: the canvases of the training samples, in buttons. */
  constructor(run, networks, grid) {
    Object.assign(this, { run, networks, way: 0, morphing: false, drawn: false, all: false, onPicture() {} });
    this.shape = run.networks[1].input;
    this.compute = networks.latest("outputs", (outputs) => this.show(outputs));
    this.computeSlope = networks.latest("slope", ({ slope }) => this.showSlope(slope));
    this.names = Array.from({ length: POINTS }, (_, i) => `p${i}`);
    this.sliders = run.directions.map((direction) => this.addDirection(direction));
    byId("directions-part").hidden = run.directions.length === 0;
    this.addGalleries(grid);
    const shared = this.readAddress();
    byId("new-picture").onclick = () => this.start(`s${newSeed()}`);
    byId("new-strip").onclick = () => this.go({ names: this.names.map(() => `s${newSeed()}`), way: 0 });
    byId("reset").onclick = () => this.go({ pushes: [] });
    byId("morph").onclick = () => this.setMorphing(!this.morphing);
    byId("way").oninput = ({ target }) => this.go({ way: target.valueAsNumber });
    byId("show-slope").onchange = () => this.draw();
    onhashchange = () => this.readAddress() && this.go({});
    this.go({});
    this.setMorphing(!shared && !matchMedia("(prefers-reduced-motion: reduce)").matches);
  }

  /** The noise that the controls select: a position between two pictures, plus the pushes. */
  get noise() {
    return this.pushed(this.at(this.way));
  }

  get pushes() {
    return this.sliders.map((slider) => slider.valueAsNumber);
  }

  point(i) {
    return noiseOf(this.names[i % POINTS], this.run.noise);
  }

  at(way) {
    const from = Math.floor(way);
    return greatCircle(this.point(from), this.point(from + 1), way - from);
  }

  pushed(noise, pushes = this.pushes) {
    return noise.map((value, i) => pushes.reduce((sum, push, n) => sum + push * this.run.directions[n].noise[i], value));
  }

  /** Show one picture: it replaces the one on the strip at or before the current position. */
  start(name) {
    const way = Math.floor(this.way) % POINTS;
    this.go({ names: this.names.with(way, name), way, pushes: this.tiles ? [] : this.pushes }); // pictures of earlier epochs cannot be pushed
  }

  /** Go to what a person chose: the names of the four pictures, the position between them, the sliders' pushes. */
  go({ names = this.names, way = this.way, pushes }) {
    this.setMorphing(false);
    Object.assign(this, { names, way });
    if (pushes) this.sliders.forEach((slider, n) => (slider.value = pushes[n] ?? 0));
    this.showPushes();
    this.settle();
  }

  /** Draw all pictures and update the address, once the large picture stays. */
  settle() {
    this.draw();
    for (const gallery of this.galleries) gallery.refresh();
    history.replaceState(null, "", `#${this.names}/${Number(this.way.toFixed(4))}/${this.pushes}`);
  }

  showPushes() {
    for (const slider of this.sliders) slider.parentElement.querySelector(".value").textContent = slider.valueAsNumber.toFixed(1);
  }

  readAddress() {
    const [names = "", way = "", pushes = ""] = location.hash.slice(1).replaceAll("%2C", ",").replaceAll("%2B", "+").split("/");
    if (!/^([ps]\d+|n[\w+]{3,})(,([ps]\d+|n[\w+]{3,})){3}$/.test(names)) return false;
    Object.assign(this, { names: names.split(","), way: Math.min(POINTS, Math.max(0, Number(way) || 0)) });
    const numbers = pushes.split(",").map(Number);
    this.sliders.forEach((slider, n) => (slider.value = numbers[n] || 0)); // the slider clips them to its range
    return true;
  }

  /** Draw the large picture; while two are being computed, only the newest further call counts. */
  draw() {
    byId("way").value = this.way;
    byId("way").setAttribute("aria-valuetext", `position ${number(this.way, 2)} of ${POINTS}`);
    this.compute({ noise: this.noise, all: this.all });
  }

  show(outputs) {
    const picture = outputs.generator.at(-1), [logit] = outputs.discriminator.at(-1);
    const name = this.names[this.way % POINTS]; // undefined if it is between two pictures
    const tile = name?.[0] === "p" && !this.pushes.some(Boolean) ? this.tiles?.[Number(name.slice(1))] : null; // for the same noise
    if (tile) copyCanvas(tile, byId("picture"));
    else drawPicture(byId("picture"), picture, this.shape);
    byId("decision").textContent = tile ? `The picture of the same noise ${this.when}.`
      : `${this.tiles ? "Made by the newest generator. " : ""}The discriminator says this picture is real with a probability of ${percent(probability(logit))}.`;
    this.drawn = true;
    this.onPicture(this.pushed(this.point(Math.floor(this.way) + 1)), outputs); // the first argument is the noise of the strip's next picture
    const wanted = byId("show-slope").checked;
    byId("slope").hidden = byId("slope-words").hidden = !wanted;
    if (wanted) this.computeSlope(tile ? pixelsOf(tile, this.shape) : picture); // of the picture that is shown
  }

  /** Show where a brighter or darker pixel would convince the discriminator more; colours are summed. */
  showSlope(slope) {
    const [height, width, channels] = this.shape, sums = new Float32Array(height * width);
    slope.forEach((value, i) => (sums[Math.floor(i / channels)] += value));
    drawMap(byId("slope"), sums, this.shape, largestOf(sums), true);
  }

  /** One step of the morph, if the picture or the layers are visible. */
  advance() {
    if (!this.morphing) return;
    requestAnimationFrame(() => this.advance());
    const now = performance.now(), seconds = Math.min(0.3, (now - this.then) / 1000);
    if (!["picture", "layers-section"].some((id) => inSight(byId(id)))) return;
    this.then = now;
    this.way = (this.way + seconds / SECONDS) % POINTS;
    this.draw();
  }

  setMorphing(morphing) {
    if (morphing === this.morphing) return;
    this.morphing = morphing;
    this.then = performance.now();
    byId("morph").textContent = morphing ? "Pause" : "Morph";
    if (morphing) this.advance();
    else this.settle();
  }

  /** Show the grid of an epoch: its pictures `tiles`, or at the last epoch those of the networks on the page. */
  showEpoch(tiles, when, last) {
    if (!this.drawn) copyCanvas(tiles[0], byId("picture")); // until the networks are ready
    Object.assign(this, { tiles: last ? null : tiles, when });
    this.grid.refresh();
    this.draw();
  }

  async drawOne(noise, canvas) {
    const [picture] = await this.networks.ask("pictures", [noise]);
    drawPicture(canvas, picture, this.shape);
  }

  addGalleries(grid) {
    const cells = Array.from({ length: POINTS * CELLS }, (_, i) => element("canvas", { class: i % CELLS ? "between" : "point" }));
    cells.forEach((cell, i) => (cell.onclick = () => this.go({ way: i / CELLS })));
    byId("strip").append(...cells);
    this.strip = new Gallery(cells, (i) => this.drawOne(this.pushed(this.at(i / CELLS)), cells[i]));
    grid.forEach((canvas, i) => (canvas.parentElement.onclick = () => this.start(`p${i}`)));
    this.grid = new Gallery(grid, async (i) => (
      this.tiles?.[i] ? copyCanvas(this.tiles[i], grid[i]) : this.drawOne(this.pushed(noiseOf(`p${i}`, this.run.noise)), grid[i])));
    const ends = [...byId("directions").querySelectorAll("canvas")];
    const pushesAt = (i) => this.pushes.with(i >> 1, i % 2 ? REACH : -REACH);
    this.ends = new Gallery(ends, (i) => this.drawOne(this.pushed(this.at(this.way), pushesAt(i)), ends[i]));
    this.galleries = [this.strip, this.ends, this.grid];
  }

  /** A slider with a picture at either end, its name and its effect on new pictures. */
  addDirection({ name, measure, before, after }) {
    const slider = element("input", { type: "range", min: -4, max: 4, step: 0.1, value: 0, "aria-label": name });
    slider.oninput = () => {
      this.setMorphing(false);
      this.showPushes();
      this.draw();
      this.grid.refresh();
    };
    slider.onchange = () => this.settle();
    const effect = element("span", { class: "effect" }, `${measure} ${before} → ${after}`);
    byId("directions").append(element("div", { class: "direction" },
      element("p", {}, element("b", {}, name), " ", effect, element("span", { class: "value" })),
      element("canvas"), slider, element("canvas")));
    return slider;
  }
}
