// Line charts in SVG: a band or a thin line for what was measured, a thick one for its moving average.
"use strict";

const SMOOTHED = 0.02; // of a run, on either side of a point: what the mean is over
const MARGIN = { top: 10, right: 12, bottom: 36, left: 46 };

/** About `count` round numbers from 0 to `high`. */
function ticks(high, count) {
  const power = 10 ** Math.floor(Math.log10(high / count));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= high / count);
  return Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

/** The mean of each number and those before and after it, up to `reach` away; null stays null. */
function smooth(values, reach) {
  const sums = [0], counts = [0]; // up to each place, so that every window costs the same
  values.forEach((value, i) => sums.push(sums[i] + (value ?? 0)));
  values.forEach((value, i) => counts.push(counts[i] + (value === null ? 0 : 1)));
  return values.map((value, i) => {
    const near = Math.min(reach, i, values.length - 1 - i); // the window shrinks at both ends
    const count = counts[i + near + 1] - counts[i - near];
    return value === null ? null : (sums[i + near + 1] - sums[i - near]) / count;
  });
}

class Chart {
  /** @param title a few words
   * @param lines [{name, color, x, y, low, high}]: x grows; y may hold nulls; low and high, if any, the range of what y is the mean of
   * @param guesses [{value, text}]: dashed lines across, whose words stand in the key
   * @param help what the numbers mean, for a reader who meets them for the first time
   * @param top the largest number to show, or undefined: as large as needed
   * @param write how a number is written */
  constructor({ title, help, lines, guesses = [], top, write = fixed, lastEpoch }) {
    Object.assign(this, { lines, guesses, top, write, lastEpoch, reach: 0, marked: null, at: null });
    // To a screen reader it is a slider through the points, whose value is what the lines are there.
    const last = lines[0].x.length - 1;
    this.svg = svg("svg", { tabindex: "0", role: "slider", "aria-label": title, "aria-valuemin": 0, "aria-valuemax": last });
    this.key = element("ul", { class: "key" });
    this.figure = element("figure", { class: "chart" }, element("h3", {}, title),
      element("details", { class: "help" }, element("summary", { "aria-label": `What does “${title}” mean?` }, "?"), element("p", {}, help)), this.svg, this.key);
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.svg.onpointermove = this.svg.onpointerdown = ({ clientX }) => {
      const pixel = clientX - this.svg.getBoundingClientRect().left;
      const away = lines[0].x.map((epoch) => Math.abs(this.X(epoch) - pixel));
      this.show({ at: away.indexOf(Math.min(...away)) });
    };
    this.svg.onpointerleave = ({ pointerType }) => pointerType === "mouse" && this.show({ at: null });
    this.svg.onblur = () => this.show({ at: null });
    this.svg.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -25, PageUp: 25, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.show({ at: Math.min(last, Math.max(0, (this.at ?? (step < 0 ? last + 1 : -1)) + step)) });
    };
  }

  /** Draw again with another `reach` (the mean is over so many points on either side), `marked` (an epoch) or
   * `at` (the point whose numbers the key shows, or null). */
  show(changes) {
    Object.assign(this, changes);
    this.draw();
  }

  draw() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width) return; // not on the screen yet
    const { left } = MARGIN, right = width - MARGIN.right, bottom = height - MARGIN.bottom;
    const smoothed = this.lines.map((line) => smooth(line.y, this.reach));
    const top = this.top ?? this.highest(smoothed);
    const X = (this.X = (epoch) => left + (epoch / this.lastEpoch) * (right - left));
    // Few numbers lie above the top, on purpose: see highest.
    const Y = (value) => bottom - (Math.min(top, Math.max(0, value)) / top) * (bottom - MARGIN.top);
    const across = (at, kind) => svg("line", { class: kind, x1: left, x2: right, y1: Y(at), y2: Y(at) });
    const down = (at, kind) => svg("line", { class: kind, x1: X(at), x2: X(at), y1: MARGIN.top, y2: bottom });
    const label = (x, y, end, text) => svg("text", { x, y, "text-anchor": end }, text);
    const writeTick = this.write === fixed ? number : this.write;
    const parts = [
      ...ticks(top, 4).flatMap((value) => [across(value, "grid"), label(left - 6, Y(value) + 4, "end", writeTick(value))]),
      ...ticks(this.lastEpoch, Math.max(2, width / 90)).map((epoch) => label(X(epoch), bottom + 16, "middle", number(epoch, 4))),
      label((left + right) / 2, height - 1, "middle", "epoch"),
      ...this.guesses.map(({ value }) => across(value, "guess")),
    ];
    if (this.marked !== null) parts.push(down(this.marked, "marker"));
    this.lines.forEach((line, n) => {
      const { x, y, high, color } = line;
      if (high) parts.push(svg("path", { class: "raw", fill: color, d: band(line, X, Y) }));
      else if (this.reach) parts.push(svg("path", { class: "thin", stroke: color, d: path(x, y, X, Y) }));
      parts.push(svg("path", { class: "line", stroke: color, d: path(x, smoothed[n], X, Y) }));
      const alone = x.length === 1 && y[0] !== null;
      if (alone) parts.push(svg("circle", { cx: X(x[0]), cy: Y(y[0]), r: 4, fill: color }));
    });
    if (this.at !== null) parts.push(down(this.lines[0].x[this.at], "cursor"));
    this.svg.replaceChildren(...parts);
    const texts = this.lines.map((line, n) => (this.at === null ? line.name : `${line.name} ${this.write(smoothed[n][this.at])}`));
    const where = this.at === null ? "" : `${this.reach ? "mean around" : "at"} epoch ${number(this.lines[0].x[this.at], 2)}`;
    this.key.replaceChildren(...texts.map((text, n) => element("li", { style: `color: ${this.lines[n].color}` }, text)));
    for (const { value, text } of this.guesses) this.key.append(element("li", { class: "dashed" }, `${text}: ${writeTick(value)}`));
    if (where) this.key.append(element("li", { class: "where" }, where));
    this.svg.setAttribute("aria-valuenow", this.at ?? 0);
    this.svg.setAttribute("aria-valuetext", where ? `${where}: ${texts.join(", ")}` : "no point chosen");
  }

  /** The top of the chart: all of the thick lines, and nearly all of what was measured. */
  highest(smoothed) {
    const thick = Math.max(0.1, ...smoothed.flat().filter((value) => value !== null), ...this.guesses.map((guess) => guess.value));
    const raw = this.lines.flatMap((line) => (line.high ?? line.y).filter((value) => value !== null)).sort((a, b) => a - b);
    return 1.05 * Math.max(thick, raw[Math.floor(raw.length * 0.99)] ?? 0);
  }
}

