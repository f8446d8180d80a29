// Line charts in SVG: a band or a thin line for the measurements, a thick line for their moving mean. page.html says
// what a chart shows: its key names the lines (data-line) and the limits (data-limit).

const SMOOTHED = 0.02; // the fraction of a run on either side of a point that its mean covers
const MARGIN = { top: 10, right: 12, bottom: 36, left: 46 };

/** About `count` round numbers from 0 to `high`. */
function ticks(high, count) {
  const power = 10 ** Math.floor(Math.log10(high / count));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= high / count);
  return Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

/** The moving mean over up to `reach` numbers on either side; null stays null. */
function smooth(values, reach) {
  return values.map((value, i) => {
    const near = Math.min(reach, i, values.length - 1 - i); // the window shrinks at both ends
    const part = values.slice(i - near, i + near + 1).filter((one) => one !== null);
    return value === null ? null : part.reduce((sum, one) => sum + one, 0) / part.length;
  });
}

class Chart {
  /** @param figure a figure of page.html
   * @param x ascending, up to `last`, in epochs or the unit in data-axis
   * @param column a function: the name of a line -> {y, low, high}; y can hold nulls; low and high, if any, are the range behind a mean y
   * @param reach the thick lines are means over this many points on either side */
  constructor(figure, x, column, last, reach) {
    const { top, write, axis = "epoch" } = figure.dataset, key = [...figure.querySelectorAll(".key li")];
    Object.assign(this, { x, axis, last, reach, marked: null, at: null, top: Number(top), write: { percent, whole }[write] ?? fixed });
    this.lines = key.filter(({ dataset }) => dataset.line).map((item) => (
      { item, name: item.textContent, color: `var(--${item.className})`, ...column(item.dataset.line) }));
    this.limits = key.filter(({ dataset }) => dataset.limit).map((item) => {
      const value = Number(RUN.limits[item.dataset.limit] ?? item.dataset.limit);
      item.append(`: ${write === "percent" ? percent(value) : number(value)}`);
      item.hidden = Number.isNaN(value); // not measured
      return value;
    }).filter((value) => !Number.isNaN(value));
    this.smoothed = this.lines.map((line) => smooth(line.y, reach));
    this.where = element("li", { class: "where" });
    figure.querySelector(".key").append(this.where);
    // To a screen reader, a chart is a slider over its points, whose value is that of the lines there.
    const about = { tabindex: 0, role: "slider", "aria-label": figure.querySelector("h3").textContent, "aria-valuemin": 0, "aria-valuemax": x.length - 1 };
    this.svg = svg("svg", about);
    figure.querySelector(".key").before(this.svg);
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.svg.onpointermove = this.svg.onpointerdown = ({ clientX }) => {
      const pixel = clientX - this.svg.getBoundingClientRect().left, away = x.map((epoch) => Math.abs(this.X(epoch) - pixel));
      this.show({ at: away.indexOf(Math.min(...away)) });
    };
    this.svg.onpointerleave = ({ pointerType }) => pointerType === "mouse" && this.show({ at: null });
    this.svg.onblur = () => this.show({ at: null });
    this.svg.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -25, PageUp: 25, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.show({ at: Math.min(x.length - 1, Math.max(0, (this.at ?? (step < 0 ? x.length : -1)) + step)) });
    };
  }

  /** Redraw with a new `marked` (an epoch) or `at` (the point whose numbers the key shows, or null). */
  show(changes) {
    Object.assign(this, changes);
    this.draw();
  }

  draw() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width) return; // not laid out yet
    const { left } = MARGIN, right = width - MARGIN.right, bottom = height - MARGIN.bottom;
    const top = this.top || 1.05 * Math.max(0.1, ...this.smoothed.flat(), ...this.limits);
    const X = (this.X = (place) => left + (place / this.last) * (right - left));
    const Y = (value) => bottom - (Math.min(top, Math.max(0, value)) / top) * (bottom - MARGIN.top); // single steps can exceed the top
    const across = (at, kind) => svg("line", { class: kind, x1: left, x2: right, y1: Y(at), y2: Y(at) });
    const down = (at, kind) => svg("line", { class: kind, x1: X(at), x2: X(at), y1: MARGIN.top, y2: bottom });
    const label = (x, y, end, text) => svg("text", { x, y, "text-anchor": end }, text);
    const writeTick = this.write === fixed ? number : this.write;
    const parts = [
      ...ticks(top, 4).flatMap((value) => [across(value, "grid"), label(left - 6, Y(value) + 4, "end", writeTick(value))]),
      ...ticks(this.last, Math.max(2, width / 90)).map((place) => label(X(place), bottom + 16, "middle", number(place, 4))),
      label((left + right) / 2, height - 1, "middle", this.axis),
      ...this.limits.map((value) => across(value, "limit")),
    ];
    if (this.marked !== null) parts.push(down(this.marked, "marker"));
    this.lines.forEach(({ y, low, high, color }, n) => {
      if (high) parts.push(svg("path", { class: "raw", fill: color, d: band({ x: this.x, low, high }, X, Y) }));
      else if (this.reach) parts.push(svg("path", { class: "thin", stroke: color, d: path(this.x, y, X, Y) }));
      parts.push(svg("path", { class: "line", stroke: color, d: path(this.x, this.smoothed[n], X, Y) }));
      const known = y.flatMap((value, i) => (value === null ? [] : [i])); // a single point makes no line
      if (known.length === 1) parts.push(svg("circle", { cx: X(this.x[known[0]]), cy: Y(y[known[0]]), r: 4, fill: color }));
    });
    if (this.at !== null) parts.push(down(this.x[this.at], "cursor"));
    this.svg.replaceChildren(...parts);
    const texts = this.lines.map(({ name }, n) => (this.at === null ? name : `${name} ${this.write(this.smoothed[n][this.at])}`));
    this.lines.forEach(({ item }, n) => (item.textContent = texts[n]));
    this.where.textContent = this.at === null ? "" : `${this.reach ? "mean around" : "at"} ${this.axis} ${number(this.x[this.at], 2)}`;
    this.svg.setAttribute("aria-valuenow", this.at ?? 0);
    this.svg.setAttribute("aria-valuetext", this.at === null ? "no point chosen" : `${this.where.textContent}: ${texts.join(", ")}`);
  }
}

