/** A title for an article: news (`headline`) and the microblogs of LCSTS (`lcsts`), whose rows differ in length alone. */
import { z } from "zod";
import { hasField, idSchema, originalLayout, originalTextSchema, type Task, template, wordsSchema } from "./task.ts";

const rowSchema = z.object({
  id: idSchema,
  /** Where the article is from. */
  source: z.string().max(100).optional(),
  title: wordsSchema,
  text: wordsSchema,
});

const titleTask: Pick<Task, "kind" | "samples" | "templates"> = {
  kind: "generation",
  samples(row, id) {
    if (hasField(row, "input")) {
      const { input, target, ...own } = originalTextSchema.parse(row);
      return [{ kind: "generation", id: own.id ?? id, fields: { input }, references: [target] }];
    }
    const { text, title, source, ...own } = rowSchema.parse(row);
    const fields = { input: text, text };
    return [{ kind: "generation", id: own.id ?? id, fields, references: [title], group: source }];
  },
  templates: {
    original: template({ method: "generate", input: "{input}", answer: "{target}", ...originalLayout }),
    title: template({ method: "generate", input: "{text}\n标题：", answer: "{target}", cut: "text" }),
  },
};

export const headline: Task = { ...titleTask, name: "headline", lengthTokens: 768, answerTokens: 50 };
export const lcsts: Task = { ...titleTask, name: "lcsts", lengthTokens: 256, answerTokens: 50 };
