/**
 * A pass of new tokens behind what is cached of each row: one token a row, or several at once, the same number or not.
 *
 * Programs are bound to memory once for each form (how many rows, how many tokens of each) and run again. What holds
 * weights runs over all rows together; the fused attention takes either one token of each of all rows, or several of one
 * row, so rows with several have their attention one after the other.
 */
import type { ModelConfig } from "../model/config.ts";
import type { Binding, DeviceTensor, Runtime } from "../runtime/runtime.ts";
import { type CompiledModel, mixInput, type Tensors, type WeightedProgram } from "./compiled-model.ts";
import type { KeyValueCache } from "./key-value-cache.ts";
import type { PackedCache } from "./packed-cache.ts";
import { type BindingSequence, bindingSequence } from "./run-bindings.ts";
import type { DecodeBias } from "./score-bias.ts";

export interface TokenStep {
  /**
   * Feeds tokens behind the `lengths[row]` slots in use of each row, some row at least one. Resolves to the logits after
   * each of them, row after row, or after each row's last one (see `DecodingSession.extend`), in memory that the next
   * call overwrites.
   */
  run(
    cache: KeyValueCache | PackedCache,
    lengths: Int32Array,
    tokens: readonly ArrayLike<number>[],
    wanted: "all" | "last",
    /** Each row's weights of the deltas that are mixed, [rows · K]. */
    mixes?: Float32Array,
  ): Promise<Float32Array>;
  /** Lets go of memory and bindings. Call it before the cache that they are bound to is disposed. */
  release(): void;
}

/** Programs bound for one form of step. */
interface Form {
  readonly bindings: readonly Binding[];
  readonly sequence: BindingSequence;
  readonly logits: DeviceTensor;
  readonly parts: readonly DeviceTensor[];
}

/** A step in the host's own code among those of programs. */
function hostBinding(run: () => void): Binding {
  return { run: async () => run(), runSync: run, dispose: () => {} };
}

/** Forms that are kept: enough for any number of drafted tokens of a few rows. */
const maxForms = 64;

