/** Log probabilities of tokens as OpenAI's two APIs write them. */
import type { TokenEvent } from "../infer/generated-row.ts";
import type { TopLogprob } from "../infer/sample.ts";
import type { Tokenizer } from "../tokenizer/index.ts";
import type { ChatLogprobs, CompletionChoice } from "./api-schemas.ts";

/** JSON has no infinity: a token that cannot come has this log probability. */
const never = -9999;

function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : never;
}

/** A token with its text, its bytes and its log probability. A part of a character has only its bytes. */
export function tokenEntry({ id, logprob }: TopLogprob, tokenizer: Tokenizer) {
  const piece = tokenizer.pieceOf(id);
  const bytes = piece.kind === "byte" ? [piece.byte] : [...Buffer.from(piece.text, "utf8")];
  return { token: tokenizer.tokenOf(id), logprob: finite(logprob), bytes };
}

/** Of the chat API. Null where the event has no token. */
export function chatLogprobs({ id, logprob, top }: TokenEvent, tokenizer: Tokenizer): ChatLogprobs | null {
  if (id === null || logprob === null) return null;
  const top_logprobs = top.map((entry) => tokenEntry(entry, tokenizer));
  return { content: [{ ...tokenEntry({ id, logprob }, tokenizer), top_logprobs }], refusal: null };
}

type CompletionLogprobs = NonNullable<CompletionChoice["logprobs"]>;

/** Of the completions API, for some tokens, whose texts begin at `offset` and follow one another. */
export function completionLogprobs(
  tokens: readonly { readonly id: number; readonly logprob: number; readonly top: readonly TopLogprob[] }[],
  tokenizer: Tokenizer,
  withTop: boolean,
  offset = 0,
): CompletionLogprobs {
  let at = offset;
  const text_offset: number[] = [];
  for (const { id } of tokens) {
    text_offset.push(at);
    at += tokenizer.tokenOf(id).length;
  }
  return {
    tokens: tokens.map(({ id }) => tokenizer.tokenOf(id)),
    token_logprobs: tokens.map(({ logprob }) => finite(logprob)),
    top_logprobs: withTop
      ? tokens.map(({ top }) =>
          Object.fromEntries(top.map((entry) => [tokenizer.tokenOf(entry.id), finite(entry.logprob)])),
        )
      : null,
    text_offset,
  };
}

/** All of chat's, in one. */
export function joinChatLogprobs(parts: readonly (ChatLogprobs | null)[]): ChatLogprobs {
  return { content: parts.flatMap((part) => part?.content ?? []), refusal: null };
}
