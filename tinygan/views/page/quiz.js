// Ten pairs of a real picture and a fake, for a person and for the discriminator.
"use strict";

const PAIRS = 10;

class Quiz {
  constructor(explorer, reals) {
    Object.assign(this, { explorer, reals, rounds: [] });
    byId("quiz-next").onclick = () => (this.rounds.length ? this.ask() : this.start());
    if (!reals.length) byId("quiz").hidden = true;
  }

  start() {
    const shuffled = this.reals.map((tile) => [Math.random(), tile]).sort(([a], [b]) => a - b).map(([, tile]) => tile);
    this.rounds = shuffled.slice(0, PAIRS);
    Object.assign(this, { count: this.rounds.length, done: 0, mine: 0, its: 0 });
    this.ask();
  }

  async ask() {
    const real = this.rounds.pop(), { networks, shape } = this.explorer;
    const [fake] = await networks.ask("pictures", [drawNoise(this.explorer.run.noise[0].length)]);
    const canvases = [element("canvas"), element("canvas")];
    copyCanvas(real, canvases[0]);
    drawPicture(canvases[1], fake, shape);
    const logits = await networks.ask("logits", [pixelsOf(real, shape), fake]);
    const first = Math.random() < 0.5 ? 0 : 1; // which one stands on the left
    const buttons = [first, 1 - first].map((which, place) => {
      const label = `The ${place ? "right" : "left"} picture is real`;
      const button = element("button", { type: "button", "aria-label": label }, canvases[which]);
      button.onclick = () => this.answer(which, logits, buttons, first);
      return button;
    });
    byId("pair").replaceChildren(...buttons);
    byId("quiz-next").hidden = true;
    byId("quiz-words").textContent = `Pair ${this.done + 1} of ${this.count}: which one is real?`;
  }

  answer(which, [real, fake], buttons, first) {
    this.done++;
    this.mine += which === 0;
    this.its += real > fake;
    buttons.forEach((button, place) => {
      const kind = (place ? 1 - first : first) === 0 ? "real" : "fake";
      button.disabled = true;
      button.classList.add(kind);
      button.append(kind);
    });
    const answers = `${which === 0 ? "Right" : "Wrong"}; the discriminator is ${real > fake ? "right" : "wrong"}: it gave the real one ` +
      `a probability of ${percent(probability(real))}, the fake ${percent(probability(fake))}.`;
    const score = `You: ${this.mine} of ${this.done}. The discriminator: ${this.its} of ${this.done}.`;
    const over = this.done === this.count ? " Guessing gets half of them." : "";
    byId("quiz-words").textContent = `${answers} ${score}${over}`;
    Object.assign(byId("quiz-next"), { hidden: false, textContent: this.rounds.length ? "Next pair" : "Again" }).focus();
  }
}