export function createTokenStep(
  runtime: Runtime,
  config: ModelConfig,
  programs: CompiledModel,
  bias: DecodeBias,
  {
    slots,
    segment,
    mixes: K = 0,
  }: { readonly slots: number; readonly segment: number; readonly mixes?: number | undefined },
): TokenStep {
  const { heads: H, dimModel: D, vocabSize: V } = config;
  const HE = H * config.dimHead;
  const forms = new Map<string, Form>();
  /** Memory for `capacity` tokens. */
  let memory: Readonly<Record<string, DeviceTensor>> = {};
  let capacity = 0;

  const releaseForms = () => {
    for (const { bindings, parts } of forms.values()) for (const thing of [...bindings, ...parts]) thing.dispose();
    forms.clear();
  };
  const release = () => {
    releaseForms();
    for (const tensor of Object.values(memory)) tensor.dispose();
    memory = {};
    capacity = 0;
  };

  function ensureMemory(tokens: number): void {
    if (capacity >= tokens) return;
    release();
    const int = () => runtime.allocate("int32", [tokens]);
    const float = (...shape: number[]) => runtime.allocate("float32", [tokens, ...shape]);
    memory = {
      tokens: int(),
      segments: int(),
      last: int(),
      positions: int(),
      bias: float(H, slots),
      h0: float(D),
      h1: float(D),
      q: float(HE),
      k: float(HE),
      v: float(HE),
      mixed: float(HE),
      logits: float(V),
      ...(K > 0 && { mix: float(K) }),
    };
    capacity = tokens;
    runtime.write(memory.segments!, new Int32Array(tokens).fill(segment));
  }

  /** Binds a step of `counts[row]` tokens a row, laid out with `width` places each, with logits of `chosen` of them. */
  function bindForm(
    cache: KeyValueCache | PackedCache,
    counts: readonly number[],
    width: number,
    chosen: number,
  ): Form {
    const rows = counts.length;
    const parts: DeviceTensor[] = [];
    const bindings: Binding[] = [];
    /** A part of the memory of this name, from element `first` on. */
    const part = (tensor: DeviceTensor, shape: readonly number[], first = 0): DeviceTensor => {
      const elementBytes = tensor.byteLength / tensor.shape.reduce((a, b) => a * b, 1);
      const alias = tensor.alias(shape, first * elementBytes);
      parts.push(alias);
      return alias;
    };
    const of = (name: string, ...shape: number[]) => part(memory[name]!, shape);
    const mix = K > 0 ? of("mix", rows, K) : undefined;
    const bind = (weighted: WeightedProgram, inputs: Tensors, outputs: Tensors) =>
      bindings.push(weighted.program.bind({ ...weighted.weights, ...inputs, ...mixInput(weighted, mix) }, outputs));
    const stream = (name: string, size: number) => of(name, rows, width, size);

    let [h, next] = [stream("h0", D), stream("h1", D)];
    const projected = { q: stream("q", HE), k: stream("k", HE), v: stream("v", HE) };
    const mixed = stream("mixed", HE);
    /** The whole pass's attention, over a cache that has its own. */
    const attendAll = (packed: PackedCache, layer: number) => {
      const [q, k, v] = [projected.q, projected.k, projected.v].map((tensor) => tensor.view() as Float32Array) as [
        Float32Array,
        Float32Array,
        Float32Array,
      ];
      const tokens = {
        q,
        k,
        v,
        mixed: mixed.view() as Float32Array,
        width,
        counts,
        last: memory.last!.view() as Int32Array,
      };
      bindings.push(hostBinding(() => packed.attend(layer, tokens)));
    };
    /** The rows from `row` on, as many as `count`, with `columns` tokens each: their part of attention. */
    const attend = (layer: number, row: number, count: number, columns: number) => {
      const own = cache.layers[layer]!;
      const ofRows = (tensor: DeviceTensor, ...shape: number[]) =>
        part(tensor, [count, ...shape], row * tensor.shape.slice(1).reduce((a, b) => a * b, 1));
      const inRows = (tensor: DeviceTensor) => part(tensor, [count, columns, HE], row * width * HE);
      const [keys, values] = [own.keys, own.values].map((tensor) => ofRows(tensor, ...tensor.shape.slice(1)));
      bindings.push(
        programs.cachedAttention!.bind(
          {
            q: inRows(projected.q),
            k: inRows(projected.k),
            v: inRows(projected.v),
            last: part(memory.last!, [count], row),
            bias: part(memory.bias!, [count, H, columns, slots], row * width * H * slots),
            "cache.keys": keys!,
            "cache.values": values!,
          },
          { mixed: inRows(mixed), "updated.keys": keys!, "updated.values": values! },
        ),
      );
    };
    const together = width === 1 && counts.every((count) => count === 1);
    const ids = { tokens: of("tokens", rows, width), segments: of("segments", rows, width) };
    const positions = of("positions", chosen);
    const logits = of("logits", chosen, V);

    if (programs.decodeStep && (together || rows === 1)) {
      const caches: Record<string, DeviceTensor> = {};
      const updated: Record<string, DeviceTensor> = {};
      cache.layers.forEach((own, layer) => {
        for (const name of own ? (["keys", "values"] as const) : []) {
          const tensor = own![name];
          const ofRows = part(tensor, [rows, ...tensor.shape.slice(1)]);
          caches[`caches.layer${layer}.${name}`] = ofRows;
          updated[`updated.layer${layer}.${name}`] = ofRows;
        }
      });
      const context = { last: of("last", rows), bias: of("bias", rows, H, width, slots), positions };
      bind(programs.decodeStep, { ...ids, ...context, ...caches }, { logits, ...updated });
      return { bindings, sequence: bindingSequence(bindings), logits, parts };
    }
    bind(programs.decodeEmbed, ids, { h });
    for (const { layer, project, finish } of programs.layers) {
      if (project) {
        bind(project, { h }, projected);
        if ("attend" in cache) attendAll(cache, layer);
        else if (together) attend(layer, 0, rows, 1);
        else {
          counts.forEach((count, row) => {
            if (count > 0) attend(layer, row, 1, count);
          });
        }
      }
      bind(finish, project ? { h, mixed } : { h }, { next });
      [h, next] = [next, h];
    }
    bind(programs.logits, { h, positions }, { logits });
    return { bindings, sequence: bindingSequence(bindings), logits, parts };
  }

  return {
    async run(cache, lengths, tokens, wanted, mixes) {
      const counts = tokens.map((own) => own.length);
      const width = Math.max(...counts);
      ensureMemory(Math.max(counts.length * width, cache.rowCapacity));
      const ids = new Int32Array(counts.length * width);
      const biases = memory.bias!.view() as Float32Array;
      const last = lengths.map((length, row) => length + counts[row]! - 1);
      const positions: number[] = [];
      counts.forEach((count, row) => {
        ids.set(tokens[row]!, row * width);
        bias.fill(biases.subarray(row * width * H * slots), last.subarray(row, row + 1), count);
        const first = wanted === "all" ? 0 : Math.max(0, count - 1);
        for (let i = first; i < count; i++) positions.push(row * width + i);
      });
      const key = [cache.set, positions.length, ...counts].join(" ");
      let form = forms.get(key);
      if (form === undefined) {
        if (forms.size >= maxForms) releaseForms();
        form = bindForm(cache, counts, width, positions.length);
        forms.set(key, form);
      }
      if ("setBias" in cache) cache.setBias(biases, counts.length, width);
      runtime.write(memory.tokens!, ids);
      if (K > 0 && mixes) runtime.write(memory.mix!, mixes);
      runtime.write(memory.last!, last);
      runtime.write(memory.positions!, Int32Array.from(positions));
      await form.sequence.run();
      return form.logits.view() as Float32Array;
    },
    release,
  };
}
