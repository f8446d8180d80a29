// Writes pictures as an animated GIF. It runs in the worker, because it takes seconds.

/** A looping GIF of pictures with numbers in [-1, 1], `scale` times as large, `seconds` each (GIF89a, with the codes of
 * Welch 1984). The palette has 256 greys, or for three channels 6 x 7 x 6 levels of red, green and blue. */
function gif(pictures, [height, width, channels], scale, seconds) {
  const word = (value) => [value & 255, value >> 8], W = width * scale, H = height * scale;
  const ascii = (text) => [...text].map((character) => character.charCodeAt(0));
  const levels = channels === 1 ? [256] : [6, 7, 6];
  const palette = Array.from({ length: 256 }, (_, i) => (channels === 1 ? [i, i, i]
    : [Math.floor(i / 42) / 5, (Math.floor(i / 6) % 7) / 6, (i % 6) / 5].map((part) => Math.round(255 * Math.min(1, part)))));
  const head = [...ascii("GIF89a"), ...word(W), ...word(H), 0xf7, 0, 0, ...palette.flat(),
    0x21, 0xff, 11, ...ascii("NETSCAPE2.0"), 3, 1, 0, 0, 0];
  const frames = pictures.map((picture) => {
    const level = (at, c) => Math.round(Math.max(0, Math.min(1, picture[at * channels + c] / 2 + 0.5)) * (levels[c] - 1));
    const color = (at) => levels.reduce((sum, count, c) => sum * count + level(at, c), 0);
    const pixels = Uint8Array.from({ length: W * H }, (_, i) => color(Math.floor(Math.floor(i / W) / scale) * width + Math.floor((i % W) / scale)));
    const control = [0x21, 0xf9, 4, 0, ...word(Math.round(100 * seconds)), 0, 0];
    return Uint8Array.from([...control, 0x2c, 0, 0, 0, 0, ...word(W), ...word(H), 0, 8, ...blocks(compressed(pixels)), 0]);
  });
  return [Uint8Array.from(head), ...frames, Uint8Array.of(0x3b)];
}

/** Bytes in blocks of at most 255, each preceded by its length. */
function* blocks(bytes) {
  for (let at = 0; at < bytes.length; at += 255) {
    const part = bytes.slice(at, at + 255);
    yield part.length;
    yield* part;
  }
}

/** Compress pixels of 8 bits to a GIF's variable-length codes: each code stands for the longest run of pixels that has
 * come before. Code 256 clears the table, 257 ends the data. */
function compressed(pixels) {
  const bytes = [];
  let table = new Map(), bits = 9, buffer = 0, held = 0;
  const write = (code) => {
    buffer |= code << held;
    for (held += bits; held >= 8; held -= 8, buffer >>= 8) bytes.push(buffer & 255);
  };
  write(256);
  let run = pixels[0];
  for (const pixel of pixels.subarray(1)) {
    const longer = run * 256 + pixel;
    if (table.has(longer)) {
      run = table.get(longer);
      continue;
    }
    write(run);
    const code = 258 + table.size;
    if (code < 4096) {
      table.set(longer, code);
      if (code === 1 << bits) bits++;
    } else { // full
      write(256);
      [table, bits] = [new Map(), 9];
    }
    run = pixel;
  }
  write(run);
  write(257);
  if (held) bytes.push(buffer & 255);
  return bytes;
}
