// Builds the page from the JSON that tinygan/views/webpage.py put in it.

const RUN = JSON.parse(byId("contents").textContent);
const { config, stats } = RUN, lastRow = stats.at(-1); // none until the first epoch is complete
const allSteps = Math.max(RUN.step, lastRow?.step ?? 0), allSeconds = stats.reduce((sum, row) => sum + (row.seconds ?? 0), 0);

byId("name").textContent = RUN.name;
byId("title").textContent = `Pictures by a neural network trained on ${config.data.name ?? "pictures"}`;
showFacts();
showStory();
showDetails();
RUN.limits.floor = stats.findLast((row) => row.evaluation.floor)?.evaluation.floor;
const markEpoch = drawCharts(RUN);
showScale(stats);
byId("explorer-model").textContent = modelText();
const grid = addGrid(RUN.noise.length);
const explorer = RUN.edits ? withoutNetworks() : new Explorer(RUN, new Networks(RUN), grid);
new Player(RUN, (epoch, tiles, text, last) => {
  markEpoch(epoch);
  if (!byId("game-fake").hasAttribute("href")) byId("game-fake").setAttribute("href", tiles[0].toDataURL());
  if (explorer) explorer.showEpoch(tiles, text, last);
  else tiles.forEach((tile, i) => copyCanvas(tile, grid[i]));
});
byId("real").hidden = !RUN.reals;
const unseen = showRanks(RUN);
(RUN.reals ? tilesOf(RUN.reals, config.data.shape) : Promise.resolve([])).catch(() => []).then(async (reals) => {
  if (reals.length) {
    drawGrid(byId("real-grid"), reals, Math.ceil(Math.sqrt(reals.length)), 300);
    byId("game-real").setAttribute("href", reals[0].toDataURL());
  }
  if (!explorer) return;
  new LayersView(RUN, explorer);
  new Finder(explorer, reals);
  addSaving(explorer, RUN.name);
  new Quiz(explorer, await unseen.then((others) => (others.length ? others : reals))); // preferably images that are not shown further up
});

/** The cells of the picture grid: canvases in buttons. */
function addGrid(count) {
  return Array.from({ length: count }, (_, i) => {
    const canvas = element("canvas");
    byId("grid").append(element("button", { type: "button", "aria-label": `Picture ${i + 1}` }, canvas));
    return canvas;
  });
}

/** A reader changed layers, and the page can only run the original ones: say so instead of the explorer. */
function withoutNetworks() {
  for (const part of document.querySelectorAll(".live, .walk, .handles, #choose, #find, #quiz, #layers-section")) part.hidden = true;
  for (const button of byId("grid").children) button.disabled = true;
  byId("explorer-model").textContent = `${RUN.edits}, and this page can run only the original layers. Use python -m tinygan.sample to see pictures of yours.`;
  return null;
}

/** Three sentences (how long, how the pictures changed, how the game is going), then the verdict of the last epoch. */
function showStory() {
  if (!lastRow) return (byId("story").textContent = "No epoch is complete yet.");
  const evaluated = stats.filter((row) => row.evaluation.fcd !== undefined), { real_accuracy: real, fake_accuracy: fake } = lastRow.health;
  const sentences = [`In ${plural(lastRow.epoch, "epoch")} and ${duration(allSeconds)}, the networks took ` +
    `${plural(allSteps, "step")} with ${plural(config.settings.batch_size, "real picture")} and as many fakes each.`];
  if (evaluated.length > 1) {
    const [from, to] = [evaluated[0], evaluated.at(-1)];
    sentences.push(`The distance between fakes and real pictures went from ${number(from.evaluation.fcd, 0)} after epoch ${from.epoch} to ${number(to.evaluation.fcd, 0)}.`);
  }
  if (real !== undefined && fake !== undefined) {
    sentences.push(`At the end, the discriminator recognised ${percent(real)} of real pictures and ${percent(fake)} of fakes; guessing gets half of each.`);
  }
  byId("story").textContent = sentences.join(" ");
  if (!lastRow.verdict) return;
  byId("verdict").textContent = `Epoch ${lastRow.epoch}. ${advice(lastRow)}`;
  byId("verdict").classList.add(lastRow.advice ? "bad" : lastRow.verdict.startsWith("healthy") ? "good" : "early"); // "early" has no colour
}

function showFacts() {
  const speeds = stats.map((row) => row.images_per_second ?? 0).sort((a, b) => a - b);
  const [images, height, width, channels] = config.data.shape;
  const facts = {
    "data set": `${config.data.name ?? ""}, ${plural(images, "image")} of ${height} × ${width} × ${channels}`,
    "trained": `${number(lastRow?.epoch ?? 0)} of ${plural(config.settings.epochs, "epoch")}, ${plural(allSteps, "step")}`,
    "time": allSeconds ? `${duration(allSeconds)}, ${number(speeds[Math.floor(speeds.length / 2)], 0)} images/s` : "–",
    "device": [config.device.card ?? config.device.processor, `engine ${config.device.engine}`].filter(Boolean).join(", "),
    "settings": `recipe ${config.settings.recipe}, batch ${config.settings.batch_size}, penalty ${config.settings.penalty ?? 0}, dropout ${config.settings.dropout ?? 0.3}, seed ${config.settings.seed}`,
  };
  for (const [name, text] of Object.entries(facts)) {
    byId("facts").append(element("div", {}, element("dt", {}, name), element("dd", {}, text)));
  }
  if (allSteps < Math.min(config.settings.epochs * RUN.steps_per_epoch, config.settings.steps ?? Infinity)) {
    byId("unfinished").append("This run was not finished when the page was written. If it was stopped, resume it with ", element("code", {}, RUN.resume));
    byId("unfinished").hidden = false;
  }
}

function modelText() {
  const { step } = RUN, epoch = step / RUN.steps_per_epoch;
  const here = "The networks run in this page.";
  if (step === 0 && !config.settings.start_from) return `${here} They are still untrained: the generator can only make noise.`;
  const average = config.settings.average ? " Here and in the samples, the generator's weights are averages over " +
    "the last steps (--average). Curves and verdicts describe the weights that are trained." : "";
  return `${here} Their weights are those after ${plural(epoch, "epoch", 2)}, rounded to four digits.${average}`;
}

function showDetails() {
  const columns = ["epoch", "loss of G", "loss of D", "D on real images", "D on fakes", "images/s", "time"].map((title) => [title, "number"]);
  byId("epochs").append(table("Means of every epoch: the losses, and how likely D thinks it is that an image is real", [...columns, ["verdict", "text"]], stats.map((row) => [
    number(row.epoch), fixed(row.g_loss), fixed(row.d_loss), percent(row.real_score), percent(row.fake_score),
    number(row.images_per_second, 0), duration(row.seconds ?? 0), row.verdict ?? "",
  ])));
  byId("settings").append(listing("Settings", config.settings));
  byId("versions").append(listing("Data", config.data), listing("Device", config.device), listing("Versions", config.versions));
  for (const { time, command } of config.commands) {
    byId("commands").append(element("p", {}, element("code", {}, command), ` (${time})`));
  }
  for (const { step, setting, from, to } of config.changes) {
    byId("commands").append(element("p", {}, `After step ${number(step)}: ${setting} changed from ${from} to ${to}`));
  }
}
