// How good the generator is: its distance on a scale, and pictures that the discriminator finds good and bad.
"use strict";

const RANKED = 256, EACH = 8; // pictures that are ranked; how many of them are shown: highest, middle and lowest

/** A line from real pictures to noise, with a mark for this run: FCD, when it was measured last. */
function showScale(stats) {
  const { fcd, floor, ceiling, samples } = stats.findLast((row) => row.evaluation.fcd !== undefined)?.evaluation ?? {};
  byId("scale").hidden = byId("scale-words").hidden = ceiling === undefined;
  for (const [name, value, color] of [["real pictures", floor, "real"], ["this run", fcd, "fake"], ["noise", ceiling, "noise"]]) {
    const place = `left: ${(100 * Math.min(1, value / ceiling)).toFixed(1)}%`;
    byId("scale").append(element("li", { class: color, style: place }, element("b", {}, number(value, 1)), ` ${name}`));
  }
  byId("scale-words").textContent = `The distance of ${number(samples)} fakes from real pictures (FCD), as a classifier sees them: other real pictures ` +
    `have ${number(floor, 1)}, noise ${number(ceiling, 0)}, this generator ${number(fcd, 1)}.`;
}

/** Make the ranks when they come into sight for the first time. */
function showRanksOnce(explorer) {
  const observer = new IntersectionObserver(([{ isIntersecting }]) => {
    if (!isIntersecting) return;
    observer.disconnect();
    showRanks(explorer);
  });
  observer.observe(byId("ranks"));
}

/** The best, middle and worst of many new pictures, by the discriminator's logit. */
async function showRanks({ networks, shape, noise }) {
  const found = [];
  for (let seed = 0; seed < RANKED; seed++) { // one by one: other questions come in between
    const [picture] = await networks.ask("pictures", [drawNoise(noise.length, seed)]), [logit] = await networks.ask("logits", [picture]);
    found.push({ picture, logit });
  }
  found.sort((a, b) => b.logit - a.logit);
  for (const [word, at] of [["Good", 0], ["Typical", (RANKED - EACH) / 2], ["Bad", RANKED - EACH]]) {
    const part = found.slice(at, at + EACH), [high, low] = [part[0], part.at(-1)].map(({ logit }) => percent(probability(logit)));
    const canvases = part.map(({ picture }) => {
      const canvas = element("canvas");
      drawPicture(canvas, picture, shape);
      return canvas;
    });
    byId("ranks").append(element("h3", {}, `${word}: real with a probability of ${low === high ? low : `${low} to ${high}`}`), element("div", { class: "rank" }, ...canvases));
  }
}
