// A picture is looked for in the noise: gradient descent on the noise, in sight.
"use strict";

const STARTS = 64, STEPS = 300, LR = 0.1; // of Adam

class Finder {
  constructor(explorer, reals) {
    Object.assign(this, { explorer, networks: explorer.networks, shape: explorer.shape, fitting: null });
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
    this.pad.onpointerup = () => this.fit();
    byId("clear").onclick = () => this.clear();
    byId("fit-stop").onclick = () => (this.fitting = null);
    byId("fit-take").onclick = () => {
      explorer.start(nameOf(this.noise));
      byId("explorer").scrollIntoView();
    };
    this.clear();
    this.networks.ask("pictures", [explorer.noise]).then(([picture]) => drawPicture(byId("found"), picture, this.shape));
  }

  clear() {
    this.fitting = null;
    const context = this.pad.getContext("2d", { willReadFrequently: true });
    context.fillRect(0, 0, this.pad.width, this.pad.height);
  }

  /** A stroke of a finger, a pen or the mouse, white on black. */
  stroke({ type, clientX, clientY, buttons, pointerId }) {
    const { left, top, width } = this.pad.getBoundingClientRect(), scale = this.pad.width / width;
    const here = [(clientX - left) * scale, (clientY - top) * scale];
    if (type === "pointerdown") {
      this.fitting = null; // what runs is of another picture
      this.pad.setPointerCapture(pointerId);
      this.from = here;
    }
    if (!buttons) return;
    const context = this.pad.getContext("2d");
    Object.assign(context, { lineWidth: this.pad.width / 8, lineCap: "round", strokeStyle: "white" });
    context.beginPath();
    context.moveTo(...this.from);
    context.lineTo(here[0] + 0.01, here[1]); // a single press is a dot
    context.stroke();
    this.from = here;
  }

  /** Move the noise, from that of the nearest of `STARTS` pictures, until it is 300 steps on, or `fitting` is of another
   * picture, or null. */
  async fit() {
    const mine = (this.fitting = {}), words = byId("fit-words"), target = pixelsOf(this.pad, this.shape);
    const noises = Array.from({ length: STARTS }, (_, seed) => drawNoise(this.explorer.noise.length, seed));
    this.starts ??= this.networks.ask("pictures", noises);
    const far = (await this.starts).map((picture) => picture.reduce((sum, value, i) => sum + (value - target[i]) ** 2, 0));
    const noise = noises[far.indexOf(Math.min(...far))], zeros = noise.map(() => 0);
    let state = { noise, m: zeros, v: zeros, step: 0 }, first = null;
    byId("fit-stop").disabled = false;
    words.setAttribute("aria-live", "off"); // until the end
    while (state.step < STEPS && this.fitting === mine) {
      state = await this.networks.ask("fit", { ...state, target, steps: 1, lr: LR });
      first ??= state.error;
      this.noise = state.noise;
      drawPicture(byId("found"), state.picture, this.shape);
      words.textContent = `Step ${state.step} of ${STEPS}: a pixel is ${number(state.error, 0)} of 255 off, at first ${number(first, 0)}.`;
    }
    if (this.fitting && this.fitting !== mine) return;
    this.fitting = null;
    byId("fit-stop").disabled = true;
    byId("fit-take").disabled = false;
    words.setAttribute("aria-live", "polite");
    words.append(" What the generator never learned to make it makes of no noise.");
  }
}
