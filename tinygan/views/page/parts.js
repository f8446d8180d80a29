// What all parts of the page use: making elements, writing numbers, drawing pixels.
"use strict";

const byId = (id) => document.getElementById(id);

/** A maker of elements of HTML or SVG with attributes and children (elements or text, which is never read as HTML). */
const maker = (namespace) => (tag, attributes = {}, ...children) => {
  const made = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const element = maker(document.documentElement.namespaceURI), svg = maker("http://www.w3.org/2000/svg");

// The colours of numbers above and below 0: canvases cannot read the style sheet.
const POSITIVE = [255, 155, 69], NEGATIVE = [74, 157, 255];

/** How many numbers an array of this shape has. */
const size = (shape) => shape.reduce((a, b) => a * b, 1);

/** 12544 -> "12,544"; 0.69315 -> "0.693"; nothing -> "–". */
function number(value, digits = 3) {
  return Number.isFinite(value) ? value.toLocaleString("en", { maximumFractionDigits: digits }) : "–";
}

/** The same with all of its digits, so that numbers below each other can be compared: 0.5 -> "0.500". */
const fixed = (value, digits = 3) => (typeof value === "number" ? value.toFixed(digits) : "–");

/** 3.7 -> "3.7 s", 5000 -> "1 h 23 min". */
function duration(seconds) {
  if (seconds < 60) return `${number(seconds, 1)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** What a row of the statistics says of its epoch, and what to try, as sentences. */
function advice({ verdict = "", advice: remedy = "" }) {
  const sentence = verdict.charAt(0).toUpperCase() + verdict.slice(1);
  return verdict && (verdict.endsWith("?") ? `${sentence} ${remedy}` : `${sentence}. ${remedy}`).trim();
}

/** A table; `columns` are [title, kind] with kind "text", "whole" (never broken) or "number". */
function table(caption, columns, rows) {
  const cell = (tag, text, kind) => element(tag, { class: kind }, text);
  return element("div", { class: "scroll" }, element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...columns.map(([title, kind]) => cell("th", title, kind)))),
    element("tbody", {}, ...rows.map((row) =>
      element("tr", {}, ...row.map((text, i) => cell("td", text, columns[i][1]))))),
  ));
}

/** Two columns: the names of an object's fields and their values. */
function listing(caption, fields) {
  const text = (value) => (value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const rows = Object.entries(fields).map(([name, value]) => [name.replaceAll("_", " "), text(value)]);
  return table(caption, [["what", "whole"], ["value", "text"]], rows);
}

/** Draw pixels onto a canvas of that many rows and columns; `color(row, column)` gives the red, green, blue
 * and opacity of each. The canvas clips them to 0 to 255 and rounds them, ties to the even one. */
function drawPixels(canvas, height, width, color) {
  Object.assign(canvas, { height, width });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), bytes = image.data;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) bytes.set(color(row, column), 4 * (row * width + column));
  }
  context.putImageData(image, 0, 0);
}

/** Draw a picture, numbers in [-1, 1] by rows, columns and channels (1 or 3), in the bytes of tinygan.views.pictures.to_uint8. */
function drawPicture(canvas, picture, [height, width, channels]) {
  drawPixels(canvas, height, width, (row, column) => {
    const at = (row * width + column) * channels;
    return [...[0, 1, 2].map((c) => picture[at + (c % channels)] * 127.5 + 127.5), 255];
  });
}
