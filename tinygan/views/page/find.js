// A picture is looked for in the noise: gradient descent on the noise, in sight.

const STARTS = 64, STEPS = 300, LR = 0.1; // of Adam

class Finder {
  constructor(explorer, reals) {
    Object.assign(this, { explorer, networks: explorer.networks, shape: explorer.shape, fitting: null, from: null });
    const [height, width] = this.shape;
    reals.forEach((tile, i) => {
      const button = element("button", { type: "button", "aria-label": `Real picture ${i + 1}` }, tile);
      button.onclick = () => {
        copyCanvas(tile, byId("pad"));
        this.fit();
      };
      byId("targets").append(button);
    });
    this.pad = Object.assign(byId("pad"), { height, width });
    this.pad.onpointerdown = this.pad.onpointermove = (event) => this.stroke(event);
    this.pad.onpointerup = () => {
      if (this.from) this.fit();
      this.from = null;
    };
    this.pad.onpointercancel = () => (this.from = null);
    byId("clear").onclick = () => this.clear();
    byId("fit-stop").onclick = () => (this.fitting.stopped = true);
    byId("fit-take").onclick = () => {
      explorer.start(nameOf(this.noise));
      byId("explorer").scrollIntoView();
      byId("new-picture").focus({ preventScroll: true });
    };
    this.clear();
    this.networks.ask("pictures", [explorer.noise]).then(([picture]) => drawPicture(byId("found"), picture, this.shape));
  }

  /** Another picture is wanted: what was found so far is of none. */
  discard(words) {
    this.fitting = this.noise = null;
    byId("fit-stop").disabled = byId("fit-take").disabled = true;
    byId("fit-words").textContent = words;
  }

  clear() {
    this.discard("Nothing chosen yet.");
    this.pad.getContext("2d", { willReadFrequently: true }).fillRect(0, 0, this.pad.width, this.pad.height);
  }

  /** A stroke of a finger, a pen or the mouse, white on black. */
  stroke({ type, clientX, clientY, button, pointerId }) {
    const { left, top, width } = this.pad.getBoundingClientRect(), scale = this.pad.width / width;
    const here = [(clientX - left) * scale, (clientY - top) * scale];
    if (type === "pointerdown" && button === 0) {
      this.discard("Drawing.");
      this.pad.setPointerCapture(pointerId);
      this.from = here;
    }
    if (!this.from) return;
    const context = this.pad.getContext("2d");
    Object.assign(context, { lineWidth: this.pad.width / 8, lineCap: "round", strokeStyle: "white" });
    context.beginPath();
    context.moveTo(...this.from);
    context.lineTo(here[0] + 0.01, here[1]); // a single press is a dot
    context.stroke();
    this.from = here;
  }

  /** The noises to start from, and their pictures, drawn in parts: other questions come in between. */
  async makeStarts() {
    const starts = [];
    for (let seed = 0; seed < STARTS; seed++) {
      const noise = drawNoise(this.explorer.noise.length, seed), [picture] = await this.networks.ask("pictures", [noise]);
      starts.push({ noise, picture });
    }
    return starts;
  }

  /** Move the noise, from that of the nearest start, until it is `STEPS` on, or stopped; no further
   * when `fitting` is of another picture. */
  async fit() {
    const words = byId("fit-words"), target = pixelsOf(this.pad, this.shape);
    this.discard("Looking for a picture to start from.");
    const mine = (this.fitting = { stopped: false }), far = (picture) => picture.reduce((sum, value, i) => sum + (value - target[i]) ** 2, 0);
    words.setAttribute("aria-live", "off"); // until the end
    const starts = await (this.starts ??= this.makeStarts());
    if (this.fitting !== mine) return;
    let state = starts.reduce((best, one) => (far(one.picture) < far(best.picture) ? one : best)), first = null;
    byId("fit-stop").disabled = false;
    do {
      state = await this.networks.ask("fit", { ...state, target, steps: 1, lr: LR });
      if (this.fitting !== mine) return;
      first ??= state.error;
      this.noise = state.noise;
      drawPicture(byId("found"), state.picture, this.shape);
      words.textContent = `Step ${state.step} of ${STEPS}: a pixel is ${number(state.error, 0)} of 255 off, at first ${number(first, 0)}.`;
    } while (state.step < STEPS && !mine.stopped);
    byId("fit-stop").disabled = true;
    byId("fit-take").disabled = false;
    words.setAttribute("aria-live", "polite");
    if (state.step === STEPS) words.append(" No noise gives a picture of a kind that the generator never learned to make.");
  }
}
