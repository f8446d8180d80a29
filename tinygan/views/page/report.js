// Puts the page together from what tinygan/views/webpage.py left in it.
"use strict";

const RUN = JSON.parse(byId("contents").textContent);
const { config, stats } = RUN;

byId("name").textContent = RUN.name;
showVerdict();
showFacts();
showNetworks();
showDetails();
const markEpoch = drawCharts(RUN, byId("charts"));
new Player(RUN, markEpoch);
byId("explorer-model").textContent = modelText();
let explorer = null;
if (RUN.edits) {
  const text = `${RUN.edits}, and this page knows only the original layers: python -m tinygan.sample shows yours.`;
  byId("explorer").replaceChildren(byId("explorer-title"), element("p", {}, text));
} else { // The weights take a moment: everything else is on the screen by then.
  setTimeout(() => (explorer = new Explorer(RUN)));
}

function showVerdict() {
  const last = stats.at(-1);
  if (!last) byId("verdict").textContent = "No epoch is complete yet.";
  if (!last?.verdict) return;
  byId("verdict").textContent = `Epoch ${last.epoch}. ${advice(last)}`;
  byId("verdict").classList.add(last.advice ? "bad" : last.verdict.startsWith("healthy") ? "good" : "early"); // no colour
}

function showFacts() {
  const seconds = stats.reduce((sum, row) => sum + (row.seconds ?? 0), 0);
  const speeds = stats.map((row) => row.images_per_second ?? 0).sort((a, b) => a - b);
  const [images, height, width, channels] = config.data.shape;
  const epochs = stats.at(-1)?.epoch ?? 0, steps = Math.max(RUN.step, stats.at(-1)?.step ?? 0);
  const facts = {
    "data set": `${config.data.name ?? ""}, ${number(images)} images of ${height} × ${width} × ${channels}`,
    "trained": `${number(epochs)} of ${number(config.settings.epochs)} epochs, ${number(steps)} steps`,
    "time": seconds ? `${duration(seconds)}, ${number(speeds[Math.floor(speeds.length / 2)], 0)} images/s` : "–",
    "device": [config.device.card ?? config.device.processor, `engine ${config.device.engine}`].filter(Boolean).join(", "),
    "settings": `recipe ${config.settings.recipe}, batch ${config.settings.batch_size}, seed ${config.settings.seed}`,
  };
  for (const [name, text] of Object.entries(facts)) {
    byId("facts").append(element("div", {}, element("dt", {}, name), element("dd", {}, text)));
  }
  if (steps < Math.min(config.settings.epochs * RUN.steps_per_epoch, config.settings.steps ?? Infinity)) {
    byId("unfinished").append("Not finished when this page was written. A run that was stopped goes on with ", element("code", {}, RUN.resume));
    byId("unfinished").hidden = false;
  }
}

function modelText() {
  const { step } = RUN, epoch = step / RUN.steps_per_epoch;
  if (step === 0 && !config.settings.start_from) return "They are still untrained: all that the generator can make is noise.";
  const average = config.settings.average ? " The generator's, here and in the samples, are averages over " +
    "the last steps (--average); curves and verdicts are those of the weights that are trained." : "";
  return `Their weights are those after ${number(epoch, 2)} ${epoch === 1 ? "epoch" : "epochs"}, rounded to four digits.${average}`;
}

function showNetworks() {
  for (const { name, input, rows } of RUN.networks) {
    const gathers = rows.at(-1)[3] > 0; // the discriminator has no batch normalisation
    const lines = rows.map(([layer, shape, trained, gathered]) => [
      layer.replaceAll("_", " "), shape.map((size) => number(size)).join(" × "), number(trained),
      ...(gathers ? [gathered ? number(gathered) : ""] : []),
    ]);
    const from = `${input.map((side) => number(side)).join(" × ")} ${input.length === 1 ? "numbers of noise" : "pixels"}`;
    const columns = [["layer", "whole"], ["output", "whole"], ["trained numbers", "number"], ...(gathers ? [["running values", "number"]] : [])];
    byId("tables").append(table(`${name}, from ${from}`, columns, lines));
  }
}

function showDetails() {
  const columns = ["epoch", "loss G", "loss D", "D(x)", "D(G(z))", "images/s", "time"].map((title) => [title, "number"]);
  byId("epochs").append(table("Means of every epoch", [...columns, ["verdict", "text"]], stats.map((row) => [
    number(row.epoch), fixed(row.g_loss), fixed(row.d_loss), fixed(row.real_score, 2), fixed(row.fake_score, 2),
    number(row.images_per_second, 0), duration(row.seconds ?? 0), row.verdict ?? "",
  ])));
  byId("settings").append(listing("Settings", config.settings));
  byId("versions").append(listing("Data", config.data), listing("Device", config.device), listing("Versions", config.versions));
  for (const { time, command } of config.commands) {
    byId("commands").append(element("p", {}, element("code", {}, command), ` (${time})`));
  }
  for (const { step, setting, from, to } of config.changes) {
    byId("commands").append(element("p", {}, `After step ${number(step)}: ${setting} ${from} changed to ${to}`));
  }
}
