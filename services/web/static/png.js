// 8-bit grey PNG from rows of bytes: a canvas can only give colours with alpha, which is no mask.
// Format: W3C PNG (third edition); filter 0, one IDAT.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

function crc(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 0xff] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

function chunk(type, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...type].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** A Blob of image/png. `rows(from, count)` gives `count` rows of `width` bytes. */
export async function greyPng(width, height, rows) {
  const squeezed = new CompressionStream("deflate");
  const whole = new Response(squeezed.readable).arrayBuffer();
  const writer = squeezed.writable.getWriter();
  const STRIP = 256;
  for (let from = 0; from < height; from += STRIP) {
    const count = Math.min(STRIP, height - from);
    const pixels = rows(from, count);
    const lines = new Uint8Array(count * (width + 1)); // each row begins with its filter, 0
    for (let row = 0; row < count; row += 1) lines.set(pixels.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
    await writer.write(lines);
  }
  await writer.close();
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 0, 0, 0, 0], 8); // 8 bits, grey, and the only compression, filter and order there are
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  return new Blob([signature, chunk("IHDR", head), chunk("IDAT", new Uint8Array(await whole)), chunk("IEND", new Uint8Array())], { type: "image/png" });
}
