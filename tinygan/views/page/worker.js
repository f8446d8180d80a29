// The questions that the page can ask of the networks. Runs in a worker, after network.js, so the page never waits.

// Tasks by name. Noise, pictures and gradients are lists of numbers; answers are Float32Arrays.
const TASKS = {
  /** @param networks G and D as tinygan/views/explorer.py describes them; @param weights the text of each */
  load({ networks, weights }) {
    [this.generator, this.discriminator] = networks.map((network, i) => new Network(network, weights[i]));
  },

  /** G's picture for each vector of noise; below, D's logit for each picture. */
  pictures(noises) {
    return noises.map((noise) => this.generator.run(noise).at(-1));
  },
  logits(pictures) {
    return pictures.map((picture) => this.discriminator.run(picture).at(-1)[0]);
  },

  /** A film of G's pictures for `noises`, as the parts of a file; see gif.js. */
  film({ noises, shape, scale, seconds }) {
    return gif(this.pictures(noises), shape, scale, seconds);
  },

  /** The outputs of G's layers for some noise, and of D's for the picture: `all` layers, or only the last ones. */
  outputs({ noise, all = true }) {
    const generator = this.generator.run(noise), discriminator = this.discriminator.run(generator.at(-1));
    return all ? { generator, discriminator } : { generator: generator.slice(-1), discriminator: discriminator.slice(-1) };
  },

  /** The outputs of the generator or the discriminator (`player`) with one of the `channels` of a layer left out. */
  without({ noise, player, layer, channels, channel }) {
    const input = player === "generator" ? noise : this.generator.run(noise).at(-1);
    return this[player].run(input, (y, n) => (n === layer ? y.map((value, i) => (i % channels === channel ? 0 : value)) : y));
  },

  /** D's logit for a picture, and its gradient with respect to the pixels: where brighter is more real. */
  slope(picture) {
    const outputs = this.discriminator.run(picture);
    return { logit: outputs.at(-1)[0], slope: this.discriminator.gradient(picture, outputs, [1]) };
  },

  /** Move the noise towards a picture by `steps` steps of Adam (tinygan/optim.py), which lower the mean squared
   * difference between G's picture and `target`. `step` counts the steps so far; m and v are Adam's means. The
   * answer holds everything that the next call needs, G's picture for the new noise, and its error: the root
   * mean square, in units of 1/255 of the range from dark to bright. */
  fit({ noise, m = noise.map(() => 0), v = noise.map(() => 0), step = 0, target, steps, lr }) {
    const beta1 = 0.9, beta2 = 0.999, eps = 1e-7;
    [noise, m, v] = [noise, m, v].map((numbers) => Float32Array.from(numbers));
    const differences = (picture) => picture.map((value, i) => value - target[i]);
    for (const end = step + steps; step < end;) {
      const outputs = this.generator.run(noise), picture = outputs.at(-1);
      const towards = differences(picture).map((value) => (2 * value) / picture.length);
      const gradient = this.generator.gradient(noise, outputs, towards);
      step += 1;
      const rate = (lr * Math.sqrt(1 - beta2 ** step)) / (1 - beta1 ** step);
      gradient.forEach((g, i) => {
        m[i] = beta1 * m[i] + (1 - beta1) * g;
        v[i] = beta2 * v[i] + (1 - beta2) * g * g;
        noise[i] -= (rate * m[i]) / (Math.sqrt(v[i]) + eps);
      });
    }
    const picture = this.generator.run(noise).at(-1);
    const squares = differences(picture).reduce((sum, value) => sum + value * value, 0);
    return { noise, m, v, step, picture, error: 127.5 * Math.sqrt(squares / picture.length) };
  },
};

function answer({ id, task, argument }) {
  try {
    return { id, result: TASKS[task](argument) };
  } catch (error) {
    return { id, error: error.message };
  }
}

if (typeof document === "undefined") onmessage = ({ data }) => postMessage(answer(data)); // in a worker
