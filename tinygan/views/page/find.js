// Finds noise for a given picture by gradient descent on the noise, and shows every step.

const STARTS = 64, STEPS = 300, LR = 0.1; // random starts; steps of Adam

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
    explorer.drawOne(explorer.noise, byId("found"));
  }

  /** Forget the noise found so far: it belongs to another picture. */
  discard(words) {
    this.fitting = this.noise = null;
    byId("fit-stop").disabled = byId("fit-take").disabled = true;
    byId("fit-words").textContent = words;
  }

  clear() {
    this.discard("No picture chosen yet.");
    this.pad.getContext("2d", { willReadFrequently: true }).fillRect(0, 0, this.pad.width, this.pad.height);
  }

  /** Draw a stroke of a finger, a pen or the mouse, white on black. */
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
    context.lineTo(here[0] + 0.01, here[1]); // a single press makes a dot
    context.stroke();
    this.from = here;
  }

  /** Random noises to start from, with their pictures, computed one by one so that other questions get their turn. */
  async makeStarts() {
    const starts = [];
    for (let seed = 0; seed < STARTS; seed++) {
      const noise = drawNoise(this.explorer.noise.length, seed), [picture] = await this.networks.ask("pictures", [noise]);
      starts.push({ noise, picture });
    }
    return starts;
  }

  /** Move the noise from the nearest start, for `STEPS` steps or until it is stopped or `fitting` belongs to
   * another picture. */
  async fit() {
    const words = byId("fit-words"), target = pixelsOf(this.pad, this.shape);
    this.discard("Choosing a picture to start from.");
    const mine = (this.fitting = { stopped: false }), far = (picture) => picture.reduce((sum, value, i) => sum + (value - target[i]) ** 2, 0);
    words.setAttribute("aria-live", "off"); // do not read out every step
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
      words.textContent = `Step ${state.step} of ${STEPS}: a typical pixel is off by ${number(state.error, 0)} of 255, at first by ${number(first, 0)}.`;
    } while (state.step < STEPS && !mine.stopped);
    byId("fit-stop").disabled = true;
    byId("fit-take").disabled = false;
    words.setAttribute("aria-live", "polite");
    if (state.step === STEPS) words.append(" The generator cannot match kinds of pictures that it never learned to make.");
  }
}
