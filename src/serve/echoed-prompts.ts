/**
 * Prompts given back in front of their texts (`echo` of the completions API), with the log probabilities of their tokens
 * where they are asked for: what harnesses of evaluation score answers with.
 *
 * A token's probability is the one after `<s>` and all before it, as `/score` says it. It is not what the prompt's tokens are
 * to a text that is generated: there they see each other in both directions.
 */
import type { TopLogprob } from "../infer/sample.ts";
import type { Outcome } from "./dispatcher.ts";
import type { Exchange } from "./endpoint.ts";
import type { ServedModel } from "./served-model.ts";
import type { ScoreTask } from "./worker-protocol.ts";

export interface EchoedPrompt {
  readonly text: string;
  /** Without `<s>`; none where log probabilities are not asked for. */
  readonly tokens: readonly { readonly id: number; readonly logprob: number; readonly top: readonly TopLogprob[] }[];
}

export interface EchoSettings {
  /** Log probabilities, and of so many most probable tokens at each place; undefined: none. */
  readonly topLogprobs: number | undefined;
  readonly deadlineMs: number;
}

/**
 * `given` are the prompts as the request has them, `prompts` their ids, `<s>` first. The outcomes are of the passes that
 * scored them.
 */
export async function echoPrompts(
  model: ServedModel,
  given: readonly (string | readonly number[])[],
  prompts: readonly (readonly number[])[],
  { topLogprobs, deadlineMs }: EchoSettings,
  { user, signal }: Exchange,
): Promise<{ readonly echoed: readonly EchoedPrompt[]; readonly outcomes: readonly Outcome<ScoreTask>[] }> {
  const textOf = (at: number) => {
    const prompt = given[at]!;
    return typeof prompt === "string" ? prompt : model.tokenizer.decode(prompts[at]!.slice(1));
  };
  if (topLogprobs === undefined) {
    return { echoed: prompts.map((_, at) => ({ text: textOf(at), tokens: [] })), outcomes: [] };
  }
  const { dispatcher, mix } = model;
  dispatcher.checkRoom(user, prompts.length);
  // `<s>` alone has no token to score.
  const scored = await Promise.all(
    prompts.map((ids) => {
      const task = { kind: "score" as const, ids, from: 1, top: topLogprobs, mix };
      return ids.length === 1 ? undefined : dispatcher.run<ScoreTask>({ task, user, signal, deadlineMs });
    }),
  );
  const echoed = prompts.map((ids, at): EchoedPrompt => {
    const { logprobs = [], top = [] } = scored[at]?.answer ?? {};
    const tokens = logprobs.map((logprob, i) => ({ id: ids[i + 1]!, logprob, top: top[i] ?? [] }));
    return { text: textOf(at), tokens };
  });
  return { echoed, outcomes: scored.filter((each) => each !== undefined) };
}
