// The trained networks, as tinygan/layers.py, for one example: noise or a picture in, every layer's output
// out, the last a picture or a logit. Maps are flat arrays in the order (row, column, channel), as in NumPy.
"use strict";

const BLOCK = 64; // numbers that share a scale

class Network {
  /** @param input the shape of what it takes: [numbers] or [height, width, channels]
   * @param layers [{kind, name, shape (of its output), weights: {name: shape}, stride, pads, slope}, ...]
   * @param text all weights in the order in which `layers` names them; see `decode`. */
  constructor({ input, layers }, text) {
    const numbers = decode(text);
    let place = 0;
    this.input = input;
    this.layers = layers.map((layer) => { // from here on `input` is what this layer takes
      const weights = {};
      for (const [name, shape] of Object.entries(layer.weights)) {
        weights[name] = numbers.subarray(place, place + size(shape));
        place += Math.ceil(size(shape) / BLOCK) * BLOCK;
      }
      const joined = layer.stride && joinedPlaces(layer, input);
      input = layer.shape;
      return { ...layer, weights, joined };
    });
  }

  /** The outputs of all layers, Float64Arrays, for one input. */
  run(input) {
    let x = Float64Array.from(input);
    return this.layers.map((layer) => (x = OPS[layer.kind](x, layer)));
  }
}

/** Numbers in the shape [..., F] that begin with a bias for each of the F outputs or filters, or with 0. */
function biased(shape, bias) {
  const y = new Float64Array(size(shape));
  return bias ? y.map((_, i) => bias[i % bias.length]) : y;
}

// What each kind of layer does to x, with its weights, its `shape` and what else describes it.
const OPS = {
  // Every output is a weighted sum of all inputs, and a bias.
  dense(x, { weights: { kernel, bias }, shape }) {
    const y = biased(shape, bias), outputs = y.length;
    for (let i = 0; i < x.length; i++) {
      const scale = x[i], row = i * outputs;
      for (let j = 0; j < outputs; j++) y[j] += scale * kernel[row + j];
    }
    return y;
  },

  // (x - mean) / sqrt(variance + eps) gamma + beta with the running values: a scale and a shift per channel.
  batchnorm(x, { weights: { scale, shift } }) {
    const channels = scale.length;
    return x.map((value, i) => value * scale[i % channels] + shift[i % channels]);
  },

  leaky_relu: (x, { slope }) => x.map((value) => (value > 0 ? value : slope * value)),
  tanh: (x) => x.map(Math.tanh),
  reshape: (x) => x,
  dropout: (x) => x, // it drops numbers in training only

  conv: convolve,
  conv_transpose: convolve,
};

/** Either convolution: each of the K x K taps of a kernel (K, K, filters, C) adds a weighted sum of the C
 * numbers at each place of x to the numbers at another place of y; `joinedPlaces` says which.
 * Four places at a time, each weight read once for four products: twice as fast. */
function convolve(x, { weights: { kernel, bias }, joined, shape }) {
  const filters = shape[2], C = kernel.length / joined.length / filters, y = biased(shape, bias);
  joined.forEach(([from, to], tap) => {
    for (let f = 0; f < filters; f++) {
      const row = (tap * filters + f) * C;
      let n = 0;
      for (; n + 4 <= from.length; n += 4) {
        const i0 = from[n] * C, i1 = from[n + 1] * C, i2 = from[n + 2] * C, i3 = from[n + 3] * C;
        let sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
        for (let c = 0; c < C; c++) {
          const weight = kernel[row + c];
          sum0 += x[i0 + c] * weight;
          sum1 += x[i1 + c] * weight;
          sum2 += x[i2 + c] * weight;
          sum3 += x[i3 + c] * weight;
        }
        y[to[n] * filters + f] += sum0;
        y[to[n + 1] * filters + f] += sum1;
        y[to[n + 2] * filters + f] += sum2;
        y[to[n + 3] * filters + f] += sum3;
      }
      for (; n < from.length; n++) {
        let sum = 0;
        for (let c = 0; c < C; c++) sum += x[from[n] * C + c] * kernel[row + c];
        y[to[n] * filters + f] += sum;
      }
    }
  });
  return y;
}

/** For each tap (ky, kx) of a kernel: from which places of the input a sum goes to which of the output, as
 * two lists. Place (i, j) of the small map joins row i stride + ky - top, column j stride + kx - left of
 * the large one, if it exists: outside are zeros, which add nothing, or what is cropped. A convolution goes
 * from the large map to the small one; a transposed convolution, its adjoint, from small to large. */
function joinedPlaces({ kind, stride, pads: [top, left], weights, shape }, input) {
  const [KH, KW] = weights.kernel;
  const [small, large] = kind === "conv" ? [shape, input] : [input, shape];
  const joined = [];
  for (let tap = 0; tap < KH * KW; tap++) {
    const ky = Math.floor(tap / KW), kx = tap % KW, inSmall = [], inLarge = [];
    for (let place = 0; place < small[0] * small[1]; place++) {
      const i = Math.floor(place / small[1]), j = place % small[1];
      const row = i * stride + ky - top, column = j * stride + kx - left;
      if (row < 0 || row >= large[0] || column < 0 || column >= large[1]) continue;
      inSmall.push(place);
      inLarge.push(row * large[1] + column);
    }
    joined.push((kind === "conv" ? [inLarge, inSmall] : [inSmall, inLarge]).map((places) => Int32Array.from(places)));
  }
  return joined;
}

/** What tinygan/views/explorer.py wrote with `encode`: whole numbers from -4324 to 4324, two digits of base
 * 93 each (the characters from ! to ~ without <), in blocks of 65: e, and 64 to be multiplied by 2^(e/64). */
function decode(text) {
  const digit = (i) => text.charCodeAt(i) - (text.charCodeAt(i) > 60 ? 34 : 33);
  const whole = (i) => 93 * digit(2 * i) + digit(2 * i + 1) - 4324;
  const blocks = text.length / (2 * (BLOCK + 1)), numbers = new Float32Array(blocks * BLOCK);
  for (let block = 0; block < blocks; block++) {
    const begin = block * (BLOCK + 1), scale = 2 ** (whole(begin) / 64);
    for (let i = 0; i < BLOCK; i++) numbers[block * BLOCK + i] = scale * whole(begin + 1 + i);
  }
  return numbers;
}
