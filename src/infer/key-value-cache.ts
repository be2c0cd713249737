/**
 * Keys and values of all layers for a batch of rows, `[R, H, S, E′]` each, in two sets that take turns when rows change
 * places.
 *
 * Every row starts at slot 0 and has its own length, so rows of unequal prompts share a batch without padding between
 * prompt and text: in this model the position bias across segments knows no distance, so where a text's row is padded
 * makes no difference to it.
 */
import type { ModelConfig } from "../model/config.ts";
import { layerMask } from "../model/config.ts";
import { cacheWidth, type LayerCache } from "../model/cpm-ant.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { float32ToFloat16 } from "../util/float16.ts";
import { packedBytesPerToken } from "./packed-cache.ts";
import type { CacheType, TensorCacheType } from "./programs.ts";

/** Host memory of keys or values: float16 as bit patterns. */
type CacheArray = Float32Array | Uint16Array;
/** What a row's state is saved in: of 8 bits, numbers and their scales. */
export type SavedPart = CacheArray | Int8Array;

export interface KeyValueCache {
  /** Rows that fit. */
  readonly rowCapacity: number;
  /** 0 or 1: which set of memory is current. Bindings to the caches hold for one set. */
  readonly set: number;
  /** The current caches by layer, undefined for layers without attention; none where the cache has attention of its own. */
  readonly layers: readonly (LayerCache<DeviceTensor> | undefined)[];
  /**
   * Copies prompts' keys and values `[B, H, T, E′]` of a layer to slots 0 … `lengths[i]` − 1 of row `firstRow` + i.
   */
  store(layer: number, cache: LayerCache<DeviceTensor>, lengths: Int32Array, firstRow?: number): void;
  /** Row `to` becomes what row `from` is, of whose slots the first `length` count. In place. */
  copy(from: number, to: number, length: number): void;
  /** The first slots of a row as copies `[H, length, …]`: keys, then values, of each layer that has them. */
  save(row: number, length: number): SavedPart[];
  /** Fills the first slots of a row with what `save` gave. */
  load(row: number, length: number, parts: readonly SavedPart[]): void;
  /** Row i becomes what row `sources[i]` was, of whose slots the first `lengths[i]` count. */
  reorder(sources: Int32Array, lengths: Int32Array): void;
  dispose(): void;
}

/** Bytes of a token's keys and values in all layers. */
export function cacheBytesPerToken(config: ModelConfig, type: CacheType = "float32"): number {
  let attentions = 0;
  for (let layer = 0; layer < config.layers; layer++) if (!layerMask(config, layer)[0]) attentions++;
  if (type === "int8") return attentions * packedBytesPerToken(config);
  return 2 * attentions * config.heads * cacheWidth(config) * (type === "float16" ? 2 : 4);
}

export function createKeyValueCache(
  runtime: Runtime,
  config: ModelConfig,
  rowCapacity: number,
  slots: number,
  type: TensorCacheType = "float32",
): KeyValueCache {
  const { heads: H } = config;
  const E = cacheWidth(config);
  const allocateSet = () =>
    Array.from({ length: config.layers }, (_, layer): LayerCache<DeviceTensor> | undefined => {
      if (layerMask(config, layer)[0]) return undefined;
      const tensor = () => runtime.allocate(type, [rowCapacity, H, slots, E]);
      return { keys: tensor(), values: tensor() };
    });
  const sets = [allocateSet()];
  let current = 0;

  /** Copies the first slots of a row's every head. */
  const copyRow = (
    from: CacheArray,
    fromSlots: number,
    fromRow: number,
    to: CacheArray,
    toRow: number,
    count: number,
  ) => {
    for (let head = 0; head < H; head++) {
      const source = (fromRow * H + head) * fromSlots * E;
      const part = from.subarray(source, source + count * E);
      // Prompts are read in float32.
      const fitting = part instanceof Float32Array && to instanceof Uint16Array ? float32ToFloat16(part) : part;
      to.set(fitting, (toRow * H + head) * slots * E);
    }
  };

  const views = () =>
    sets[current]!.flatMap((cache) =>
      cache === undefined ? [] : [cache.keys.view() as CacheArray, cache.values.view() as CacheArray],
    );

  return {
    rowCapacity,
    get set() {
      return current;
    },
    get layers() {
      return sets[current]!;
    },
    store(layer, cache, lengths, firstRow = 0) {
      const own = sets[current]![layer]!;
      for (const part of ["keys", "values"] as const) {
        const from = cache[part].view() as CacheArray;
        const to = own[part].view() as CacheArray;
        lengths.forEach((length, row) => {
          copyRow(from, cache[part].shape[2]!, row, to, firstRow + row, length);
        });
      }
    },
    copy(from, to, length) {
      for (const cache of sets[current]!) {
        if (cache === undefined) continue;
        for (const part of ["keys", "values"] as const) {
          const view = cache[part].view() as CacheArray;
          copyRow(view, slots, from, view, to, length);
        }
      }
    },
    save: (row, length) =>
      views().map((view) => {
        const part = type === "float16" ? new Uint16Array(H * length * E) : new Float32Array(H * length * E);
        for (let head = 0; head < H; head++) {
          const source = (row * H + head) * slots * E;
          part.set(view.subarray(source, source + length * E), head * length * E);
        }
        return part;
      }),
    load(row, length, parts) {
      views().forEach((view, index) => {
        copyRow(parts[index] as CacheArray, length, 0, view, row, length);
      });
    },
    reorder(sources, lengths) {
      if (sources.every((source, row) => source === row)) return;
      sets[1] ??= allocateSet();
      const [from, to] = [sets[current]!, sets[1 - current]!];
      from.forEach((cache, layer) => {
        if (cache === undefined) return;
        for (const part of ["keys", "values"] as const) {
          const source = cache[part].view() as CacheArray;
          const target = to[layer]![part].view() as CacheArray;
          sources.forEach((row, at) => {
            copyRow(source, slots, row, target, at, lengths[at]!);
          });
        }
      });
      current = 1 - current;
    },
    dispose() {
      for (const set of sets) {
        for (const cache of set) {
          cache?.keys.dispose();
          cache?.values.dispose();
        }
      }
    },
  };
}
