// Helpers for all parts of the page: they make elements, format numbers and draw pixels.

const byId = (id) => document.getElementById(id);

/** A function that makes HTML or SVG elements with attributes and children (elements, or text, which is never parsed as HTML). */
const maker = (namespace) => (tag, attributes = {}, ...children) => {
  const made = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const element = maker(document.documentElement.namespaceURI), svg = maker("http://www.w3.org/2000/svg");

// The colours for numbers above and below 0; canvases cannot read the style sheet.
const POSITIVE = [255, 155, 69], NEGATIVE = [74, 157, 255];

/** The number of elements of an array of this shape. */
const size = (shape) => shape.reduce((a, b) => a * b, 1);

/** 12544 -> "12,544"; 0.69315 -> "0.693"; nothing -> "–". */
function number(value, digits = 3) {
  return Number.isFinite(value) ? value.toLocaleString("en", { maximumFractionDigits: digits }) : "–";
}

/** The same with trailing zeros, so that numbers in a column are easy to compare: 0.5 -> "0.500". */
const fixed = (value, digits = 3) => (typeof value === "number" ? value.toFixed(digits) : "–");

/** 1, "epoch" -> "1 epoch"; 3000, "epoch" -> "3,000 epochs". */
const plural = (count, what, digits) => `${number(count, digits)} ${what}${count === 1 ? "" : "s"}`;

/** 3.7 -> "3.7 s", 5000 -> "1 h 23 min". */
function duration(seconds) {
  if (seconds < 60) return `${number(seconds, 1)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The verdict and the advice in a row of the statistics, as sentences. */
function advice({ verdict = "", advice: remedy = "" }) {
  const sentence = verdict.charAt(0).toUpperCase() + verdict.slice(1);
  return verdict && (verdict.endsWith("?") ? `${sentence} ${remedy}` : `${sentence}. ${remedy}`).trim();
}

/** A table; `columns` are [title, kind] with kind "text", "whole" (never wrapped) or "number". */
function table(caption, columns, rows) {
  const cell = (tag, text, kind) => element(tag, { class: kind }, text);
  const place = { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }; // so that the keyboard can scroll it
  return element("div", place, element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...columns.map(([title, kind]) => cell("th", title, kind)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text, i) => cell("td", text, columns[i][1]))))),
  ));
}

/** A table of two columns: an object's fields and their values. */
function listing(caption, fields) {
  const text = (value) => (value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const rows = Object.entries(fields).map(([name, value]) => [name.replaceAll("_", " "), text(value)]);
  return table(caption, [["what", "whole"], ["value", "text"]], rows);
}

/** Draw `height` x `width` pixels on a canvas: `byte(i, c)` is the red (c 0), green, blue or opacity of pixel i.
 * The byte array clips numbers to [0, 255] and rounds them, ties to even. */
function drawPixels(canvas, height, width, byte) {
  if (canvas.height !== height || canvas.width !== width) Object.assign(canvas, { height, width }); // skipped if unneeded: it costs a layout
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let n = 0; n < image.data.length; n++) image.data[n] = byte(n >> 2, n & 3);
  context.putImageData(image, 0, 0);
}

/** Draw a picture (height, width, channels 1 or 3) with numbers in [-1, 1], as tinygan.views.pictures.to_uint8 converts them. */
function drawPicture(canvas, picture, [height, width, channels]) {
  drawPixels(canvas, height, width, (i, c) => (c === 3 ? 255 : picture[i * channels + (c % channels)] * 127.5 + 127.5));
}

/** Draw one number per pixel: orange above 0, blue below, full strength at `largest`; 0 is black, or transparent if `clear`. */
function drawMap(canvas, map, [height, width], largest, clear = false) {
  drawPixels(canvas, height, width, (i, c) => {
    const strength = Math.sqrt(Math.abs(map[i]) / largest); // the root makes small numbers visible
    if (c === 3) return clear ? 230 * strength : 255;
    return (map[i] > 0 ? POSITIVE : NEGATIVE)[c] * (clear ? 1 : strength);
  });
}

/** The largest absolute value, but never 0, so that one can divide by it. */
const largestOf = (numbers) => numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);

/** The logistic function: turns a logit into a probability. */
const probability = (logit) => 1 / (1 + Math.exp(-logit));
/** Whether a part of the page is visible on the screen. */
const inSight = (part) => part.getBoundingClientRect().bottom > 0 && part.getBoundingClientRect().top < innerHeight;
const whole = (value) => number(value, 0);
const percent = (value) => (Number.isFinite(value) ? `${number(100 * value, 0)}%` : "–");

/** The contents of a canvas of the data's size, as a network takes them: numbers in [-1, 1]. */
function pixelsOf(canvas, [height, width, channels]) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return Float32Array.from({ length: height * width * channels }, (_, i) => data[4 * Math.floor(i / channels) + (i % channels)] / 127.5 - 1);
}
