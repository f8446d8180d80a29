// How good the generator is: its distance on a scale, and its best and worst pictures beside what they resemble.
"use strict";

/** A line from real pictures to noise, with a mark for this run: FCD, when it was measured last. */
function drawScale(stats) {
  const { fcd, floor, ceiling, samples } = stats.findLast((row) => row.evaluation.fcd !== undefined)?.evaluation ?? {};
  byId("scale").hidden = byId("scale-words").hidden = ceiling === undefined;
  if (ceiling === undefined) return;
  const at = (value) => `${(100 * Math.min(1, value / ceiling)).toFixed(1)}%`;
  for (const [name, value, color] of [["real pictures", floor, "real"], ["this run", fcd, "fake"], ["noise", ceiling, "third"]]) {
    byId("scale").append(element("li", { class: color, style: `left: ${at(value)}` }, element("b", {}, number(value, 1)), ` ${name}`));
  }
  byId("scale-words").textContent = `The distance of ${number(samples)} fakes from real pictures (FCD), as a classifier sees them: other real pictures ` +
    `have ${number(floor, 1)}, noise ${number(ceiling, 0)}, this generator ${number(fcd, 1)}.`;
}

/** Rows of pictures as the discriminator ranks them, each above the training image nearest to it. */
async function drawRanks({ good, config: { data: { shape } } }) {
  if (!good) return;
  const { of, sprite, probabilities, nearest } = good, tiles = await tilesOf(sprite, shape), count = tiles.length / 3;
  const near = nearest ? await tilesOf(nearest.sprite, shape) : [];
  ["Good", "Typical", "Bad"].forEach((word, n) => {
    const part = (list) => list.slice(n * count, (n + 1) * count), [low, high] = [Math.min, Math.max].map((most) => percent(most(...part(probabilities))));
    const row = (images, label) => element("div", { class: "rank", role: "img", "aria-label": label }, ...images);
    byId("ranks").append(element("h3", {}, `${word}: ${low === high ? low : `${low} to ${high}`} real`), row(part(tiles), `${count} pictures by the generator`),
      ...(nearest ? [row(part(near), "The training image nearest to each")] : []));
  });
  const apart = nearest?.distances.reduce((sum, value) => sum + value, 0) / tiles.length;
  byId("ranks-words").textContent = `Of ${number(of)} new pictures those that the discriminator takes for real with the highest, a middle and the lowest probability.` +
    (!nearest ? "" : ` Below each is the nearest of ${number(nearest.among)} training images: a pixel differs by ${number(apart, 0)} of 255 on average; ` +
    `between training images it is ${number(nearest.usual, 0)}. ${nearest.memorised ? "So close that it may have memorised them." : "So it has not just memorised them."}`);
}
