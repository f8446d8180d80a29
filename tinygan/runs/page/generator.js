// The trained generator in plain JavaScript: noise in, the output of every layer out, the last of
// which is the picture. It does what tinygan/models.py and tinygan/layers.py do, for one picture and
// without training. Maps are flat arrays in the order (row, column, channel), as in NumPy.

"use strict";

const BLOCK = 64; // numbers that share a scale

class Generator {
  /**
   * @param layers [{kind, name, shape, weights: {name: shape}, stride, pads, slope}, ...], first to last;
   *     `shape` is that of the layer's output, [channels] or [height, width, channels].
   * @param text all weights in the order in which `layers` names them; see `decode`.
   */
  constructor(layers, text) {
    const numbers = decode(text);
    let place = 0;
    this.layers = layers.map((layer) => {
      const weights = {};
      for (const [name, shape] of Object.entries(layer.weights)) {
        const count = shape.reduce((a, b) => a * b, 1);
        weights[name] = numbers.subarray(place, place + count);
        place += Math.ceil(count / BLOCK) * BLOCK;
      }
      return { ...layer, weights, weightShapes: layer.weights };
    });
  }

  /** The outputs of all layers, Float64Arrays, for one vector of noise. */
  run(noise) {
    const outputs = [];
    let x = Float64Array.from(noise);
    let shape = [noise.length];
    for (const layer of this.layers) {
      x = OPS[layer.kind](x, layer, shape);
      shape = layer.shape;
      outputs.push(x);
    }
    return outputs;
  }

  /** The picture: numbers in [-1, 1], by rows, columns and channels. */
  generate(noise) {
    return this.run(noise).at(-1);
  }
}

// What each kind of layer does to x of shape `shape`.
const OPS = {
  dense(x, { weights: { kernel }, shape: [outputs] }) {
    const y = new Float64Array(outputs);
    for (let i = 0; i < x.length; i++) {
      const scale = x[i], row = i * outputs;
      for (let j = 0; j < outputs; j++) y[j] += scale * kernel[row + j];
    }
    return y;
  },

  // With the running mean and variance: (x - mean) / sqrt(variance + eps) gamma + beta, which is a
  // scale and a shift for every channel.
  batchnorm(x, { weights: { scale, shift } }) {
    const channels = scale.length;
    return x.map((value, i) => value * scale[i % channels] + shift[i % channels]);
  },

  leaky_relu(x, { slope }) {
    return x.map((value) => (value > 0 ? value : slope * value));
  },

  reshape(x) {
    return x;
  },

  tanh(x) {
    return x.map(Math.tanh);
  },

  // Every place of x paints a patch of K x K pixels, its numbers times the kernel, and the next place
  // paints `stride` pixels further on; where patches overlap they add up. `pads` are cropped: rows at
  // the top, columns on the left.
  conv_transpose(x, { weights: { kernel }, weightShapes, shape, stride, pads }, [H, W, C]) {
    const [height, width, filters] = shape;
    const [KH, KW] = weightShapes.kernel; // the kernel is (KH, KW, filters, C)
    const [top, left] = pads;
    const y = new Float64Array(height * width * filters);
    for (let ky = 0; ky < KH; ky++) {
      for (let kx = 0; kx < KW; kx++) {
        // From which numbers of x to which of y this one pixel of the patches leads.
        const from = [], to = [];
        for (let i = 0; i < H; i++) {
          for (let j = 0; j < W; j++) {
            const row = i * stride + ky - top, column = j * stride + kx - left;
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            from.push((i * W + j) * C);
            to.push((row * width + column) * filters);
          }
        }
        const tap = (ky * KW + kx) * filters * C;
        for (let f = 0; f < filters; f++) addProducts(y, x, kernel, tap + f * C, C, from, to, f);
      }
    }
    return y;
  },
};

/**
 * y[to + f] += the sum over c of x[from + c] kernel[row + c], for all pairs of `from` and `to`.
 * Four at a time: each weight is read once for four products, which makes it twice as fast.
 */
function addProducts(y, x, kernel, row, C, from, to, f) {
  let n = 0;
  for (; n + 4 <= from.length; n += 4) {
    const i0 = from[n], i1 = from[n + 1], i2 = from[n + 2], i3 = from[n + 3];
    let sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    for (let c = 0; c < C; c++) {
      const weight = kernel[row + c];
      sum0 += x[i0 + c] * weight;
      sum1 += x[i1 + c] * weight;
      sum2 += x[i2 + c] * weight;
      sum3 += x[i3 + c] * weight;
    }
    y[to[n] + f] += sum0;
    y[to[n + 1] + f] += sum1;
    y[to[n + 2] + f] += sum2;
    y[to[n + 3] + f] += sum3;
  }
  for (; n < from.length; n++) {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += x[from[n] + c] * kernel[row + c];
    y[to[n] + f] += sum;
  }
}

/**
 * What tinygan/runs/explorer.py wrote with `encode`: whole numbers from -2048 to 2047, two digits of base
 * 64 each, in blocks of 65: e, and 64 numbers that are to be multiplied by 2^(e/64).
 */
function decode(text) {
  const value = new Uint8Array(128);
  [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"].forEach((digit, i) => {
    value[digit.charCodeAt(0)] = i;
  });
  const whole = (i) => 64 * value[text.charCodeAt(2 * i)] + value[text.charCodeAt(2 * i + 1)] - 2048;
  const blocks = text.length / (2 * (BLOCK + 1));
  const numbers = new Float32Array(blocks * BLOCK);
  for (let block = 0; block < blocks; block++) {
    const begin = block * (BLOCK + 1), scale = 2 ** (whole(begin) / 64);
    for (let i = 0; i < BLOCK; i++) numbers[block * BLOCK + i] = scale * whole(begin + 1 + i);
  }
  return numbers;
}
