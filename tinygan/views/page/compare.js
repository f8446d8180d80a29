// Puts several runs side by side, from what tinygan/views/webpage.py left in the page.
"use strict";

const { runs, differ, same_noise: sameNoise } = JSON.parse(byId("contents").textContent);
const colorOf = (i) => `hsl(${Math.round((i * 360) / runs.length)} 65% 55%)`;

byId("same-noise").textContent = sameNoise ? "The generators' pictures of the same sixteen vectors of noise."
  : "The generators take noise of different lengths, so these pictures are not of the same noise.";
for (const { name, pictures, stats } of runs) {
  const last = stats.at(-1), words = last ? `epoch ${number(last.epoch)}. ${advice(last)}` : "no epoch is complete yet.";
  const image = element("img", { src: pictures, alt: `16 pictures by the generator of ${name}`, style: "width: 100%; image-rendering: pixelated" });
  byId("pictures").append(element("figure", {}, image, element("figcaption", {}, `${name}: ${words}`)));
}
const text = (value) => (value === null ? "–" : String(value));
byId("settings").append(table("Settings that are not the same in all runs",
  [["run", "whole"], ...differ.map((name) => [name.replaceAll("_", " "), "text"])],
  runs.map((run) => [run.name, ...differ.map((name) => text(run.settings[name]))])));

/** The charts: one line a run, over the epochs. */
const lines = (points) => runs.map((run, i) => ({ name: run.name, color: colorOf(i), ...points(run) })).filter(({ x }) => x.length);
const bySteps = (i) => lines(({ curves, steps_per_epoch: steps }) => ({ x: curves.step.map((step) => step / steps), y: curves.mean[i] }));
const evaluated = lines(({ stats }) => {
  const rows = stats.filter((row) => row.evaluation.fcd !== undefined);
  return { x: rows.map((row) => row.epoch), y: rows.map((row) => row.evaluation.fcd) };
});
const charts = [["Distance from real images (FCD, smaller is better)", evaluated], ["Loss of G", bySteps(0)], ["Loss of D", bySteps(1)],
  ["D(x), of real images", bySteps(2)], ["D(G(z)), of fakes", bySteps(3)]].filter(([, drawn]) => drawn.length);
const lastEpoch = Math.max(1, ...charts.flatMap(([, drawn]) => drawn.map(({ x }) => x.at(-1))));
for (const [title, drawn] of charts) {
  const chart = new Chart({ title, lines: drawn, lastEpoch });
  byId("charts").append(chart.figure);
  chart.show({ reach: Math.ceil(drawn[0].x.length / 50) });
}
