// Bytes as text and back, and numbers of 16 bits.

export function bytesOfBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

async function through(bytes, stream) {
  const piped = new Blob([bytes]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(piped).arrayBuffer());
}

export async function textOfGzip(bytes) {
  return new TextDecoder().decode(await through(bytes, new DecompressionStream('gzip')));
}

// Text as a part of an address: deflated, in base64's letters for addresses.
export async function packed(text) {
  const bytes = await through(new TextEncoder().encode(text), new CompressionStream('deflate-raw'));
  let letters = '';
  for (const byte of bytes) letters += String.fromCharCode(byte);
  return btoa(letters).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export async function unpacked(letters) {
  const bytes = bytesOfBase64(padded(letters.replaceAll('-', '+').replaceAll('_', '/')));
  return new TextDecoder().decode(await through(bytes, new DecompressionStream('deflate-raw')));
}

function padded(letters) {
  return letters + '='.repeat((4 - (letters.length % 4)) % 4);
}

// The same hash as fill.wgsl.
function hash(number) {
  let h = number;
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

// One number for many words: whether two devices have the same bits, to be seen at a glance.
export function hashOfWords(words, before = 0) {
  let h = before;
  for (const word of words) h = hash(h ^ word);
  return h >>> 0;
}

const word = new DataView(new ArrayBuffer(4));

function ofBits(bits) {
  word.setUint32(0, bits);
  return word.getFloat32(0);
}

function ofHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, mantissa] = [(bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

// The numbers at a byte, of type f32, f16 or bf16.
export function floats(bytes, offset, elements, dtype) {
  const size = dtype === 'f32' ? 4 : 2;
  const own = bytes.slice(offset, offset + elements * size);
  if (dtype === 'f32') return new Float32Array(own.buffer);
  const halves = new Uint16Array(own.buffer);
  return Float32Array.from(halves, dtype === 'f16' ? ofHalf : (bits) => ofBits(bits << 16));
}
