/**
 * Scores of continuations: ln p of each token, given a context. Requests of similar length run together in batches of bounded
 * memory; results come in the order of the requests.
 */

import type { Graph } from "../graph/index.ts";
import { hasExactByteProducts } from "../infer/byte-products.ts";
import type { WeightedProgram } from "../infer/compiled-model.ts";
import { prefillBiasProgram, prefillEmbedProgram } from "../infer/programs.ts";
import { type ModelTensors, withWeights } from "../infer/weight-ports.ts";
import { layerMask, type ModelConfig } from "../model/config.ts";
import { type Graft, type Grafts, graftBindings } from "../model/graft.ts";
import { blockParameterNames, names } from "../model/parameters.ts";
import type { DeviceTensor, Program, Runtime } from "../runtime/runtime.ts";
import { ConfigError, RuntimeError } from "../util/error.ts";
import { ownedBy } from "../util/owner.ts";
import { layOut, requestColumns, type ScoreRequest } from "./score-layout.ts";
import { scoreBlockProgram, scoreHeadProgram } from "./score-programs.ts";

export type { ScoreRequest } from "./score-layout.ts";

/** Of one continuation, token by token. */
export interface ContinuationScore {
  /** ln p, nats. */
  readonly logprobs: Float32Array;
  /** As the head gives them, before the softmax: what the original compares between rows. */
  readonly logits: Float32Array;
}

export interface ScorerOptions {
  /** Bytes that a batch's attention scores and its logits may each take. Default 96 MiB. */
  readonly batchBytes?: number | undefined;
  /** Columns of a batch at most, over all rows. Default 4096: more gains nothing on a processor. */
  readonly batchColumns?: number | undefined;
  /** Changes to the programs (a delta), whose tensors are among the parameters by name. */
  readonly grafts?: Grafts | undefined;
}

export interface Scorer {
  /** One batch at a time, the longest first. */
  score(
    requests: readonly ScoreRequest[],
    run?: {
      readonly signal?: AbortSignal | undefined;
      /** Told of each batch when it is done: which requests, and their scores. */
      readonly onBatch?: (done: readonly number[], scores: readonly (readonly ContinuationScore[])[]) => Promise<void>;
      /** Told after each batch how much of the columns is done, 0 to 1. */
      readonly onShare?: ((share: number) => void) | undefined;
    },
  ): Promise<void>;
  dispose(): void;
}

type Tensors = Record<string, DeviceTensor>;

/**
 * Compiles the programs. The parameters must outlive the scorer.
 *
 * @throws ConfigError CPM_INFER_TASK, CPM_INFER_SEGMENT at `score` where a request names what the model does not have;
 * RuntimeError CPM_EVAL_NAN where the model gives no numbers
 */
