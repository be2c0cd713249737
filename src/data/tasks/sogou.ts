/**
 * Search results to be put in order, as Sogou-Log's: a query, the titles that were found, and which of them are relevant.
 * The original's rows (two titles and the index of the relevant one) are the same with two titles.
 */
import { z } from "zod";
import {
  hasField,
  idSchema,
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
    query: wordsSchema,
    titles: z.array(wordsSchema).min(1).max(1000),
    /** 0: not relevant; grades above 1 count in NDCG. */
    labels: z.array(z.int().min(0).max(30)).min(1).max(1000),
  })
  .refine(({ titles, labels }) => titles.length === labels.length, {
    path: ["labels"],
    error: "must be as many as titles",
  });

export const sogou: Task = {
  name: "sogou",
  kind: "ranking",
  lengthTokens: 256,
  answerTokens: 64,
  samples(row, id) {
    if (hasField(row, "input")) {
      const { input, options, target, ...own } = originalChoiceSchema.parse(row);
      const relevance = options.map((_, index) => Number(index === target));
      return [{ kind: "ranking", id: own.id ?? id, fields: { input, query: input }, options, relevance }];
    }
    const { query, titles, labels, ...own } = rowSchema.parse(row);
    const fields = { input: `${query}\n`, query };
    return [{ kind: "ranking", id: own.id ?? id, fields, options: titles, relevance: labels }];
  },
  templates: {
    original: template({ method: "yes", input: `{input}{option}${originalQuestion}`, answer: "是", ...originalLayout }),
    likelihood: template({ method: "likelihood", input: "{option}\n搜索：", answer: "{query}" }),
  },
};
