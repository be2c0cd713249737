/** C3: reading comprehension, two to four options. Sun et al., "Investigating Prior Knowledge for Challenging Chinese MRC". */
import { z } from "zod";
import {
  hasField,
  idSchema,
  optionsSchema,
  originalChoiceSchema,
  originalLayout,
  originalQuestion,
  type Task,
  template,
  wordsSchema,
} from "./task.ts";

const rowSchema = z
  .object({
    id: idSchema,
    /** `dialogue` or `mixed`. */
    type: z.string().max(40).optional(),
    passage: wordsSchema,
    question: wordsSchema,
    options: optionsSchema,
    target: z.int().min(0),
  })
  .refine(({ options, target }) => target < options.length, {
    path: ["target"],
    error: "must be the index of an option",
  });

export const c3: Task = {
  name: "c3",
  kind: "choice",
  lengthTokens: 1024,
  answerTokens: 64,
  samples(row, id) {
    if (hasField(row, "input")) {
      const { input, options, target, ...own } = originalChoiceSchema.parse(row);
      return [{ kind: "choice", id: own.id ?? id, fields: { input }, options, answer: target }];
    }
    const { passage, question, options, target, type, ...own } = rowSchema.parse(row);
    const fields = { passage, question, input: `${passage}\n${question}\n` };
    return [{ kind: "choice", id: own.id ?? id, fields, options, answer: target, group: type }];
  },
  templates: {
    original: template({
      method: "yes",
      input: `{input}{option}${originalQuestion}`,
      answer: "是",
      ...originalLayout,
    }),
    likelihood: template({
      method: "likelihood",
      input: "{passage}\n问题：{question}\n答案：",
      answer: "{option}",
      cut: "passage",
    }),
    letter: template({
      method: "letter",
      input: "{passage}\n问题：{question}\n{options}\n答案：",
      answer: "{letter}",
      cut: "passage",
    }),
  },
};
