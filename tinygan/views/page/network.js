// The trained networks, like those of tinygan/layers.py, for one example: noise or a picture in, the output of
// every layer out, and gradients back. Maps are flat Float32Arrays in the order (row, column, channel), as in
// NumPy. This code runs in a worker (worker.js) and uses nothing of the page.

const BLOCK = 64; // numbers that share a scale in the text of the weights
const WIDTH = 8, HEIGHT = 4; // of a tile: outputs and positions computed together

const howMany = (shape) => shape.reduce((a, b) => a * b, 1);
const upTo = (multiple, count) => Math.ceil(count / multiple) * multiple;

class Network {
  /** @param input the shape of the input: [numbers] or [height, width, channels]
   * @param layers [{kind, name, shape (of its output), weights: {name: shape}, stride, pads, slope}, ...]
   * @param text all weights in the order of `layers`; see `decode`
   * @param arithmetic computes tiles: `simd` or `plain` */
  constructor({ name, input, layers }, text, arithmetic = simd) {
    const numbers = decode(text);
    let place = 0;
    Object.assign(this, { name, input });
    this.layers = layers.map((layer) => { // from here on `input` is this layer's input shape
      const weights = {};
      for (const [key, shape] of Object.entries(layer.weights)) {
        weights[key] = numbers.subarray(place, place + howMany(shape));
        place += upTo(BLOCK, howMany(shape));
      }
      const ways = weights.kernel ? [way(layer, input, false), way(layer, input, true)] : [];
      input = layer.shape;
      return { ...layer, weights, ways };
    });
    this.reserve(this.layers.flatMap(({ ways }) => ways), arithmetic);
    for (const { weights, ways } of this.layers) ways.forEach((way) => pack(weights.kernel, way, this.memory));
  }

  /** The outputs of all layers for one input: new arrays, which stay valid (two layers can share one).
   * `change(y, n)` can replace the output y of layer n before the next layer uses it. */
  run(input, change = (y) => y) {
    const needed = howMany(this.input);
    if (input.length !== needed) throw new Error(`the ${this.name} got ${input.length} numbers. It needs ${needed}.`);
    let x = Float32Array.from(input);
    return this.layers.map((layer, n) => (x = change(OPS[layer.kind].run(x, layer, this), n)));
  }

  /** The gradient with respect to the input, by the chain rule, from the last layer to the first. `outputs` are
   * those that `run` returned for `input`; `gradient` is the one with respect to the last output. */
  gradient(input, outputs, gradient) {
    return this.layers.reduceRight((gradient, layer, i) =>
      OPS[layer.kind].gradient(gradient, layer, this, outputs[i - 1] ?? input, outputs[i]), gradient);
  }

  /** Reserve memory for x (at 0) and y of one product at a time, and for all weights. Addresses are in bytes. */
  reserve(ways, arithmetic) {
    const largest = (count) => Math.max(...ways.map(count));
    const bytes = (count) => upTo(64, 4 * count); // aligned to cache lines
    this.y = bytes(largest(({ taken }) => taken));
    let end = this.y + bytes(largest(({ places, columns }) => (places + 1) * columns));
    for (const way of ways) {
      way.weights = end;
      end += bytes(way.taps.length * way.inputs * way.columns);
    }
    Object.assign(this, arithmetic(end)); // memory, a Float32Array, and tile
  }

  /** For each tap of a kernel and each pair of its positions, add x[from] K[tap], a row vector times a matrix,
   * to y[to]. Returns y without its padding as a new array, plus `bias` if there is one. */
  product(x, { taps, inputs, outputs, columns, places, weights }, bias) {
    const { tile, memory } = this, y = memory.subarray(this.y / 4, this.y / 4 + places * columns).fill(0);
    memory.set(x);
    for (const [from, to] of taps) {
      for (let column = 0; column < columns; column += WIDTH, weights += 4 * WIDTH * inputs) {
        const at = this.y + 4 * column;
        for (let n = 0; n < from.length; n += HEIGHT) {
          tile(from[n], from[n + 1], from[n + 2], from[n + 3],
            at + to[n], at + to[n + 1], at + to[n + 2], at + to[n + 3], weights, inputs);
        }
      }
    }
    const found = new Float32Array(places * outputs);
    for (let place = 0; place < places; place++) {
      for (let i = 0; i < outputs; i++) found[place * outputs + i] = y[place * columns + i] + (bias ? bias[i] : 0);
    }
    return found;
  }
}

