/**
 * Samples as token ids: prompts with the answers that may follow them, what evaluation scores or continues, and from them
 * rows with targets, what training learns (`task-rows.ts`).
 *
 * Input and answer are spelled apart, as they are when a model has to write the answer. What does not fit is cut from the
 * field that the template names, else from the beginning of the input.
 */
import type { Tokenizer } from "../../tokenizer/index.ts";
import { ConfigError, DataError } from "../../util/error.ts";
import { maxOptions, optionsOf, type TaskSample } from "./sample.ts";
import { inputNamesOption, renderAnswer, renderInput, type TaskTemplate } from "./template.ts";

export interface EncodedAnswer {
  /** The option that it speaks for; 0 of a generation. */
  readonly option: number;
  readonly text: string;
  /** Without `</s>`. One alone where the method is `yes` or `letter`. */
  readonly ids: Int32Array;
  /** Not cut: `</s>` may follow. */
  readonly whole: boolean;
}

/** An input, and what is asked about it. */
export interface EncodedPrompt {
  /** What the model reads, as text. */
  readonly text: string;
  /** `<s>` first. */
  readonly ids: Int32Array;
  readonly answers: readonly EncodedAnswer[];
}

export interface EncodedSample {
  readonly sample: TaskSample;
  readonly template: TaskTemplate;
  /** One, or one for each option where the input names it. */
  readonly prompts: readonly EncodedPrompt[];
  /** Characters that the vocabulary cannot spell and that were left out. */
  readonly unknownCount: number;
  /** Whether something was cut to fit. */
  readonly cut: boolean;
}

export interface EncodeLimits {
  /** Longest row, `<s>`, answer and `</s>` included, the soft prompt not. */
  readonly lengthTokens: number;
  /** Room that is kept for an answer to be generated; a longer one is cut. */
  readonly answerTokens: number;
  /** Solved examples, which stand before every input. */
  readonly shots?: readonly TaskSample[] | undefined;
  /** Stands after each of them. */
  readonly separator?: string | undefined;
}

/**
 * @throws ConfigError CPM_TASK_TEMPLATE (method and task do not go together, a field is not there), CPM_TASK_LENGTH (no
 * room for an answer)
 * @throws DataError CPM_TASK_TOKEN where the vocabulary has no single token for an answer that must be one, or an input or
 * answer of which nothing is left
 */
export function encodeSample(
  sample: TaskSample,
  template: TaskTemplate,
  tokenizer: Tokenizer,
  limits: EncodeLimits,
): EncodedSample {
  checkMethod(sample, template);
  const options = optionsOf(sample);
  const each = options.length === 0 ? [undefined] : options.map((_, index) => index);
  let unknownCount = 0;
  let cut = false;
  const answers = each.map((option): EncodedAnswer => {
    const answer = renderAnswer(sample, template, option);
    const encoded = tokenizer.encode(answer, { unknown: "drop" });
    unknownCount += encoded.unknownCount;
    const single = template.method === "yes" || template.method === "letter";
    if (encoded.ids.length === 0 || (single && encoded.ids.length !== 1)) {
      throw noToken(sample, answer, single ? "one token" : "at least one token");
    }
    const ids = encoded.ids.slice(0, limits.answerTokens);
    const whole = ids.length === encoded.ids.length;
    cut ||= !whole;
    return { option: option ?? 0, text: answer, ids, whole };
  });
  const reserve =
    template.method === "generate" ? limits.answerTokens : Math.max(...answers.map(({ ids }) => ids.length));
  const room = limits.lengthTokens - reserve - 1; // `</s>`
  if (room < 2) {
    throw new ConfigError("CPM_TASK_LENGTH", "a row has no room for input and answer", {
      where: sample.id,
      got: `${limits.lengthTokens} tokens, ${reserve} of them for the answer`,
      expected: `at least ${reserve + 3}`,
      hint: "Allow longer rows or shorter answers.",
    });
  }
  const before = shotsText(template, limits);
  const encodeInput = (option: number | undefined, of: readonly EncodedAnswer[]): EncodedPrompt => {
    const fitted = fitInput(sample, template, option, before, tokenizer, room);
    unknownCount += fitted.unknownCount;
    cut ||= fitted.cut;
    return { text: fitted.text, ids: fitted.ids, answers: of };
  };
  const prompts = inputNamesOption(template)
    ? answers.map((answer) => encodeInput(answer.option, [answer]))
    : [encodeInput(undefined, answers)];
  return { sample, template, prompts, unknownCount, cut };
}

