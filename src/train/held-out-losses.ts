/** Held-out losses by source: what a validation is. */
import type { BatchGeometry, BatchSource } from "../data/index.ts";
import { countTargets } from "../model/batch.ts";
import type { TrainingStep } from "./step.ts";
import type { Objective } from "./update.ts";

export interface Validation {
  readonly step: number;
  readonly tokens: number;
  /** Mean over all held-out targets. */
  readonly nats: number;
  readonly bitsPerCharacter: number;
  /** Of the averaged weights. */
  readonly ema?: boolean;
  readonly sources: Readonly<
    Record<string, { readonly nats: number; readonly tokens: number; readonly bitsPerCharacter: number }>
  >;
}

/** Loss of each source's held-out text, every token a target; undefined where nothing is held out. */
export async function heldOutLosses(
  training: TrainingStep,
  source: Pick<BatchSource, "heldOut">,
  geometry: BatchGeometry,
  pieces: number,
  objective?: Objective,
): Promise<Pick<Validation, "nats" | "bitsPerCharacter" | "sources"> | undefined> {
  const sums = new Map<string, { nats: number; tokens: number; tokensPerCharacter: number }>();
  for (const { source: name, batch, tokensPerCharacter } of source.heldOut(geometry, pieces)) {
    const targets = countTargets(batch);
    if (targets === 0) continue;
    const sum = sums.get(name) ?? { nats: 0, tokens: 0, tokensPerCharacter };
    const mean = await training.loss(batch);
    const own = objective?.weigh(batch, await training.targetLosses());
    sum.nats += own ? own.loss * own.count : mean * targets;
    sum.tokens += own ? own.count : targets;
    sums.set(name, sum);
  }
  if (sums.size === 0) return undefined;
  let nats = 0;
  let tokens = 0;
  let characters = 0;
  const sources: Record<string, { nats: number; tokens: number; bitsPerCharacter: number }> = {};
  for (const [name, sum] of sums) {
    nats += sum.nats;
    tokens += sum.tokens;
    characters += sum.tokens / sum.tokensPerCharacter;
    const mean = sum.nats / sum.tokens;
    sources[name] = { nats: mean, tokens: sum.tokens, bitsPerCharacter: (mean / Math.LN2) * sum.tokensPerCharacter };
  }
  return { nats: nats / tokens, bitsPerCharacter: nats / Math.LN2 / characters, sources };
}
