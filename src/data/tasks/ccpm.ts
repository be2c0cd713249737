/** CCPM: which of four lines of classical poetry a modern translation is of. Li et al., "CCPM: A Chinese Classical Poetry Matching Dataset". */
import { z } from "zod";
import { optionLetter } from "./sample.ts";
import {
  hasField,
  idSchema,
  optionsSchema,
  originalChoiceSchema,
  originalLayout,
  type Task,
  template,
  wordsSchema,
} from "./task.ts";

/** The files of the data set call the fields so, too. */
const rowSchema = z
  .object({
    id: idSchema,
    /** One row of the published training part has none. */
    translation: z.string().trim().max(1_000_000),
    options: optionsSchema.optional(),
    choices: optionsSchema.optional(),
    target: z.int().min(0).optional(),
    answer: z.int().min(0).optional(),
  })
  .transform(({ id, translation, options, choices, target, answer }, context) => {
    const lines = options ?? choices ?? [];
    const right = target ?? answer ?? -1;
    if (right >= 0 && right < lines.length) return { id, translation, options: lines, target: right };
    context.addIssue({ code: "custom", path: ["target"], message: "must be the index of an option" });
    return z.NEVER;
  });

/** The original's rows name the right option by its letter. */
const letterSchema = z.object({
  id: idSchema,
  input: wordsSchema,
  target: z.string().regex(/^[A-D]$/, "must be A to D"),
});
const letters = [0, 1, 2, 3].map(optionLetter);

export const ccpm: Task = {
  name: "ccpm",
  kind: "choice",
  lengthTokens: 256,
  answerTokens: 24,
  samples(row, id) {
    if (hasField(row, "input") && !hasField(row, "options")) {
      const { input, target, ...own } = letterSchema.parse(row);
      const sample = { kind: "choice", fields: { input }, options: letters, answer: letters.indexOf(target) } as const;
      return [{ ...sample, id: own.id ?? id }];
    }
    if (hasField(row, "input")) {
      const { input, options, target, ...own } = originalChoiceSchema.parse(row);
      return [{ kind: "choice", id: own.id ?? id, fields: { input }, options, answer: target }];
    }
    const { translation, options, target, ...own } = rowSchema.parse(row);
    const listed = options.map((text, index) => `${optionLetter(index)}. ${text}`).join("\n");
    const fields = { translation, input: `${translation}\n${listed}\n` };
    return [{ kind: "choice", id: own.id ?? id, fields, options, answer: target }];
  },
  templates: {
    original: template({ method: "letter", input: "{input}答案：", answer: "{letter}", ...originalLayout }),
    likelihood: template({
      method: "likelihood",
      input: "译文：{translation}\n原诗：",
      answer: "{option}",
    }),
    yes: template({
      method: "yes",
      input: "{translation}\n{option}[是否正确]",
      answer: "是",
      ...originalLayout,
    }),
  },
};
