/**
 * A pass over whole rows of text, layer by layer: what the prefill of prompts, scoring, hidden states and blanks have in
 * common. Between layers whoever runs it may do something else, so that a long prompt need not hold up a running batch.
 *
 * Rows begin at column 0 (soft prompt, text, padding). By default a row's text is context: all of its tokens see each
 * other. Tokens that are marked as targets are seen only by themselves and by later targets, as in training.
 *
 * Legend: B rows, T columns (the longest row), P soft prompt, M chosen positions, D width, V vocabulary.
 */
import { attentionBias } from "../model/batch.ts";
import type { ModelConfig } from "../model/config.ts";
import type { LayerCache } from "../model/cpm-ant.ts";
import { positionBuckets } from "../model/position-buckets.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { type CompiledModel, mixInput, runWeighted, type Tensors, type WeightedProgram } from "./compiled-model.ts";

/** One row's text. */
export interface PassRow {
  readonly ids: ArrayLike<number>;
  /** 1 for each token that is a target; absent: none is. */
  readonly isTarget?: Uint8Array | undefined;
  /** Weights of the deltas that the model's grafts mix, [K]; absent: none counts. */
  readonly mix?: ArrayLike<number> | undefined;
}

export interface RowPass {
  /** T, the soft prompt included: position (row, column) is row·T + column. */
  readonly columns: number;
  /** Layers that have not run. */
  readonly layersLeft: number;
  /** Runs the next layers, at most this many (default: all that are left). */
  advance(layers?: number): Promise<void>;
  /** Logits of chosen positions, [M, V]. After the last layer. */
  logits(positions: Int32Array): Promise<Float32Array>;
  /** The normalised output at chosen positions, [M, D]. After the last layer. */
  hidden(positions: Int32Array): Promise<Float32Array>;
  dispose(): void;
}

export interface PassSettings {
  readonly promptTask: number;
  readonly segment: number;
  /** K: deltas that rows have weights for. */
  readonly mixes?: number | undefined;
  /** Sees each layer's keys and values `[B, H, T, E′]` and owns them; without it they are let go. */
  readonly onCache?: ((layer: number, cache: LayerCache<DeviceTensor>) => void) | undefined;
}

/** Uploads the rows and embeds them. The rows have been checked. */
export async function beginRowPass(
  runtime: Runtime,
  config: ModelConfig,
  programs: CompiledModel,
  rows: readonly PassRow[],
  { promptTask, segment, mixes = 0, onCache }: PassSettings,
): Promise<RowPass> {
  const P = config.promptLength;
  const B = rows.length;
  const T = P + Math.max(...rows.map(({ ids }) => ids.length));
  const length = Int32Array.from(rows, ({ ids }) => P + ids.length);
  const segments = new Int32Array(B * T);
  const tokens = new Int32Array(B * (T - P));
  const seen = new Float32Array(B * T);
  const context = new Uint8Array(B * T).fill(1);
  rows.forEach(({ ids, isTarget }, row) => {
    tokens.set(ids, row * (T - P));
    segments.fill(segment, row * T + P, (row + 1) * T);
    seen.fill(1, row * T, row * T + length[row]!);
    isTarget?.forEach((flag, at) => {
      if (flag === 1) context[row * T + P + at] = 0;
    });
  });

  const owned: DeviceTensor[] = [];
  const dispose = () => {
    for (const tensor of owned.splice(0)) tensor.dispose();
  };
  const keep = (tensor: DeviceTensor): DeviceTensor => {
    owned.push(tensor);
    return tensor;
  };
  const ints = (data: Int32Array, ...shape: number[]) => keep(runtime.upload(data, "int32", shape));
  const floats = (data: Float32Array, ...shape: number[]) => keep(runtime.upload(data, "float32", shape));
  const letGo = (tensor: DeviceTensor) => {
    const at = owned.indexOf(tensor);
    if (at >= 0) owned.splice(at, 1);
    tensor.dispose();
  };

  let h: DeviceTensor;
  let common: Tensors;
  let mix: DeviceTensor | undefined;
  try {
    const promptIds = Int32Array.from({ length: B * P }, (_, i) => promptTask * P + (i % P));
    const embedded = await runWeighted(programs.prefillEmbed, {
      prompt: ints(promptIds, B, P),
      tokens: ints(tokens, B, T - P),
      segment: ints(segments, B, T),
    });
    h = keep(embedded.h!);
    const attention = { rows: B, columns: T, length, context, span: new Int32Array(B * T) };
    const { bias } = await runWeighted(programs.prefillBias, {
      buckets: ints(positionBuckets(segments, B, T, config), B, T, T),
      blocked: floats(attentionBias(attention), B, T, T),
    });
    if (mixes > 0) mix = floats(Float32Array.from(rows.flatMap((row) => mixOf(row, mixes))), B, mixes);
    common = { bias: keep(bias!), seen: floats(seen, B, T, 1) };
  } catch (error) {
    dispose();
    throw error;
  }

  let next = 0;
  const at = (positions: Int32Array) => {
    if (next < programs.layers.length) throw new Error("internal: the pass has layers left");
    return runtime.upload(positions, "int32", [positions.length]);
  };
  const read = async (program: WeightedProgram, positions: Int32Array, output: string) => {
    using chosen = at(positions);
    const outputs = await runWeighted(program, { h, positions: chosen });
    using result = outputs[output]!;
    return (await runtime.download(result)) as Float32Array;
  };

  return {
    columns: T,
    get layersLeft() {
      return programs.layers.length - next;
    },
    async advance(layers = Number.POSITIVE_INFINITY) {
      const end = Math.min(programs.layers.length, next + layers);
      while (next < end) {
        const { layer, project, finish, promptInputs } = programs.layers[next]!;
        let mixed: DeviceTensor | undefined;
        if (project) {
          const projected = await runWeighted(project, { h, ...mixInput(project, mix) });
          for (const tensor of Object.values(projected)) keep(tensor);
          const found = await programs.promptAttention.run({ ...projected, ...common, ...promptInputs });
          mixed = keep(found.mixed!);
          const layerCache = { keys: found["cache.keys"]!, values: found["cache.values"]! };
          if (onCache) onCache(layer, layerCache);
          else for (const tensor of Object.values(layerCache)) tensor.dispose();
          for (const tensor of Object.values(projected)) letGo(tensor);
        }
        const { next: stream } = await runWeighted(finish, { h, ...(mixed && { mixed }), ...mixInput(finish, mix) });
        if (mixed) letGo(mixed);
        letGo(h);
        h = keep(stream!);
        next++;
      }
    },
    logits: (positions) => read(programs.logits, positions, "logits"),
    hidden: (positions) => read(programs.hidden, positions, "hidden"),
    dispose,
  };
}

/** A row's weights of K deltas. */
export function mixOf({ mix }: Pick<PassRow, "mix">, mixes: number): number[] {
  return Array.from({ length: mixes }, (_, i) => mix?.[i] ?? 0);
}
