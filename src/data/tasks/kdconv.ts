/**
 * KdConv: dialogues that draw on triples of knowledge. Zhou et al., "KdConv: A Chinese Multi-domain Dialogue Dataset".
 * Every turn but the first is a sample: the triples that it draws on and the turns before it are given.
 */
import { z } from "zod";
import type { TaskSample } from "./sample.ts";
import {
  hasField,
  idSchema,
  originalLayout,
  originalTextSchema,
  type Task,
  template,
  textSchema,
  wordsSchema,
} from "./task.ts";

const rowSchema = z.object({
  id: idSchema,
  domain: z.string().max(40).optional(),
  topic: textSchema.optional(),
  turns: z
    .array(
      z.object({
        speaker: z.string().min(1).max(40),
        text: wordsSchema,
        kb: z.array(z.tuple([textSchema, textSchema, textSchema])).optional(),
      }),
    )
    .min(2)
    .max(1000),
});

export const kdconv: Task = {
  name: "kdconv",
  kind: "generation",
  lengthTokens: 1500,
  answerTokens: 50,
  samples(row, id) {
    if (hasField(row, "input")) {
      const { input, target, ...own } = originalTextSchema.parse(row);
      return [{ kind: "generation", id: own.id ?? id, fields: { input }, references: [target] }];
    }
    const { turns, domain, topic = "", ...own } = rowSchema.parse(row);
    const spoken = turns.map(({ speaker, text }) => `${speaker}：${text}`);
    return turns.slice(1).map(({ speaker, text, kb = [] }, index): TaskSample => {
      const knowledge = kb.map((triple) => triple.join("，")).join("；");
      const history = spoken.slice(0, index + 1).join("\n");
      const input = `${knowledge === "" ? "" : `${knowledge}\n`}${history}\n`;
      return {
        kind: "generation",
        id: `${own.id ?? id}#${index + 2}`,
        fields: { input, knowledge, history, speaker, topic },
        references: [text],
        group: domain,
      };
    });
  },
  templates: {
    original: template({ method: "generate", input: "{input}", answer: "{target}", ...originalLayout }),
    dialogue: template({
      method: "generate",
      input: "{knowledge}\n{history}\n{speaker}：",
      answer: "{target}",
      cut: "history",
      keep: "end",
    }),
  },
};
