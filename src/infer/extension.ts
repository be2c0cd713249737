/**
 * Several new tokens a row in one pass over the model: what verifies drafted tokens, feeds text after a cached beginning
 * and scores given texts. The weights are read once for all tokens, so a few more cost little.
 *
 * Explicit products over the cache rather than the fused attention of a token step, which takes several tokens for one
 * row only. The new keys and values are copied into the cache behind the pass.
 */
import type { ModelConfig } from "../model/config.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { type CompiledModel, runWeighted } from "./compiled-model.ts";
import type { KeyValueCache } from "./key-value-cache.ts";
import type { DecodeBias } from "./score-bias.ts";

/** Where and how tokens are added. */
export interface ExtensionContext {
  readonly runtime: Runtime;
  readonly config: ModelConfig;
  readonly programs: CompiledModel;
  readonly cache: KeyValueCache;
  readonly bias: DecodeBias;
  readonly segment: number;
  /** Tokens of a row that one pass takes. */
  readonly passTokens: number;
}

/**
 * Adds tokens behind the `lengths[row]` slots in use of each row, in as many passes as it takes. Resolves to the logits
 * after all of them or after each row's last one, row after row, `[M, V]` (see `DecodingSession.extend`).
 */
export async function extendRows(
  context: ExtensionContext,
  lengths: Int32Array,
  tokens: readonly ArrayLike<number>[],
  wanted: "all" | "last",
): Promise<Float32Array> {
  const { passTokens } = context;
  const V = context.config.vocabSize;
  const counts = tokens.map((own) => (wanted === "all" ? own.length : Math.min(own.length, 1)));
  // Where each row's logits begin in the result.
  const starts: number[] = [];
  let total = 0;
  for (const count of counts) {
    starts.push(total);
    total += count;
  }
  const result = new Float32Array(total * V);
  const reached = lengths.slice();
  const longest = Math.max(...tokens.map((own) => own.length));
  for (let from = 0; from < longest; from += passTokens) {
    const chunk = tokens.map((own) => Array.from(own).slice(from, from + passTokens));
    const width = Math.max(...chunk.map((own) => own.length));
    const positions: number[] = [];
    const targets: number[] = [];
    chunk.forEach((own, row) => {
      for (let i = 0; i < own.length; i++) {
        if (wanted === "last" && from + i !== tokens[row]!.length - 1) continue;
        positions.push(row * width + i);
        targets.push(starts[row]! + (wanted === "all" ? from + i : 0));
      }
    });
    const logits = await extendOnce(context, reached, chunk, Int32Array.from(positions));
    targets.forEach((target, at) => {
      result.set(logits!.subarray(at * V, (at + 1) * V), target * V);
    });
    chunk.forEach((own, row) => {
      reached[row]! += own.length;
    });
  }
  return result;
}

/**
 * One pass, whose keys and values are put into the cache. `wanted` are positions `row · Q + i`, with Q the most tokens of a
 * row; resolves to their logits, or to undefined if there are none.
 */
async function extendOnce(
  { runtime, config, programs, cache, bias, segment }: ExtensionContext,
  lengths: Int32Array,
  tokens: readonly (readonly number[])[],
  wanted: Int32Array,
): Promise<Float32Array | undefined> {
  const rows = tokens.length;
  const counts = Int32Array.from(tokens, (own) => own.length);
  const Q = Math.max(...counts);
  const { slots } = cache;
  const ids = new Int32Array(rows * Q);
  tokens.forEach((own, row) => {
    ids.set(own, row * Q);
  });
  const temporary: DeviceTensor[] = [];
  const keep = (tensor: DeviceTensor): DeviceTensor => {
    temporary.push(tensor);
    return tensor;
  };
  const ints = (data: Int32Array, ...shape: number[]) => keep(runtime.upload(data, "int32", shape));
  try {
    const { h: first } = await runWeighted(programs.decodeEmbed, {
      tokens: ints(ids, rows, Q),
      segments: ints(new Int32Array(rows * Q).fill(segment), rows, Q),
    });
    const scoreBias = keep(runtime.allocate("float32", [rows, config.heads, Q, slots + Q]));
    bias.fillExtension(scoreBias.view() as Float32Array, lengths, Q);
    let h = keep(first!);
    for (const { layer, project, finish } of programs.layers) {
      const own = cache.layers[layer];
      let mixed: DeviceTensor | undefined;
      if (project && own) {
        const projected = await runWeighted(project, { h });
        for (const tensor of Object.values(projected)) keep(tensor);
        using keys = part(own.keys, rows);
        using values = part(own.values, rows);
        const given = { ...projected, "cache.keys": keys, "cache.values": values, bias: scoreBias };
        const found = await programs.extendedAttention.run(given);
        using addedKeys = found["added.keys"]!;
        using addedValues = found["added.values"]!;
        cache.append(layer, { keys: addedKeys, values: addedValues }, counts, lengths);
        mixed = keep(found.mixed!);
      }
      const { next } = await runWeighted(finish, mixed ? { h, mixed } : { h });
      h = keep(next!);
    }
    if (wanted.length === 0) return undefined;
    const { logits } = await runWeighted(programs.logits, { h, positions: ints(wanted, wanted.length) });
    return (await runtime.download(keep(logits!))) as Float32Array;
  } finally {
    for (const tensor of temporary) tensor.dispose();
  }
}

function part(tensor: DeviceTensor, rows: number): DeviceTensor {
  return tensor.alias([rows, ...tensor.shape.slice(1)]);
}
