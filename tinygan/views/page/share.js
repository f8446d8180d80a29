// Saves what the page shows as PNG or GIF (gif.js), at a size that people post.

const POSTED = 1080; // pixels across
const FRAMES = 48; // of a film of the strip

/** Offer bytes or a Blob as a download. */
function download(name, parts, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Draw pictures (canvases of one size) onto `canvas` as a grid with gaps, magnified to at least `least` pixels. */
function drawGrid(canvas, tiles, columns, least) {
  const { width, height } = tiles[0], rows = Math.ceil(tiles.length / columns);
  const scale = Math.ceil(least / (columns * width)), gap = 6, W = width * scale, H = height * scale;
  Object.assign(canvas, { width: columns * (W + gap) - gap, height: rows * (H + gap) - gap });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  tiles.forEach((tile, i) => context.drawImage(tile, (i % columns) * (W + gap), Math.floor(i / columns) * (H + gap), W, H));
  return canvas;
}

/** Save pictures (canvases of one size) as a grid. */
function savePng(name, tiles, columns) {
  drawGrid(element("canvas"), tiles, columns, POSTED).toBlob((blob) => download(name, [blob], "image/png"));
}

/** Set up the buttons that save what the explorer shows. */
function addSaving(explorer, name) {
  byId("save-picture").onclick = () => savePng(`${name}.png`, [byId("picture")], 1);
  byId("save-strip").onclick = () => savePng(`${name}-strip.png`, explorer.strip.canvases, 6);
  byId("save-grid").onclick = () => savePng(`${name}-grid.png`, explorer.grid.canvases, 4);
  byId("save-film").onclick = async ({ target }) => {
    target.disabled = true;
    const noises = Array.from({ length: FRAMES }, (_, i) => explorer.pushed(explorer.at((i * POINTS) / FRAMES)));
    const how = { shape: explorer.shape, scale: Math.ceil(POSTED / 2 / explorer.shape[1]), seconds: 0.08 };
    download(`${name}.gif`, await explorer.networks.ask("film", { noises, ...how }), "image/gif");
    target.disabled = false;
  };
}
