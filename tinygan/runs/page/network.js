// The trained networks in plain JavaScript: noise in, the output of every layer out, the last of which is
// the picture; or a picture in, and at last D's logit. It does what tinygan/layers.py does, for one example
// and without training. Maps are flat arrays in the order (row, column, channel), as in NumPy.

"use strict";

const BLOCK = 64; // numbers that share a scale

class Network {
  /**
   * @param input the shape of what it takes: [numbers] or [height, width, channels]
   * @param layers [{kind, name, shape, weights: {name: shape}, stride, pads, slope}, ...], first to last;
   *     `shape` is that of the layer's output.
   * @param text all weights in the order in which `layers` names them; see `decode`.
   */
  constructor({ input, layers }, text) {
    const numbers = decode(text);
    let place = 0;
    this.input = input;
    this.layers = layers.map((layer) => {
      const weights = {};
      for (const [name, shape] of Object.entries(layer.weights)) {
        const count = shape.reduce((a, b) => a * b, 1);
        weights[name] = numbers.subarray(place, place + count);
        place += Math.ceil(count / BLOCK) * BLOCK;
      }
      return { ...layer, weights, kernelShape: layer.weights.kernel };
    });
  }

  /** The outputs of all layers, Float64Arrays, for one input. */
  run(input) {
    const outputs = [];
    let x = Float64Array.from(input);
    let shape = this.input;
    for (const layer of this.layers) {
      x = OPS[layer.kind](x, layer, shape);
      shape = layer.shape;
      outputs.push(x);
    }
    return outputs;
  }
}

// What each kind of layer does to x of shape `shape`.
const OPS = {
  // Every output is a weighted sum of all inputs, and a bias.
  dense(x, { weights: { kernel, bias }, shape: [outputs] }) {
    const y = bias ? Float64Array.from(bias) : new Float64Array(outputs);
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

  // In training it drops a part of the numbers at random; here, as always afterwards, it does nothing.
  dropout(x) {
    return x;
  },

  tanh(x) {
    return x.map(Math.tanh);
  },

  // Every number of y is a weighted sum of the K x K x C numbers of x in a window, which moves on by
  // `stride`; `pads` rows and columns of zeros, which add nothing, lie above and to the left of x.
  conv(x, { weights: { kernel, bias }, kernelShape, shape, stride, pads }, [H, W, C]) {
    const [height, width, filters] = shape;
    const [KH, KW] = kernelShape; // the kernel is (KH, KW, C, filters)
    const y = new Float64Array(height * width * filters).map((_, i) => bias[i % filters]);
    for (let ky = 0; ky < KH; ky++) {
      for (let kx = 0; kx < KW; kx++) {
        const pairs = placePairs([height, width], [H, W], stride, ky - pads[0], kx - pads[1]);
        const tap = (ky * KW + kx) * C * filters;
        for (const [to, from] of pairs) {
          for (let c = 0; c < C; c++) {
            const value = x[from * C + c], row = tap + c * filters, place = to * filters;
            for (let f = 0; f < filters; f++) y[place + f] += value * kernel[row + f];
          }
        }
      }
    }
    return y;
  },

  // The other way round: every place of x paints a patch of K x K pixels, its numbers times the kernel,
  // and the next place paints `stride` pixels further on; where patches overlap they add up. `pads` rows
  // and columns are cropped at the top and on the left.
  conv_transpose(x, { weights: { kernel }, kernelShape, shape, stride, pads }, [H, W, C]) {
    const [height, width, filters] = shape;
    const [KH, KW] = kernelShape; // the kernel is (KH, KW, filters, C)
    const y = new Float64Array(height * width * filters);
    for (let ky = 0; ky < KH; ky++) {
      for (let kx = 0; kx < KW; kx++) {
        const pairs = placePairs([H, W], [height, width], stride, ky - pads[0], kx - pads[1]);
        const from = pairs.map(([place]) => place * C), to = pairs.map(([, place]) => place * filters);
        const tap = (ky * KW + kx) * filters * C;
        for (let f = 0; f < filters; f++) addProducts(y, x, kernel, tap + f * C, C, from, to, f);
      }
    }
    return y;
  },
};

/**
 * Which places of a small map (h x w) one number of the kernel joins with which of a large one (H x W):
 * row i with row i stride + down, column j with column j stride + right, where these exist.
 */
function placePairs([h, w], [H, W], stride, down, right) {
  const pairs = [];
  for (let i = 0; i < h; i++) {
    for (let j = 0; j < w; j++) {
      const row = i * stride + down, column = j * stride + right;
      if (row >= 0 && row < H && column >= 0 && column < W) pairs.push([i * w + j, row * W + column]);
    }
  }
  return pairs;
}

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