/** The d attribute of a path through the points; it breaks at nulls. */
function path(x, y, X, Y) {
  const pen = (i) => (i === 0 || y[i - 1] === null ? "M" : "L");
  const place = (value, i) => `${pen(i)}${X(x[i]).toFixed(1)} ${Y(value).toFixed(1)}`;
  return y.map((value, i) => (value === null ? "" : place(value, i))).join("");
}

/** The d attribute of the area between low and high, which have their nulls at the same places: each stroke there and back. */
function band({ x, low, high }, X, Y) {
  const strokes = (x, y) => path(x, y, X, Y).split("M").slice(1);
  const back = strokes([...x].reverse(), [...low].reverse()).reverse();
  return strokes(x, high).map((there, i) => `M${there}L${back[i]}Z`).join("");
}

/** Draw all charts of a run; returns a function that moves their marker. */
function drawCharts({ curves, stats, steps_per_epoch: stepsPerEpoch }) {
  const ranges = curves.every > 1 ? curves : { low: [], high: [] }; // of the steps behind one point
  const ofSteps = curves.mean.map((y, i) => ({ y, low: ranges.low[i], high: ranges.high[i] }));
  const names = ["g_loss", "d_loss", "real_score", "fake_score"], x = curves.step.map((step) => step / stepsPerEpoch);
  const ofRows = (rows) => [rows.map((row) => row.epoch), (name) => {
    const y = rows.map((row) => row[name] ?? null), moved = (sign) => y.map((value, i) => value + sign * (rows[i].error ?? 0));
    return name === "fcd" ? { y, low: moved(-1), high: moved(1) } : { y };
  }, 0];
  const sources = {
    steps: [x, (name) => ofSteps[names.indexOf(name)], Math.floor(x.length * SMOOTHED)],
    epochs: ofRows(stats.map((row) => ({ ...row, ...row.health }))),
    evaluations: ofRows(stats.filter((row) => row.evaluation.fcd !== undefined).map(({ epoch, evaluation }) => ({ epoch, ...evaluation }))),
  };
  const lastEpoch = Math.max(...x.slice(-1), ...stats.slice(-1).map((row) => row.epoch), 0) || 1, charts = [];
  for (const figure of document.querySelectorAll(".chart")) {
    const [epochs, column, reach] = sources[figure.dataset.of];
    figure.hidden = epochs.length === 0;
    if (epochs.length) charts.push(new Chart(figure, epochs, column, lastEpoch, reach));
  }
  byId("more-charts").hidden = stats.length === 0;
  byId("charts-hint").hidden = charts.length === 0;
  return (marked) => charts.forEach((chart) => chart.show({ marked }));
}
