/** What an evaluation needs of a model: something that scores, something that writes, and a name for its weights. */
import { createHash } from "node:crypto";
import { createCpmAntSession, type TextModel } from "../infer/index.ts";
import type { DecodingSession } from "../infer/session.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Grafts } from "../model/graft.ts";
import type { DeviceTensor, Runtime } from "../runtime/runtime.ts";
import type { Tokenizer } from "../tokenizer/index.ts";
import { createScorer, type Scorer, type ScorerOptions } from "./scorer.ts";

export interface EvaluatedModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  /** What reports call it. */
  readonly name: string;
  /** Digest of the weights, and of whatever else decides what the model says. */
  readonly digest: string;
  createScorer(options?: ScorerOptions): Promise<Scorer>;
  createSession(options: {
    readonly capacityTokens: number;
    readonly promptTask: number;
    readonly segment: number;
    readonly rowCapacity: number;
  }): Promise<DecodingSession>;
}

/**
 * A model as it lies on a runtime. It must outlive what is made of it.
 *
 * @param options.grafts of a delta, whose tensors are among the parameters by name
 */
export async function evaluatedModel(
  runtime: Runtime,
  { config, tokenizer, parameters }: TextModel,
  { name, grafts }: { readonly name: string; readonly grafts?: Grafts | undefined },
): Promise<EvaluatedModel> {
  return {
    config: grafts?.config ?? config,
    tokenizer,
    name,
    digest: await weightsDigest(runtime, parameters, grafts),
    createScorer: (options) => createScorer(runtime, config, parameters, { ...options, grafts }),
    createSession: (options) => createCpmAntSession(runtime, config, parameters, { ...options, grafts }),
  };
}

/** What the programs are changed by, and then SHA-256 over names, shapes and bytes in the order of names. */
export async function weightsDigest(
  runtime: Runtime,
  parameters: ReadonlyMap<string, DeviceTensor>,
  grafts?: Grafts,
): Promise<string> {
  const hash = createHash("sha256");
  for (const graft of [grafts?.embed, ...(grafts?.blocks ?? []), grafts?.head]) hash.update(`${graft?.key}\n`);
  for (const [name, tensor] of [...parameters].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${name} ${tensor.dtype} ${tensor.shape.join(" ")}\n`);
    const { buffer, byteOffset, byteLength } = await runtime.download(tensor);
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}
