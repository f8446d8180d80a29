// A quiz of ten pairs, each a real picture and a fake: a person plays against the discriminator.

const PAIRS = 10;

class Quiz {
  /** `reals`: canvases of real pictures. */
  constructor(explorer, reals) {
    Object.assign(this, { explorer, reals, left: [], buttons: [byId("left"), byId("right")] });
    byId("quiz-next").onclick = () => this.ask();
    byId("quiz").hidden = !reals.length;
  }

  /** Show the next pair; after the last one, start another ten. */
  async ask() {
    if (!this.left.length) {
      const shuffled = this.reals.map((tile) => [Math.random(), tile]).sort(([a], [b]) => a - b).map(([, tile]) => tile);
      Object.assign(this, { left: shuffled.slice(0, PAIRS), done: 0, mine: 0, its: 0 });
    }
    byId("quiz-next").hidden = true;
    const { networks, shape, noise } = this.explorer, real = pixelsOf(this.left.pop(), shape);
    const [fake] = await networks.ask("pictures", [drawNoise(noise.length)]);
    const [ofReal, ofFake] = await networks.ask("logits", [real, fake]), first = Math.random() < 0.5;
    this.buttons.forEach((button, place) => {
      const isReal = first === (place === 0);
      Object.assign(button, { hidden: false, disabled: false, className: "", ariaLabel: `The ${["left", "right"][place]} picture is real`, onclick: () => this.answer(isReal, ofReal, ofFake) });
      button.dataset.kind = isReal ? "real" : "fake";
      button.lastChild.textContent = "?";
      drawPicture(button.firstChild, isReal ? real : fake, shape);
    });
    this.buttons[0].focus();
    byId("quiz-words").textContent = `Pair ${this.done + 1}: which one is real?`;
  }

  /** `right`: whether the real picture was chosen; `ofReal` and `ofFake`: D's logits of both pictures. */
  answer(right, ofReal, ofFake) {
    const itsRight = ofReal > ofFake, left = this.left.length;
    Object.assign(this, { done: this.done + 1, mine: this.mine + right, its: this.its + itsRight });
    for (const button of this.buttons) {
      Object.assign(button, { disabled: true, className: button.dataset.kind, ariaLabel: button.dataset.kind });
      button.lastChild.textContent = button.dataset.kind;
    }
    byId("quiz-words").textContent = `${right ? "Right" : "Wrong"}. The discriminator is ${itsRight ? "right" : "wrong"}: it gave the real picture ` +
      `a probability of ${percent(probability(ofReal))} of being real, and the fake ${percent(probability(ofFake))}. You: ${this.mine} of ${this.done}, ` +
      `the discriminator: ${this.its}.${left ? "" : " Guessing gets about half of them."}`;
    Object.assign(byId("quiz-next"), { hidden: false, textContent: left ? "Next pair" : "Again" }).focus();
  }
}