/** The d of a path through the points; a null ends one stroke and the next begins another. */
function path(x, y, X, Y) {
  const pen = (i) => (i === 0 || y[i - 1] === null ? "M" : "L");
  const place = (value, i) => `${pen(i)}${X(x[i]).toFixed(1)} ${Y(value).toFixed(1)}`;
  return y.map((value, i) => (value === null ? "" : place(value, i))).join("");
}

/** The d of the area between a line's low and high, whose nulls are at the same places: each stroke there and back. */
function band({ x, low, high }, X, Y) {
  const strokes = (x, y) => path(x, y, X, Y).split("M").slice(1);
  const back = strokes([...x].reverse(), [...low].reverse()).reverse();
  return strokes(x, high).map((there, i) => `M${there}L${back[i]}Z`).join("");
}

const COLOR = { fake: "var(--fake)", real: "var(--real)", third: "var(--third)" };

/** The charts of the losses and scores, with a point for one step or several. */
function stepCharts({ curves, steps_per_epoch: stepsPerEpoch, limits }) {
  const x = curves.step.map((step) => step / stepsPerEpoch);
  const ranges = curves.every > 1 ? curves : { low: [], high: [] }; // of the steps that one point stands for
  const line = (name, color, i) => ({ name, color, x, y: curves.mean[i], low: ranges.low[i], high: ranges.high[i] });
  return [
    { title: "Losses", lines: [line("generator", COLOR.fake, 0), line("discriminator", COLOR.real, 1)],
      help: "What each network tries to make small. They play against each other, so neither loss need fall: level curves are a good sign.",
      guesses: [{ value: Math.LN2, text: "generator, if the other can only guess" }, { value: 2 * Math.LN2, text: "discriminator, if it can only guess" },
        { value: limits.certain, text: "below this the discriminator wins" }] },
    { title: "How real the discriminator finds them", top: 1, write: percent, guesses: [{ value: 0.5, text: "guessing" }],
      help: "The probability of being real that it gives real images, D(x), and fakes, D(G(z)), in training. Good are a D(x) above D(G(z)) and both not far from one half.",
      lines: [line("real images", COLOR.real, 2), line("fakes", COLOR.fake, 3)] },
  ];
}

