/**
 * Keys and values of 8 bits: of each row, head and position E int8 and one float32 scale, which is the largest entry / 127. A
 * quarter of float32's memory and some half of float16's.
 *
 * ONNX Runtime's cached attention takes 8 bits only with scales that are the same for all positions and known beforehand. So
 * attention over these runs in the thread that decodes (`packed-attention.ts`), between a layer's programs.
 *
 * Layout of a layer: keys [R, H, S, E] int8, their scales [R, H, S] float32, values and their scales likewise; E is the head's width
 * rounded up to 16, S too.
 */
import type { ModelConfig } from "../model/config.ts";
import { layerMask } from "../model/config.ts";
import type { LayerCache } from "../model/cpm-ant.ts";
import type { DeviceTensor } from "../runtime/runtime.ts";
import { ConfigError } from "../util/error.ts";
import { createWasmMemory } from "../util/wasm.ts";
import type { KeyValueCache } from "./key-value-cache.ts";
import { createPackedAttention, scratchBytes } from "./packed-attention.ts";

/** New tokens of rows: what they bring, and where what they see is to go. Legend: R rows, Q places for tokens of a row. */
export interface NewTokens {
  /** [R, Q, H·E] each. */
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly mixed: Float32Array;
  /** Q */
  readonly width: number;
  /** Of each row, how many of its places hold tokens. */
  readonly counts: readonly number[];
  /** Of each row, the slot of its newest token. */
  readonly last: Int32Array;
}

/** A cache whose attention is its own. */
export interface PackedCache extends KeyValueCache {
  /** Before the layers of a pass: what is added to scores, [R, H, Q, S] with the slots of the session. */
  setBias(bias: Float32Array, rows: number, width: number): void;
  /** Adds the tokens' keys and values to a layer, and mixes what each of them sees: what is before it, and itself. */
  attend(layer: number, tokens: NewTokens): void;
}

/** E rounded up. */
function packedWidth(config: ModelConfig): number {
  return Math.ceil(config.dimHead / 16) * 16;
}

/** Of keys and values of a token in one layer with attention. */
export function packedBytesPerToken(config: ModelConfig): number {
  return 2 * config.heads * (packedWidth(config) + 4);
}

const pageBytes = 65536;
/** What WebAssembly can address. */
const mostBytes = 2 ** 32 - pageBytes;

