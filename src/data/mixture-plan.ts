/** How a mixture spends tokens, told from the descriptions of its data sets alone: nothing of the text is read. */
import { resolve } from "node:path";
import { type DatasetDescription, readDescription } from "./dataset.ts";
import { type Mixture, readMixture } from "./mixture-file.ts";
import { entriesOf } from "./mixture-sources.ts";
import { createShardCache } from "./shard-cache.ts";

export interface PlannedSource {
  readonly label: string;
  /** That the source has. */
  readonly tokens: number;
  /** Share of what is read, relative to the others. */
  readonly weight: number;
  /** Passes after which it is over; may be infinite. */
  readonly epochs: number;
}

export interface SourceSpending {
  readonly label: string;
  readonly tokens: number;
  /** Tokens that training reads of it. */
  readonly read: number;
  /** Passes that these are. */
  readonly epochs: number;
}

/**
 * The sources of a mixture, or of its file, and the size of their vocabulary. Errors: those of `openMixture` about
 * mixtures and data sets.
 */
export async function readMixtureSources(
  given: Mixture | string,
): Promise<{ readonly sources: readonly PlannedSource[]; readonly vocabSize: number }> {
  const mixture = typeof given === "string" ? await readMixture(given) : given;
  const descriptions = new Map<string, DatasetDescription>();
  for (const { data } of mixture.sources) {
    const folder = resolve(data);
    if (!descriptions.has(folder)) descriptions.set(folder, await readDescription(folder));
  }
  const entries = entriesOf(mixture, { fillShare: 0 }, descriptions, createShardCache());
  return {
    sources: entries.map(({ label, tokens, weight, epochs }) => ({ label, tokens, weight, epochs })),
    vocabSize: entries[0]!.description.tokenizer.vocabSize,
  };
}

/**
 * What is read of each source when `tokens` are trained on: by weight, and where a source's epochs are over the others go
 * on by theirs. The sum is less than `tokens` where the epochs of all are over before.
 */
export function spendTokens(sources: readonly PlannedSource[], tokens: number): SourceSpending[] {
  const limitOf = ({ tokens: all, epochs }: PlannedSource) => all * epochs;
  const read = new Map<PlannedSource, number>();
  let open = sources.filter(({ tokens: all }) => all > 0);
  let rest = tokens;
  while (open.length > 0) {
    const total = open.reduce((sum, { weight }) => sum + weight, 0);
    const over = open.filter((source) => limitOf(source) <= (rest * source.weight) / total);
    if (over.length === 0) {
      for (const source of open) read.set(source, (rest * source.weight) / total);
      break;
    }
    for (const source of over) {
      read.set(source, limitOf(source));
      rest -= limitOf(source);
    }
    open = open.filter((source) => !over.includes(source));
  }
  return sources.map((source) => {
    const amount = read.get(source) ?? 0;
    return {
      label: source.label,
      tokens: source.tokens,
      read: amount,
      epochs: source.tokens > 0 ? amount / source.tokens : 0,
    };
  });
}