const MEASURED = "Measured after each epoch on up to 256 real images and as many fakes, without dropout.";

/** A line over the epochs of `rows` of the statistics. */
const epochLine = (rows) => (name, color, key) => ({ name, color, x: rows.map((row) => row.epoch), y: rows.map((row) => row[key] ?? null) });

/** The charts of what --metrics-every measured. */
function evaluatedCharts({ stats }) {
  const rows = stats.filter((row) => row.evaluation.fcd !== undefined).map(({ epoch, evaluation }) => ({ epoch, ...evaluation }));
  const { floor, samples } = rows.at(-1) ?? {}, line = epochLine(rows); // runs made before the floor was kept have none
  const error = (sign) => rows.map((row) => row.fcd + sign * (row.error ?? 0));
  return [
    { title: "Distance from real images (FCD)",
      help: `How far the statistics of ${samples ? number(samples) : "many"} fakes are from those of real images, as a classifier sees them. Smaller is better.`,
      lines: [{ ...line("FCD", COLOR.fake, "fcd"), low: error(-1), high: error(1) }],
      guesses: floor === undefined ? [] : [{ value: floor, text: "other real images" }] },
    { title: "How good, and of all kinds?", top: 1, write: percent,
      help: "Precision: the share of fakes that lie among real images. Recall and coverage: the share of real images that have fakes like them.",
      lines: [line("precision", COLOR.fake, "precision"), line("recall", COLOR.third, "recall"), line("coverage", COLOR.real, "coverage")] },
  ];
}

/** The charts of what was measured at the end of all epochs. */
function epochCharts({ stats, limits }) {
  const line = epochLine(stats.map((row) => ({ ...row, ...row.health })));
  return [
    { title: "How often the discriminator is right", top: 1, write: percent, guesses: [{ value: 0.5, text: "guessing" }], help: MEASURED,
      lines: [line("of real images", COLOR.real, "real_accuracy"), line("of fakes", COLOR.fake, "fake_accuracy")] },
    { title: "How different the fakes are", write: percent,
      help: `Distances between pictures, those between real ones being 100 %. Where fakes look alike, the generator has collapsed. ${MEASURED}`,
      guesses: [{ value: 1, text: "as real images" }, { value: limits.collapsed, text: "any two below this: mode collapse?" }, { value: limits.repeated, text: "nearest below this: mode collapse?" }],
      lines: [line("any two", COLOR.fake, "diversity"), line("the nearest two", COLOR.third, "nearest")] },
    { title: "How much the discriminator's answers spread", help: `The standard deviation of its probabilities: 0 if it says the same of every picture. ${MEASURED}`,
      lines: [line("of real images", COLOR.real, "real_spread"), line("of fakes", COLOR.fake, "fake_spread")] },
    { title: "Dead channels", write: percent, guesses: [{ value: limits.dead, text: "too many above this" }],
      help: `The share of LeakyReLU channels, in both networks, that no picture makes positive. ${MEASURED}`,
      lines: [line("never positive", COLOR.third, "dead")] },
    { title: "Speed", write: (value) => number(value, 0), help: "Images that a second of training takes in, real ones.",
      lines: [line("images a second", COLOR.third, "images_per_second")] },
  ];
}

/** All charts of a run; returns what moves their marker. */
function drawCharts(run) {
  const { curves, stats } = run;
  const lastEpoch = Math.max(...curves.step.slice(-1).map((step) => step / run.steps_per_epoch), ...stats.slice(-1).map((row) => row.epoch), 0) || 1;
  const measured = ({ lines }) => lines[0].x.length > 0;
  const made = (charts) => charts.filter(measured).map((chart) => new Chart({ ...chart, lastEpoch }));
  const smoothed = made(stepCharts(run)), evaluated = made(evaluatedCharts(run)), more = made(epochCharts(run));
  const charts = [...smoothed, ...evaluated, ...more];
  for (const [id, some] of [["charts", smoothed], ["good-charts", evaluated], ["more", more]]) byId(id).append(...some.map(({ figure }) => figure));
  if (!smoothed.length) byId("charts").append("Nothing was measured yet.");
  for (const chart of smoothed) chart.show({ reach: Math.floor(curves.step.length * SMOOTHED) });
  return (marked) => charts.forEach((chart) => chart.show({ marked }));
}
