/**
 * float16 and bfloat16 as bit patterns, to and from float32, exactly as IEEE 754 says: rounding to nearest, ties to
 * even; subnormals, infinities and signed zeros kept; a NaN stays a NaN with its sign and the payload that fits.
 *
 * Whole arrays go through integer views of the same memory, so no NaN is ever canonicalised on its way. Decoding
 * float16 is a look-up in a table of all 65,536 patterns; encoding is integer arithmetic on the float32's bits.
 */

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

/** The float32 bits of one float16 pattern. */
function decodeFloat16(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (mantissa << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
  if (mantissa === 0) return sign >>> 0;
  // A subnormal is mantissa · 2⁻²⁴: shift its highest bit up to the implicit one.
  const shift = Math.clz32(mantissa) - 21;
  return (sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13)) >>> 0;
}

/** The float16 pattern of one float32's bits. */
function encodeFloat16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) {
    // 65536 and above, infinities, NaN (made quiet where its payload would vanish)
    if (magnitude <= 0x7f800000) return sign | 0x7c00;
    const payload = (magnitude >>> 13) & 0x3ff;
    return sign | 0x7c00 | (payload === 0 ? 0x200 : payload);
  }
  if (magnitude >= 0x38800000) {
    // Normal: rebias the exponent by -112, round the 13 bits that go. A carry moves into the exponent, up to infinity.
    const rebiased = magnitude - 0x38000000;
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  if (magnitude < 0x33000000) return sign; // below half of the least subnormal
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const kept = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
}

/** The bfloat16 pattern of one float32's bits. */
function encodeBfloat16(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) {
    const high = bits >>> 16;
    return (high & 0x7f) === 0 ? high | 0x40 : high;
  }
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

let float16Table: Uint32Array | undefined;

function decodingTable(): Uint32Array {
  float16Table ??= Uint32Array.from({ length: 65536 }, (_, half) => decodeFloat16(half));
  return float16Table;
}

/** The number that a float16 pattern stands for. */
export function float16ToNumber(half: number): number {
  scratchBits[0] = decodeFloat16(half);
  return scratchFloat[0]!;
}

/** The float16 pattern nearest to a number, which is rounded to float32 first. */
export function numberToFloat16(value: number): number {
  scratchFloat[0] = value;
  return encodeFloat16(scratchBits[0]!);
}

/** The number that a bfloat16 pattern stands for. */
export function bfloat16ToNumber(pattern: number): number {
  scratchBits[0] = (pattern << 16) >>> 0;
  return scratchFloat[0]!;
}

/** The bfloat16 pattern nearest to a number, which is rounded to float32 first. */
export function numberToBfloat16(value: number): number {
  scratchFloat[0] = value;
  return encodeBfloat16(scratchBits[0]!);
}

function bitsOf(floats: Float32Array): Uint32Array {
  return new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
}

/** float32 values of float16 patterns; fills and returns `out`, which must be as long. */
export function float16ToFloat32(halves: Uint16Array, out = new Float32Array(halves.length)): Float32Array {
  requireLength(halves.length, out.length);
  const table = decodingTable();
  const bits = bitsOf(out);
  for (let i = 0; i < halves.length; i++) bits[i] = table[halves[i]!]!;
  return out;
}

/** float16 patterns of float32 values; what is too large becomes an infinity. */
export function float32ToFloat16(floats: Float32Array, out = new Uint16Array(floats.length)): Uint16Array {
  requireLength(floats.length, out.length);
  const bits = bitsOf(floats);
  for (let i = 0; i < bits.length; i++) out[i] = encodeFloat16(bits[i]!);
  return out;
}

/** float32 values of bfloat16 patterns. */
export function bfloat16ToFloat32(patterns: Uint16Array, out = new Float32Array(patterns.length)): Float32Array {
  requireLength(patterns.length, out.length);
  const bits = bitsOf(out);
  for (let i = 0; i < patterns.length; i++) bits[i] = patterns[i]! << 16;
  return out;
}

/** bfloat16 patterns of float32 values. */
export function float32ToBfloat16(floats: Float32Array, out = new Uint16Array(floats.length)): Uint16Array {
  requireLength(floats.length, out.length);
  const bits = bitsOf(floats);
  for (let i = 0; i < bits.length; i++) out[i] = encodeBfloat16(bits[i]!);
  return out;
}

function requireLength(from: number, to: number): void {
  if (from !== to) throw new Error(`internal: ${from} elements do not fit an output of ${to}`);
}
