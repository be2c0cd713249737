/** Math23K: word problems, answered by an equation. Wang et al., "Deep Neural Solver for Math Word Problems". */
import { z } from "zod";
import { hasField, idSchema, originalLayout, originalTextSchema, type Task, template, wordsSchema } from "./task.ts";

const rowSchema = z.object({
  id: idSchema,
  question: wordsSchema,
  /** `x=…`. */
  equation: wordsSchema,
  /** What the equation comes to. */
  answer: z.string().max(200).optional(),
});

export const math23k: Task = {
  name: "math23k",
  kind: "generation",
  lengthTokens: 256,
  answerTokens: 32,
  samples(row, id) {
    if (hasField(row, "input")) {
      const { input, target, ...own } = originalTextSchema.parse(row);
      return [{ kind: "generation", id: own.id ?? id, fields: { input }, references: [target] }];
    }
    const { question, equation, answer, ...own } = rowSchema.parse(row);
    const references = answer === undefined ? [equation] : [equation, answer];
    return [{ kind: "generation", id: own.id ?? id, fields: { input: question, question }, references }];
  },
  templates: {
    original: template({ method: "generate", input: "{input}", answer: "{target}", ...originalLayout }),
    equation: template({ method: "generate", input: "{question}\n列式：", answer: "{target}" }),
  },
};
