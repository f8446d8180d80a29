// Shows several runs side by side, from the JSON that tinygan/views/comparison.py put in the page.

const RUN = JSON.parse(byId("contents").textContent), { runs, differ } = RUN;

byId("same-noise").textContent = RUN.same_noise ? "The generators made these pictures from the same sixteen vectors of noise."
  : "The generators take noise of different lengths, so these pictures come from different noise.";
runs.forEach(({ name, pictures, stats }, i) => {
  const words = stats.length ? `epoch ${number(stats.at(-1).epoch)}. ${advice(stats.at(-1))}` : "no epoch is complete yet.";
  const image = element("img", { src: pictures, alt: `16 pictures by the generator of ${name}` });
  byId("pictures").append(element("figure", {}, image, element("figcaption", {}, element("b", { style: `color: var(--run-${i})` }, name), `: ${words}`)));
  const hue = (25 + 137.5 * i) % 360; // neighbouring runs get different hues
  document.documentElement.style.setProperty(`--run-${i}`, `light-dark(hsl(${hue} 80% 28%), hsl(${hue} 80% 72%))`);
});
byId("numbers").append(table(differ.length ? "The settings that differ between the runs, and the results" : "All settings are the same",
  [["run", "whole"], ...differ.map((name) => [name.replaceAll("_", " "), "text"]), ["steps", "number"], ["time", "number"], ["FCD", "number"]],
  runs.map(({ name, settings, stats, step }) => [name, ...differ.map((setting) => String(settings[setting] ?? "–")), number(step),
    duration(stats.reduce((sum, row) => sum + (row.seconds ?? 0), 0)), number(stats.findLast((row) => row.evaluation.fcd !== undefined)?.evaluation.fcd, 1)])));
byId("no-fcd").hidden = RUN.charts.fcd_by_step.x.length > 0;
for (const figure of document.querySelectorAll(".chart")) {
  const { x, lines } = RUN.charts[figure.dataset.of];
  figure.hidden = x.length === 0;
  const key = runs.flatMap(({ name }, i) => (lines[i].some((y) => y !== null) ? [element("li", { class: `run-${i}`, "data-line": i, style: `color: var(--run-${i})` }, name)] : []));
  figure.querySelector(".key").append(...key);
  if (x.length) new Chart(figure, x, (i) => ({ y: lines[i] }), x.at(-1), Math.floor(x.length * SMOOTHED));
}