// What each kind of layer does to x, and to the gradient on the way back, given its input x and output y.
const PRODUCT = {
  run: (x, { ways: [forth], weights: { bias } }, network) => network.product(x, forth, bias),
  gradient: (gradient, { ways: [, back] }, network) => network.product(gradient, back),
};
const UNCHANGED = { run: (x) => x, gradient: (gradient) => gradient };
const OPS = {
  dense: PRODUCT,
  conv: PRODUCT,
  conv_transpose: PRODUCT,

  // gamma (x - mean) / sqrt(variance + eps) + beta with the running statistics: a scale and a shift per channel.
  batchnorm: {
    run: (x, { weights: { scale, shift } }) => x.map((value, i) => value * scale[i % scale.length] + shift[i % scale.length]),
    gradient: (gradient, { weights: { scale } }) => gradient.map((value, i) => value * scale[i % scale.length]),
  },
  leaky_relu: {
    run: (x, { slope }) => x.map((value) => (value > 0 ? value : slope * value)),
    gradient: (gradient, { slope }, _, x) => gradient.map((value, i) => (x[i] > 0 ? value : slope * value)),
  },
  tanh: {
    run: (x) => x.map(Math.tanh),
    gradient: (gradient, layer, network, x, y) => gradient.map((value, i) => value * (1 - y[i] * y[i])),
  },
  reshape: UNCHANGED,
  dropout: UNCHANGED, // it drops numbers only in training
};

/** What `product` needs for a layer with a kernel: forward, or backward for the gradient, which takes the same
 * positions and matrices in reverse (`transposed`). A row of y has a multiple of 8 columns. */
function way(layer, input, transposed) {
  const swapped = (pair) => (transposed ? [...pair].reverse() : pair);
  const [fromShape, toShape] = swapped([input, layer.shape]), inputs = fromShape.at(-1), outputs = toShape.at(-1);
  const columns = upTo(WIDTH, outputs), places = howMany(toShape) / outputs;
  // Positions as byte offsets. Filler for the last tile goes to a row below y that is never read.
  const bytes = (list, row, filler) =>
    Int32Array.from({ length: upTo(HEIGHT, list.length) }, (_, n) => 4 * row * (list[n] ?? filler));
  const taps = joinedPlaces(layer, input).map(swapped).map(([from, to]) => [bytes(from, inputs, 0), bytes(to, columns, places)]);
  return { inputs, outputs, columns, places, taps, transposed, taken: howMany(fromShape) };
}

/** Write a kernel (taps, inputs, outputs), or transposed (taps, outputs, inputs), to memory in the order in
 * which tiles read it: (taps, columns / 8, inputs, 8). */
function pack(kernel, { taps, inputs, outputs, columns, transposed, weights }, memory) {
  const [byInput, byOutput] = transposed ? [1, inputs] : [outputs, 1];
  let at = weights / 4;
  for (let tap = 0; tap < taps.length; tap++) {
    for (let column = 0; column < columns; column += WIDTH) {
      const filled = Math.min(WIDTH, outputs - column);
      for (let i = 0; i < inputs; i++, at += WIDTH) {
        const first = tap * inputs * outputs + i * byInput + column * byOutput;
        for (let j = 0; j < filled; j++) memory[at + j] = kernel[first + j * byOutput];
      }
    }
  }
}

/** For each tap (ky, kx) of a kernel, two lists: positions of the input, and the positions of the output that they
 * contribute to. Position (i, j) of the small map belongs to row i stride + ky - top, column j stride + kx - left of
 * the large one, if that exists: outside are zeros, which add nothing, or the cropped border. A convolution goes
 * from the large map to the small one; a transposed convolution, its adjoint, from small to large. */
function joinedPlaces({ kind, stride, pads, weights, shape }, input) {
  if (kind === "dense") return [[[0], [0]]];
  const [KH, KW] = weights.kernel, [top, left] = pads;
  const [small, large] = kind === "conv" ? [shape, input] : [input, shape];
  return Array.from({ length: KH * KW }, (_, tap) => {
    const ky = Math.floor(tap / KW), kx = tap % KW, inSmall = [], inLarge = [];
    for (let place = 0; place < small[0] * small[1]; place++) {
      const i = Math.floor(place / small[1]), j = place % small[1];
      const row = i * stride + ky - top, column = j * stride + kx - left;
      if (row < 0 || row >= large[0] || column < 0 || column >= large[1]) continue;
      inSmall.push(place);
      inLarge.push(row * large[1] + column);
    }
    return kind === "conv" ? [inLarge, inSmall] : [inSmall, inLarge];
  });
}

