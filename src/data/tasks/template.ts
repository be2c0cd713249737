/**
 * Templates: how a sample becomes what the model reads (`input`, all of it context) and what it is to say (`answer`).
 *
 *     input: "{passage}\n问题：{question}\n答案："
 *     answer: "{option}"
 *
 * `{name}` stands for a field of the sample; beside those there are `{options}` (all, with letters, a line each),
 * `{option}` and `{letter}` (the one that is looked at) and `{target}` (what is to be generated). `{{` and `}}` are
 * braces. A line whose places are all empty is left out.
 */
import { z } from "zod";
import { ConfigError } from "../../util/error.ts";
import { optionLetter, optionsOf, type SampleFields, type TaskSample } from "./sample.ts";

/**
 * How an answer is got.
 *
 * - `generate`: the model writes it.
 * - `yes`: each option stands in an input of its own; its score is the logit of the token `answer` after it (the
 *   original's way: 是).
 * - `letter`: the options stand in one input; the score of each is the logit of its letter.
 * - `likelihood`: the score is the log probability of `answer`, in which or before which the option stands.
 */
export const answerMethods = ["generate", "yes", "letter", "likelihood"] as const;
export type AnswerMethod = (typeof answerMethods)[number];

export const templateSchema = z.strictObject({
  method: z.enum(answerMethods),
  input: z.string().min(1).max(100_000),
  answer: z.string().min(1).max(100_000),
  /** `yes`: what a wrong option is taught to be followed by. */
  wrong: z.string().min(1).default("否"),
  /** The field that is shortened where an input is too long. Without one, its beginning is left out, as in the original. */
  cut: z.string().min(1).optional(),
  /** Which end of that field stays. */
  keep: z.enum(["start", "end"]).default("start"),
  /** Soft prompt and segment; the original tuned with 1 and 2, and generates with 2 and 2. */
  promptTask: z.int().min(0).default(2),
  segment: z.int().min(1).default(2),
});
export type TaskTemplate = z.output<typeof templateSchema>;

type Piece = { readonly text: string } | { readonly name: string };

/** The places and texts of a template. Throws ConfigError `CPM_TASK_TEMPLATE` for a brace that has no partner. */
function parseTemplate(template: string): readonly Piece[] {
  const pieces: Piece[] = [];
  let text = "";
  for (let i = 0; i < template.length; ) {
    const two = template.slice(i, i + 2);
    if (two === "{{" || two === "}}") {
      text += two[0];
      i += 2;
      continue;
    }
    const place = template[i] === "{" ? /^\{([a-zA-Z]\w*)\}/.exec(template.slice(i, i + 64)) : null;
    if (place !== null) {
      if (text !== "") pieces.push({ text });
      pieces.push({ name: place[1]! });
      text = "";
      i += place[0].length;
      continue;
    }
    if (template[i] === "{" || template[i] === "}") {
      throw new ConfigError("CPM_TASK_TEMPLATE", "a brace of a template has no partner", {
        where: `character ${i + 1} of ${JSON.stringify(template)}`,
        expected: "{name} for a field, {{ and }} for braces",
      });
    }
    text += template[i++];
  }
  if (text !== "") pieces.push({ text });
  return pieces;
}

/** The names of a template's places. */
export function placesOf(template: string): readonly string[] {
  return parseTemplate(template).flatMap((piece) => ("name" in piece ? [piece.name] : []));
}

/**
 * A template's text with the values in its places.
 *
 * @throws ConfigError CPM_TASK_TEMPLATE for a place that has no value
 */
export function fillTemplate(template: string, values: Readonly<Record<string, string>>): string {
  const lines: { text: string; places: number; empty: number }[] = [{ text: "", places: 0, empty: 0 }];
  for (const piece of parseTemplate(template)) {
    if ("name" in piece) {
      if (!Object.hasOwn(values, piece.name)) {
        throw new ConfigError("CPM_TASK_TEMPLATE", "a template names a field that the sample does not have", {
          got: `{${piece.name}}`,
          expected: Object.keys(values)
            .map((name) => `{${name}}`)
            .join(", "),
        });
      }
      const value = values[piece.name]!;
      const line = lines.at(-1)!;
      line.text += value;
      line.places++;
      if (value === "") line.empty++;
      continue;
    }
    const [first, ...rest] = piece.text.split("\n");
    lines.at(-1)!.text += first;
    for (const text of rest) lines.push({ text, places: 0, empty: 0 });
  }
  return lines
    .filter(({ places, empty }) => places === 0 || empty < places)
    .map(({ text }) => text)
    .join("\n");
}

/** What a template's places may be: fields, the options, the one that is looked at. */
function valuesOf(sample: TaskSample, option: number | undefined, fields: SampleFields): Record<string, string> {
  const options = optionsOf(sample);
  const listed = options.map((text, index) => `${optionLetter(index)}. ${text}`).join("\n");
  return {
    ...fields,
    ...(options.length > 0 && { options: listed }),
    ...(option !== undefined && { option: options[option]!, letter: optionLetter(option) }),
  };
}

/**
 * What the model reads of a sample.
 *
 * @param option the one that is looked at, where the template names one
 * @param fields instead of the sample's own: shortened
 */
export function renderInput(
  sample: TaskSample,
  { input }: Pick<TaskTemplate, "input">,
  option?: number,
  fields = sample.fields,
): string {
  return fillTemplate(input, valuesOf(sample, option, fields));
}

/** The input without anything of the sample: what stands before an answer whatever the question. Lines without a text of their own are gone. */
export function renderDomain({ input }: Pick<TaskTemplate, "input">): string {
  return fillTemplate(input, Object.fromEntries(placesOf(input).map((name) => [name, ""])));
}

/** What is to follow it. */
export function renderAnswer(sample: TaskSample, { answer }: Pick<TaskTemplate, "answer">, option?: number): string {
  const target = sample.kind === "generation" ? { target: sample.references[0]! } : {};
  return fillTemplate(answer, { ...valuesOf(sample, option, sample.fields), ...target });
}

/** Whether the input is another one for each option. */
export function inputNamesOption({ input }: Pick<TaskTemplate, "input">): boolean {
  return placesOf(input).some((name) => name === "option" || name === "letter");
}
