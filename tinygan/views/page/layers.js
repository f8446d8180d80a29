// What every layer makes of the current noise: a few channels, and the effect of each on later layers.

const SHOWN = 6; // channels shown per layer

/** [7, 7, 128] -> "7 × 7, 128 channels"; [100] -> "100 numbers". */
function sizes(shape) {
  return shape.length === 1 ? plural(shape[0], "number") : `${shape[0]} × ${shape[1]}, ${plural(shape[2], "channel")}`;
}

/** The numbers of one channel of a map whose last axis has `channels`. */
const channelOf = (map, channel, channels) => new Float32Array(map.length / channels).map((_, i) => map[i * channels + channel]);

/** The channels in which two maps differ most, in descending order. */
function mostDifferent(a, b, channels) {
  const apart = new Float32Array(channels);
  a.forEach((value, i) => (apart[i % channels] += Math.abs(value - b[i])));
  return Array.from(apart.keys()).sort((i, j) => apart[j] - apart[i]).slice(0, SHOWN);
}

/** The layers of one network. */
class Layers {
  /** `network` is as in the page's contents; `follow(layers, n, channel)` is called when a channel of layer n is chosen. */
  constructor({ name: player, layers }, place, follow) {
    Object.assign(this, { player, place });
    this.rows = layers.map(({ kind, name, shape, weights }, n) => {
      // A flat vector is drawn as the map that it comes from or becomes.
      const map = shape.length === 3 ? shape
        : layers.find((other) => other.shape.length === 3 && size(other.shape) === size(shape))?.shape;
      const count = Object.values(weights).reduce((sum, one) => sum + size(one), 0), trained = count ? `, from ${number(count)} weights` : "";
      const title = name.replaceAll("_", " "), meaning = byId(`what-${kind === "reshape" && shape.length === 1 ? "flatten" : kind}`).textContent;
      const caption = element("p", { class: "hint" }, `${sizes(shape)}${trained}. ${meaning}`), tiles = element("div", { class: "tiles" });
      if (!map) caption.append(" It is the logit: above 0 if the discriminator takes the picture for real, below 0 for a fake.");
      place.append(element("div", { class: "layer" }, element("h3", {}, title), caption, tiles));
      const row = { title, map, tiles, draw: !map ? drawLogit : kind === "tanh" ? drawOutput : drawChannels, channels: [], followed: null };
      row.buttons = Array.from({ length: row.draw === drawChannels ? Math.min(SHOWN, map[2]) : 0 }, (_, i) => {
        const button = element("button", { type: "button", "aria-label": `${title}: a channel` }, element("canvas"));
        button.onpointerenter = button.onfocus = () => (byId("channel").textContent = button.ariaLabel);
        button.onclick = () => follow(this, n, row.channels[i]);
        return button;
      });
      tiles.append(...row.buttons);
      return row;
    });
  }

  /** From now on show the channels in which `outputs` and `others` differ most; follow `channel` of layer `n`. */
  choose(outputs, others, n = -1, channel = null) {
    this.rows.forEach((row, i) => {
      if (!row.map || i < n) return;
      row.followed = i === n ? channel : null;
      row.without = n >= 0 && others[i];
      if (i !== n) row.channels = mostDifferent(outputs[i], others[i], row.map[2]);
      row.buttons.forEach((button, k) => {
        button.ariaLabel = `${this.player}, ${row.title}: channel ${row.channels[k] + 1} of ${number(row.map[2])}`;
        button.ariaPressed = row.channels[k] === row.followed;
      });
    });
  }

  /** Draw `outputs`; while `moving`, only those on the screen. */
  draw(outputs, moving = false) {
    if (this.place.checkVisibility()) this.rows.forEach((row, i) => (!moving || inSight(row.tiles)) && row.draw(outputs[i]));
  }
}

// The functions that draw the output of a row of `Layers`; `this` is the row.
function drawLogit([logit]) {
  this.tiles.replaceChildren(element("p", { class: "logit" }, number(logit, 2)));
}

function drawOutput(picture) {
  const drawn = (pixels, words) => {
    const canvas = element("canvas", { role: "img", "aria-label": words });
    drawPicture(canvas, pixels, this.map);
    return element("figure", {}, canvas, element("figcaption", {}, words));
  };
  this.tiles.replaceChildren(drawn(picture, "the picture"), ...(this.without ? [drawn(this.without, "without that channel")] : []));
}

function drawChannels(output) {
  const maps = this.channels.map((channel) => channelOf(output, channel, this.map[2])), largest = Math.max(...maps.map(largestOf));
  this.buttons.forEach(({ firstChild }, k) => maps[k] && drawMap(firstChild, maps[k], this.map, largest)); // at first no channels are chosen
}

/** The layers of both networks, drawn while they are visible. */
class LayersView {
  constructor(run, explorer) {
    Object.assign(this, { explorer, networks: explorer.networks, stretch: "", followed: null }); // `followed`: the position on the strip, or null
    this.players = run.networks.map((network, i) => new Layers(network, byId(["layers", "discriminator-layers"][i]), (...chosen) => this.follow(...chosen)));
    explorer.onPicture = (next, outputs) => this.show(next, outputs);
    new IntersectionObserver(([{ isIntersecting }]) => {
      explorer.all = isIntersecting;
      explorer.draw();
    }).observe(byId("layers-section"));
    byId("discriminator").ontoggle = () => explorer.draw();
  }

  /** Show `outputs`. On a new stretch of the strip, choose the channels that differ most at its end, the noise `next`. */
  async show(next, outputs) {
    if (!this.explorer.all || outputs.generator.length === 1) return;
    const { names, way, pushes } = this.explorer, stretch = `${names}/${Math.floor(way)}/${pushes}`, moved = this.followed !== null && this.followed !== way;
    if (stretch !== this.stretch || moved) {
      Object.assign(this, { stretch, followed: null });
      byId("channel").textContent = "";
      const others = await this.networks.ask("outputs", { noise: next });
      for (const layers of this.players) layers.choose(outputs[layers.player], others[layers.player]);
    }
    for (const layers of this.players) layers.draw(outputs[layers.player], this.explorer.morphing);
  }

  /** Show the effect of `channel` of layer `n` on later layers, by leaving it out. Choosing it again ends this. */
  async follow(layers, n, channel) {
    const { explorer, networks } = this, { noise } = explorer, again = layers.rows[n].followed === channel;
    explorer.setMorphing(false);
    this.followed = again ? null : explorer.way;
    if (again) this.stretch = "";
    if (again) return explorer.draw();
    const outputs = await networks.ask("outputs", { noise });
    const others = await networks.ask("without", { noise, player: layers.player, layer: n, channels: layers.rows[n].map[2], channel });
    if (String(explorer.noise) !== String(noise)) return; // the noise has changed meanwhile
    for (const row of layers.rows) row.followed = null; // the one followed before
    layers.choose(outputs[layers.player], others, n, channel);
    layers.draw(outputs[layers.player]);
    byId("channel").textContent = `Without channel ${channel + 1} of ${layers.rows[n].title}, these channels would change most.`;
  }
}