/** @param biasTokens tokens of all rows together that one pass may have at most */
export function createPackedCache(
  config: ModelConfig,
  rowCapacity: number,
  slots: number,
  biasTokens: number,
): PackedCache {
  const { heads: H, dimHead } = config;
  const E = packedWidth(config);
  const S = Math.ceil(slots / 16) * 16;
  const layers = Array.from({ length: config.layers }, (_, layer) => layer).filter(
    (layer) => !layerMask(config, layer)[0],
  );
  const codes = rowCapacity * H * S * E;
  const scales = rowCapacity * H * S * 4;
  const biasAt = Math.ceil(scratchBytes(S, E) / 16) * 16;
  const firstAt = biasAt + Math.ceil((biasTokens * H * slots * 4) / 16) * 16;
  const bytes = firstAt + layers.length * 2 * (codes + scales);
  if (bytes > mostBytes) {
    throw new ConfigError("CPM_INFER_MEMORY", "keys and values of 8 bits take more than 4 GiB", {
      got: `${Math.ceil(bytes / 2 ** 20)} MiB for ${rowCapacity} rows of ${slots} tokens`,
      hint: "Decode fewer rows or shorter texts, or keep keys and values in float16.",
    });
  }
  const memory = createWasmMemory(Math.ceil(bytes / pageBytes));
  const attention = createPackedAttention(memory, 0, S, E);
  const biasView = new Float32Array(memory.buffer, biasAt, biasTokens * H * slots);
  const parts = new Map(
    layers.map((layer, index) => {
      const at = firstAt + index * 2 * (codes + scales);
      const part = (start: number) => ({
        codesAt: start,
        scalesAt: start + codes,
        codes: new Int8Array(memory.buffer, start, codes),
        scales: new Float32Array(memory.buffer, start + codes, rowCapacity * H * S),
      });
      return [layer, { keys: part(at), values: part(at + codes + scales) }] as const;
    }),
  );
  type Part = NonNullable<ReturnType<typeof parts.get>>["keys"];

  /** Rounds `length` numbers of a head at a slot; the rest of its width stays zero. */
  function pack(source: Float32Array, from: number, length: number, part: Part, place: number): void {
    let most = 0;
    for (let i = from; i < from + length; i++) most = Math.max(most, Math.abs(source[i]!));
    const step = most > 0 ? 127 / most : 0;
    const to = place * E - from;
    for (let i = from; i < from + length; i++) part.codes[to + i] = Math.round(source[i]! * step);
    part.scales[place] = most / 127;
  }

  const everyPart = () => [...parts.values()].flatMap(({ keys, values }) => [keys, values]);
  const save = (row: number, length: number) =>
    everyPart().flatMap(({ codes, scales }) => {
      const savedCodes = new Int8Array(H * length * E);
      const savedScales = new Float32Array(H * length);
      for (let head = 0; head < H; head++) {
        const place = (row * H + head) * S;
        savedCodes.set(codes.subarray(place * E, (place + length) * E), head * length * E);
        savedScales.set(scales.subarray(place, place + length), head * length);
      }
      return [savedCodes, savedScales];
    });
  const load: PackedCache["load"] = (row, length, saved) => {
    everyPart().forEach(({ codes, scales }, index) => {
      for (let head = 0; head < H; head++) {
        const place = (row * H + head) * S;
        codes.set(saved[2 * index]!.subarray(head * length * E, (head + 1) * length * E), place * E);
        scales.set(saved[2 * index + 1]!.subarray(head * length, (head + 1) * length), place);
      }
    });
  };

  return {
    rowCapacity,
    set: 0,
    layers: [],
    store(layer, cache: LayerCache<DeviceTensor>, lengths, firstRow = 0) {
      const own = parts.get(layer)!;
      for (const name of ["keys", "values"] as const) {
        const source = cache[name].view() as Float32Array;
        const [, , T, width] = cache[name].shape as [number, number, number, number];
        lengths.forEach((length, row) => {
          for (let head = 0; head < H; head++) {
            for (let slot = 0; slot < length; slot++) {
              const from = ((row * H + head) * T + slot) * width;
              pack(source, from, dimHead, own[name], ((firstRow + row) * H + head) * S + slot);
            }
          }
        });
      }
    },
    copy(from, to, length) {
      for (const { codes, scales } of everyPart()) {
        for (let head = 0; head < H; head++) {
          const [source, target] = [(from * H + head) * S, (to * H + head) * S];
          codes.copyWithin(target * E, source * E, (source + length) * E);
          scales.copyWithin(target, source, source + length);
        }
      }
    },
    save,
    load,
    reorder(sources, lengths) {
      const moved = [...sources].flatMap((source, row) =>
        source === row ? [] : [{ row, saved: save(source, lengths[row]!) }],
      );
      for (const { row, saved } of moved) load(row, lengths[row]!, saved);
    },
    setBias(bias, rows, width) {
      biasView.set(bias.subarray(0, rows * width * H * slots));
    },
    attend(layer, { q, k, v, mixed, width, counts, last }) {
      const { keys, values } = parts.get(layer)!;
      const scale = 1 / Math.sqrt(dimHead);
      counts.forEach((count, row) => {
        for (let token = 0; token < count; token++) {
          const slot = last[row]! - count + 1 + token;
          for (let head = 0; head < H; head++) {
            const from = ((row * width + token) * H + head) * dimHead;
            const first = (row * H + head) * S;
            pack(k, from, dimHead, keys, first + slot);
            pack(v, from, dimHead, values, first + slot);
            const places = {
              keys: keys.codesAt + first * E,
              keyScales: keys.scalesAt + 4 * first,
              values: values.codesAt + first * E,
              valueScales: values.scalesAt + 4 * first,
              // Queries of a row lie close together, whatever its places.
              bias: biasAt + 4 * slots * (row * width * H + head * count + token),
            };
            const seen = attention.attend(q.subarray(from, from + dimHead), places, slot + 1, scale);
            mixed.set(dimHead === E ? seen : seen.subarray(0, dimHead), from);
          }
        }
      });
    },
    // Its memory is the garbage collector's.
    dispose() {},
  };
}