/** Memory of this many bytes, and the function `tile`(x0, x1, x2, x3, y0, y1, y2, y3, w, inputs) of addresses in it,
 * which adds to the 8 numbers at each of y0 to y3 the `inputs` numbers at x0 to x3 times the matrix (inputs, 8) at w. */
function plain(bytes) {
  const memory = new Float32Array(bytes / 4);
  const tile = (...given) => {
    const inputs = given[9], w = given[8] / 4;
    for (let n = 0; n < HEIGHT; n++) {
      const x = given[n] / 4, y = given[HEIGHT + n] / 4;
      for (let column = 0; column < WIDTH; column++) {
        let sum = 0;
        for (let i = 0; i < inputs; i++) sum += memory[x + i] * memory[w + WIDTH * i + column];
        memory[y + column] += sum;
      }
    }
  };
  return { memory, tile };
}

/** The same with `tile` in WebAssembly, four numbers per instruction; `plain` if the browser lacks or forbids it. */
function simd(bytes) {
  try {
    const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(assembled()), { page: { memory } });
    return { memory: new Float32Array(memory.buffer), tile: exports.tile };
  } catch {
    return plain(bytes);
  }
}

/** The bytes of a WebAssembly module with `tile` (webassembly.github.io/spec/core, 5 and appendix "Index of
 * Instructions"). The 32 sums stay in registers during the loop over the inputs. */
function assembled() {
  const I32 = 0x7f, V128 = 0x7b; // types: an address or a count; four float32 numbers
  const X = 0, Y = 4, W = 8, COUNT = 9; // local variables: the arguments of tile
  const SUM = 10, WEIGHTS = 18, VALUE = 20; // and 8, 2 and 1 of V128
  const get = (local) => [0x20, local], set = (local) => [0x21, local], setAndGet = (local) => [0x22, local];
  const load = (offset) => [0xfd, 0x00, 2, offset], loadSame = [0xfd, 0x09, 2, 0]; // 2: aligned to 2^2 bytes
  const store = (offset) => [0xfd, 0x0b, 2, offset];
  const constant = (value) => [0x41, value & 0x7f], add = 0x6a, plus = [0xfd, 0xe4, 0x01], times = [0xfd, 0xe6, 0x01];
  const loop = [0x03, 0x40], repeatIf = [0x0d, 0], end = 0x0b;
  const advance = (local, by) => [...get(local), ...constant(by), add, ...set(local)];
  const each = (count, code) => Array.from({ length: count }, (_, i) => code(i)).flat();

  const body = [
    ...each(8, (i) => [...get(Y + (i >> 1)), ...load(16 * (i & 1)), ...set(SUM + i)]),
    ...loop,
    ...each(2, (half) => [...get(W), ...load(16 * half), ...set(WEIGHTS + half)]),
    ...each(4, (row) => [
      ...get(X + row), ...loadSame, ...set(VALUE), ...advance(X + row, 4), // one number of x, four times
      ...each(2, (half) => {
        const sum = SUM + 2 * row + half;
        return [...get(sum), ...get(VALUE), ...get(WEIGHTS + half), ...times, ...plus, ...set(sum)];
      }),
    ]),
    ...advance(W, 32),
    ...get(COUNT), ...constant(-1), add, ...setAndGet(COUNT), ...repeatIf,
    end,
    ...each(8, (i) => [...get(Y + (i >> 1)), ...get(SUM + i), ...store(16 * (i & 1))]),
    end,
  ];
  const sized = (bytes) => [(bytes.length & 0x7f) | 0x80, bytes.length >> 7, ...bytes]; // lengths are in base 128
  const section = (id, ...bytes) => [id, ...sized(bytes)];
  const name = (text) => [text.length, ...new TextEncoder().encode(text)];
  return Uint8Array.of(
    0, ...new TextEncoder().encode("asm"), 1, 0, 0, 0,
    ...section(1, 1, 0x60, 10, ...each(10, () => I32), 0), // types: one, a function of 10 numbers without a result
    ...section(2, 1, ...name("page"), ...name("memory"), 2, 0, 0), // imports: a memory
    ...section(3, 1, 0), // functions: one, of type 0
    ...section(7, 1, ...name("tile"), 0, 0), // exports: function 0
    ...section(10, 1, ...sized([1, 11, V128, ...body])), // code, with 11 more local variables
  );
}

/** Decode text that `encode` of tinygan/views/explorer.py wrote: whole numbers from -4324 to 4324, two base-93
 * digits each (the characters from ! to ~ without <), in blocks of 65: e, then 64 to multiply by 2^(e/64). */
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