/** The solved examples, as text. */
function shotsText(template: TaskTemplate, { shots = [], separator = "\n" }: EncodeLimits): string {
  let text = "";
  for (const shot of shots) {
    const right = shot.kind === "choice" ? shot.answer : shot.kind === "ranking" ? bestOf(shot.relevance) : undefined;
    text += renderInput(shot, template, right) + renderAnswer(shot, template, right) + separator;
  }
  return text;
}

function bestOf(relevance: readonly number[]): number {
  return relevance.indexOf(Math.max(...relevance));
}

/** An input's ids that fit into `room`, `<s>` included. */
function fitInput(
  sample: TaskSample,
  template: TaskTemplate,
  option: number | undefined,
  before: string,
  tokenizer: Tokenizer,
  room: number,
): { text: string; ids: Int32Array; unknownCount: number; cut: boolean } {
  const { cut: field, keep } = template;
  const whole = field === undefined ? undefined : sample.fields[field];
  const encodeWith = (characters: number | undefined) => {
    const fields =
      field === undefined || whole === undefined || characters === undefined
        ? sample.fields
        : { ...sample.fields, [field]: part(whole, characters, keep) };
    const text = before + renderInput(sample, template, option, fields);
    return { text, ...tokenizer.encode(text, { unknown: "drop" }) };
  };
  let encoded = encodeWith(undefined);
  let cut = false;
  if (encoded.ids.length + 1 > room && whole !== undefined) {
    // The most characters of the field with which the input fits, by interpolation; a token of room may stay empty.
    let [fits, fitsTokens] = [0, encodeWith(0).ids.length + 1];
    let [tooMany, tooManyTokens] = [[...whole].length, encoded.ids.length + 1];
    while (tooMany - fits > 1 && room - fitsTokens > 1) {
      const share = (room - fitsTokens) / (tooManyTokens - fitsTokens);
      const probe = Math.min(tooMany - 1, Math.max(fits + 1, fits + Math.round((tooMany - fits) * share)));
      const tokens = encodeWith(probe).ids.length + 1;
      if (tokens <= room) [fits, fitsTokens] = [probe, tokens];
      else [tooMany, tooManyTokens] = [probe, tokens];
    }
    encoded = encodeWith(fits);
    cut = true;
  }
  let tokens = encoded.ids;
  if (tokens.length + 1 > room) {
    tokens = tokens.slice(tokens.length + 1 - room);
    cut = true;
  }
  if (tokens.length === 0) throw noToken(sample, encoded.text, "at least one token");
  return {
    text: encoded.text,
    ids: Int32Array.of(tokenizer.bosId, ...tokens),
    unknownCount: encoded.unknownCount,
    cut,
  };
}

function part(text: string, characters: number, keep: "start" | "end"): string {
  const all = [...text];
  return (keep === "start" ? all.slice(0, characters) : all.slice(all.length - characters)).join("");
}

function checkMethod(sample: TaskSample, template: TaskTemplate): void {
  const { kind, id } = sample;
  const { method } = template;
  const fault = (expected: string) =>
    new ConfigError("CPM_TASK_TEMPLATE", "a template does not go with the samples", {
      where: id,
      got: `method ${method} for ${kind}`,
      expected,
    });
  if (kind === "generation" && method !== "generate") throw fault("generate");
  if (kind !== "generation" && method === "generate") throw fault("yes, letter or likelihood");
  if (method === "yes" && !inputNamesOption(template)) throw fault("{option} in the input");
  if (method === "letter" && optionsOf(sample).length > maxOptions) throw fault(`at most ${maxOptions} options`);
  if (method === "letter" && inputNamesOption(template)) throw fault("{options} in the input, not {option}");
}

function noToken({ id }: TaskSample, text: string, expected: string): DataError {
  return new DataError("CPM_TASK_TOKEN", "the vocabulary cannot spell a text of a sample as it must be", {
    where: id,
    got: JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text),
    expected,
    hint: "Give the vocabulary that the model was trained with, or another template.",
  });
}
