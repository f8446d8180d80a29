// How good the generator is: its distance on a scale, and the pictures that the discriminator ranks best and worst.

/** A scale from real pictures to noise, with a mark for this run: its last measured FCD. */
function showScale(stats) {
  const { fcd, floor, ceiling, samples } = stats.findLast((row) => row.evaluation.fcd !== undefined)?.evaluation ?? {};
  byId("scale").hidden = byId("scale-words").hidden = ceiling === undefined;
  byId("no-scale").hidden = ceiling !== undefined;
  for (const [name, value, color] of [["real pictures", floor, "real"], ["this run", fcd, "fake"], ["noise", ceiling, "noise"]]) {
    const place = `left: ${(100 * Math.min(1, value / ceiling)).toFixed(1)}%`;
    byId("scale").append(element("li", { class: color, style: place }, element("b", {}, number(value, 1)), ` ${name}`));
  }
  byId("scale-words").textContent = `How far ${number(samples)} fakes are from real pictures in the features that a classifier sees (FCD): ` +
    `other real pictures have ${number(floor, 1)}, noise ${number(ceiling, 0)}, this generator ${number(fcd, 1)}.`;
}

/** Show rows of pictures as the discriminator ranks them, each above its nearest training image; returns these images. */
async function showRanks({ ranked, config: { data: { shape } } }) {
  byId("ranks").hidden = !ranked; // not measured yet
  if (!ranked) return [];
  const { of, sprite, probabilities, nearest } = ranked, tiles = await tilesOf(sprite, shape), count = tiles.length / 3;
  const near = nearest ? await tilesOf(nearest.sprite, shape) : [];
  ["Good", "Typical", "Bad"].forEach((word, n) => {
    const part = (list) => list.slice(n * count, (n + 1) * count), [low, high] = [Math.min, Math.max].map((most) => percent(most(...part(probabilities))));
    const row = (canvases, label) => element("div", { class: "rank", role: "img", "aria-label": label }, ...canvases);
    byId("ranks").append(element("h3", {}, `${word}: real with a probability of ${low === high ? low : `${low} to ${high}`}`),
      row(part(tiles), `${count} pictures by the generator`), ...(nearest ? [row(part(near), "The training image nearest to each")] : []));
  });
  byId("ranks-words").textContent = `The discriminator ranked ${number(of)} new pictures. Here are the ${count} that it finds most real, ${count} from the middle, and the ${count} that it finds least real.` +
    (!nearest ? "" : ` Below each is the nearest of ${number(nearest.among)} training images. On average the two differ by ${whole(nearest.mean)} of 255 (root mean square over the pixels); ` +
    `a training image and the one nearest to it, by ${whole(nearest.usual)}. ${nearest.memorised ? "So the generator may have memorised training images." : "So the generator has not just memorised them."}`);
  return near;
}
