// Puts several runs side by side, from what tinygan/views/webpage.py left in the page.
"use strict";

const { runs, differ, same_noise: sameNoise } = JSON.parse(byId("contents").textContent);

byId("same-noise").textContent = sameNoise ? "The generators' pictures of the same sixteen vectors of noise."
  : "The generators take noise of different lengths, so these pictures are not of the same noise.";
for (const { name, pictures, stats } of runs) {
  const words = stats.length ? `epoch ${number(stats.at(-1).epoch)}. ${advice(stats.at(-1))}` : "no epoch is complete yet.";
  const image = element("img", { src: pictures, alt: `16 pictures by the generator of ${name}`, style: "width: 100%; image-rendering: pixelated" });
  byId("pictures").append(element("figure", {}, image, element("figcaption", {}, `${name}: ${words}`)));
}
byId("settings").append(table(differ.length ? "Settings that are not the same in all runs" : "All settings are the same",
  [["run", "whole"], ...differ.map((name) => [name.replaceAll("_", " "), "text"])],
  runs.map(({ name, config }) => [name, ...differ.map((setting) => String(config.settings[setting] ?? "–"))])));

/** A chart with a line for each run that has measured it: `points(run)` are its x, in epochs, and y. */
function compare(title, points) {
  const lines = runs.map((run, i) => ({ name: run.name, color: `hsl(${(i * 360) / runs.length} 65% 55%)`, ...points(run) })).filter(({ x }) => x.length);
  if (!lines.length) return;
  const chart = new Chart({ title, lines, lastEpoch: Math.max(1, ...lines.map(({ x }) => x.at(-1))) });
  byId("charts").append(chart.figure);
  chart.show({ reach: Math.ceil(lines[0].x.length / 50) });
}
const measured = (stats) => stats.filter((row) => row.evaluation.fcd !== undefined);
compare("Distance from real images (FCD, smaller is better)", ({ stats }) => (
  { x: measured(stats).map((row) => row.epoch), y: measured(stats).map((row) => row.evaluation.fcd) }));
["Loss of G", "Loss of D", "D(x), of real images", "D(G(z)), of fakes"].forEach((title, i) => compare(title, ({ curves, steps_per_epoch: steps }) => (
  { x: curves.step.map((step) => step / steps), y: curves.mean[i] })));
