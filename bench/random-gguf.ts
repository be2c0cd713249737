/**
 * A GGUF file of random weights with given matrix shapes, for measuring llama.cpp beside this kit: a `llama` model, whose
 * blocks have the same seven matrices as CPM-Ant's, in Q8_0 or Q4_0 (groups of 32 with a scale of 16 bits).
 *
 * Only what llama.cpp needs to open it; the weights' levels are uniform random bytes under small scales.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { fillWords } from "../src/util/random.ts";

export interface GgufShape {
  readonly layers: number;
  readonly dimModel: number;
  readonly heads: number;
  readonly dimFf: number;
  readonly vocabSize: number;
  readonly context: number;
}

const types = { f32: 0, q4: 2, q8: 8 } as const;
const alignment = 32;
const groupInputs = 32;

type MetadataValue = number | { readonly f32: number } | string | readonly string[] | readonly number[] | Float32Array;

/** Bytes of N × K weights. */
export function ggufBytes(elements: number, bits: 4 | 8): number {
  return (elements / groupInputs) * (2 + (groupInputs * bits) / 8);
}

/** Writes the file; matrices are made and written one by one. */
export function writeRandomGguf(path: string, shape: GgufShape, bits: 4 | 8): void {
  const { layers, dimModel: D, heads, dimFf: F, vocabSize: V, context } = shape;
  const tensors: { name: string; rows: number; columns: number; type: number }[] = [];
  const matrix = (name: string, rows: number, columns: number) =>
    tensors.push({ name, rows, columns, type: bits === 4 ? types.q4 : types.q8 });
  const norm = (name: string) => tensors.push({ name, rows: 1, columns: D, type: types.f32 });
  matrix("token_embd.weight", V, D);
  norm("output_norm.weight");
  for (let layer = 0; layer < layers; layer++) {
    const at = `blk.${layer}.`;
    norm(`${at}attn_norm.weight`);
    for (const name of ["q", "k", "v", "output"]) matrix(`${at}attn_${name}.weight`, D, D);
    norm(`${at}ffn_norm.weight`);
    matrix(`${at}ffn_gate.weight`, F, D);
    matrix(`${at}ffn_up.weight`, F, D);
    matrix(`${at}ffn_down.weight`, D, F);
  }
  const specials = ["<unk>", "<s>", "</s>"];
  const byteOf = (i: number) => (i >= 3 && i < 259 ? i - 3 : undefined);
  const tokens = Array.from({ length: V }, (_, i) => {
    const byte = byteOf(i);
    return specials[i] ?? (byte === undefined ? `t${i}` : `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  });
  const metadata: [string, MetadataValue][] = [
    ["general.architecture", "llama"],
    ["general.name", "random"],
    ["general.file_type", bits === 4 ? 2 : 7],
    ["llama.block_count", layers],
    ["llama.context_length", context],
    ["llama.embedding_length", D],
    ["llama.feed_forward_length", F],
    ["llama.attention.head_count", heads],
    ["llama.attention.head_count_kv", heads],
    ["llama.rope.dimension_count", D / heads],
    ["llama.attention.layer_norm_rms_epsilon", { f32: 1e-6 }],
    ["llama.vocab_size", V],
    ["tokenizer.ggml.model", "llama"],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.scores", new Float32Array(V)],
    ["tokenizer.ggml.token_type", tokens.map((_, i) => (i < 3 ? 3 : byteOf(i) === undefined ? 1 : 6))],
    ["tokenizer.ggml.bos_token_id", 1],
    ["tokenizer.ggml.eos_token_id", 2],
    ["tokenizer.ggml.unknown_token_id", 0],
  ];
  const sizes = tensors.map(({ rows, columns, type }) =>
    type === types.f32 ? 4 * rows * columns : ggufBytes(rows * columns, bits),
  );
  const file = openSync(path, "w");
  try {
    const header = headerOf(tensors, sizes, metadata);
    writeSync(file, header);
    for (const [i, tensor] of tensors.entries()) {
      const bytes = new Uint8Array(padded(sizes[i]!));
      if (tensor.type === types.f32) new Float32Array(bytes.buffer, 0, D).fill(1);
      else fillGroups(bytes.subarray(0, sizes[i]), bits, i);
      writeSync(file, bytes);
    }
  } finally {
    closeSync(file);
  }
}

/** One matrix: random levels, scales of 0.005 (0x1d1f as float16). */
function fillGroups(bytes: Uint8Array, bits: 4 | 8, stream: number): void {
  const words = new Uint32Array(2 ** 18);
  fillWords(words, 1, stream);
  const pattern = new Uint8Array(words.buffer);
  for (let at = 0; at < bytes.length; at += pattern.length) {
    bytes.set(pattern.subarray(0, Math.min(pattern.length, bytes.length - at)), at);
  }
  const stride = 2 + (groupInputs * bits) / 8;
  for (let at = 0; at < bytes.length; at += stride) {
    bytes[at] = 0x1f;
    bytes[at + 1] = 0x1d;
  }
}

const padded = (bytes: number) => Math.ceil(bytes / alignment) * alignment;

function headerOf(
  tensors: readonly { name: string; rows: number; columns: number; type: number }[],
  sizes: readonly number[],
  metadata: readonly (readonly [string, MetadataValue])[],
): Uint8Array {
  const parts: Buffer[] = [];
  const u32 = (value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    parts.push(bytes);
  };
  const u64 = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    parts.push(bytes);
  };
  const f32 = (value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    parts.push(bytes);
  };
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    u64(bytes.length);
    parts.push(bytes);
  };
  parts.push(Buffer.from("GGUF"));
  u32(3);
  u64(tensors.length);
  u64(metadata.length);
  for (const [key, value] of metadata) {
    text(key);
    if (typeof value === "number") {
      u32(4);
      u32(value);
    } else if (typeof value === "string") {
      u32(8);
      text(value);
    } else if (value instanceof Float32Array) {
      u32(9);
      u32(6);
      u64(value.length);
      parts.push(Buffer.from(value.buffer));
    } else if (Array.isArray(value)) {
      u32(9);
      u32(typeof value[0] === "string" ? 8 : 5);
      u64(value.length);
      for (const item of value) typeof item === "string" ? text(item) : u32(item);
    } else {
      u32(6);
      f32((value as { f32: number }).f32);
    }
  }
  let offset = 0;
  for (const [i, { name, rows, columns, type }] of tensors.entries()) {
    text(name);
    const isVector = type === types.f32;
    u32(isVector ? 1 : 2);
    u64(columns);
    if (!isVector) u64(rows);
    u32(type);
    u64(offset);
    offset += padded(sizes[i]!);
  }
  const bytes = Buffer.concat(parts);
  return Buffer.concat([bytes, Buffer.alloc(padded(bytes.length) - bytes.length)]);
}