export function createScorer(
  runtime: Runtime,
  base: ModelConfig,
  parameters: ModelTensors,
  { batchBytes = 96 * 2 ** 20, batchColumns = 4096, grafts }: ScorerOptions = {},
): Promise<Scorer> {
  const config = grafts?.config ?? base;
  return ownedBy(async (owner): Promise<Scorer> => {
    const byKind = new Map<string, Program>();
    const exact = await hasExactByteProducts(runtime);
    const compile = async (graph: Graph, ports: readonly (readonly [port: string, name: string])[], graft?: Graft) => {
      const taken = new Set(graph.inputs.map(({ name }) => name));
      const all = [...ports, ...Object.entries(graftBindings(graft, (name) => name))];
      const bound = withWeights(
        graph,
        all.filter(([port]) => taken.has(port)),
        parameters,
        exact,
      );
      const kind = `${graph.name} ${bound.formats} ${graft?.key ?? ""}`;
      const program = byKind.get(kind) ?? owner.own(await runtime.compile(bound.graph));
      byKind.set(kind, program);
      return { program, weights: bound.given };
    };
    const token = ["params.token", names.token] as const;
    const embed = await compile(
      prefillEmbedProgram(config, grafts?.embed),
      [token, ["params.prompt", names.prompt], ["params.segment", names.segment]],
      grafts?.embed,
    );
    const bias = await compile(prefillBiasProgram(config), [["table", names.positionBias]]);
    const norm = ["params.norm", names.outputNorm] as const;
    const head = await compile(scoreHeadProgram(config, grafts?.head), [norm, token], grafts?.head);
    const layers: WeightedProgram[] = [];
    for (let layer = 0; layer < config.layers; layer++) {
      const mask = layerMask(config, layer);
      if (mask[0] && mask[1]) continue;
      const graft = grafts?.blocks[layer];
      const ports = blockParameterNames(layer, mask).map(([path, name]) => [`params.${path}`, name] as const);
      layers.push(await compile(scoreBlockProgram(config, mask, graft), ports, graft));
    }

    async function run(requests: readonly ScoreRequest[]): Promise<ContinuationScore[][]> {
      const layout = layOut(requests, config);
      const { rows, columns } = layout;
      const alive = new Set<DeviceTensor>();
      const keep = (tensor: DeviceTensor): DeviceTensor => {
        alive.add(tensor);
        return tensor;
      };
      const drop = (tensor: DeviceTensor) => {
        alive.delete(tensor);
        tensor.dispose();
      };
      const ints = (data: Int32Array, ...shape: number[]) => keep(runtime.upload(data, "int32", shape));
      const floats = (data: Float32Array, ...shape: number[]) => keep(runtime.upload(data, "float32", shape));
      const call = async ({ program, weights }: WeightedProgram, inputs: Tensors): Promise<Tensors> => {
        // A block without attention reads no bias.
        const all: Tensors = { ...weights, ...inputs };
        const outputs = await program.run(Object.fromEntries(program.inputs.map(({ name }) => [name, all[name]!])));
        for (const tensor of Object.values(outputs)) keep(tensor);
        return outputs;
      };
      try {
        const P = config.promptLength;
        const { h: first } = await call(embed, {
          prompt: ints(layout.promptIds, rows, P),
          tokens: ints(layout.tokens, rows, columns - P),
          segment: ints(layout.segment, rows, columns),
        });
        const buckets = ints(layout.buckets, rows, columns, columns);
        const blocked = floats(layout.blocked, rows, columns, columns);
        const { bias: scoreBias } = await call(bias, { buckets, blocked });
        drop(buckets);
        drop(blocked);
        const seen = floats(layout.seen, rows, columns, 1);
        let h = first!;
        for (const layer of layers) {
          const { next } = await call(layer, { h, bias: scoreBias!, seen });
          drop(h);
          h = next!;
        }
        drop(scoreBias!);
        const { positions, targets } = layout;
        const logits = new Float32Array(targets.length);
        const logprobs = new Float32Array(targets.length);
        const chunk = Math.max(1, Math.floor(batchBytes / (4 * config.vocabSize)));
        for (let from = 0; from < targets.length; from += chunk) {
          const count = Math.min(chunk, targets.length - from);
          const outputs = await call(head, {
            h,
            positions: ints(positions.slice(from, from + count), count),
            tokens: ints(targets.slice(from, from + count), count),
          });
          const logit = (await runtime.download(outputs.logit!)) as Float32Array;
          const logZ = (await runtime.download(outputs.logZ!)) as Float32Array;
          for (let i = 0; i < count; i++) {
            logits[from + i] = logit[i]!;
            logprobs[from + i] = logit[i]! - logZ[i]!;
          }
        }
        const bad = logprobs.findIndex((value) => !Number.isFinite(value));
        if (bad >= 0) {
          throw new RuntimeError("CPM_EVAL_NAN", "the model gave something that is not a finite number", {
            got: String(logprobs[bad]),
            hint: "Check the weights for NaN and infinity, and that the config belongs to them.",
          });
        }
        let at = 0;
        return requests.map(({ continuations }) =>
          continuations.map(({ length }) => {
            const score = { logprobs: logprobs.slice(at, at + length), logits: logits.slice(at, at + length) };
            at += length;
            return score;
          }),
        );
      } finally {
        for (const tensor of alive) tensor.dispose();
      }
    }

    return {
      async score(requests, { signal, onBatch, onShare } = {}) {
        for (const request of requests) checkRequest(request, config);
        const sizes = requests.map((request) => requestColumns(request, config.promptLength));
        const all = sizes.reduce((sum, size) => sum + size, 0);
        let done = 0;
        for (const batch of batchesByLength(sizes, { batchColumns, batchBytes, heads: config.heads })) {
          signal?.throwIfAborted();
          const scores = await run(batch.map((index) => requests[index]!));
          await onBatch?.(batch, scores);
          for (const index of batch) done += sizes[index]! / all;
          onShare?.(Math.min(1, done));
        }
      },
      dispose: () => owner.dispose(),
    };
  });
}

/**
 * Groups of similar length, the longest first: what does not fit into memory is known at once, and the remaining time is
 * overestimated rather than underestimated.
 */
export function batchesByLength(
  sizes: readonly number[],
  { batchColumns, batchBytes, heads }: { batchColumns: number; batchBytes: number; heads: number },
): number[][] {
  const order = sizes.map((_, index) => index).sort((a, b) => sizes[b]! - sizes[a]! || a - b);
  const batches: number[][] = [];
  for (let from = 0; from < order.length; ) {
    const columns = sizes[order[from]!]!;
    const byColumns = Math.floor(batchColumns / columns);
    const byBytes = Math.floor(batchBytes / ((heads + 2) * columns * columns * 4));
    const rows = Math.max(1, Math.min(byColumns, byBytes));
    batches.push(order.slice(from, from + rows));
    from += rows;
  }
  return batches;
}

function checkRequest({ promptTask, segment, context, continuations }: ScoreRequest, config: ModelConfig): void {
  if (promptTask >= config.promptTypes) {
    throw new ConfigError("CPM_INFER_TASK", "there is no such soft prompt", {
      got: String(promptTask),
      expected: `0 to ${config.promptTypes - 1}`,
    });
  }
  if (segment < 1 || segment >= config.segmentTypes) {
    throw new ConfigError("CPM_INFER_SEGMENT", "text cannot be of this segment", {
      got: String(segment),
      expected: `1 to ${config.segmentTypes - 1}`,
    });
  }
  if (context.length === 0 || continuations.some(({ length }) => length === 0)) {
    throw new Error("internal: a context or continuation without tokens");
  }
}
