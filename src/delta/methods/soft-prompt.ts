/**
 * Prompt tuning (Lester et al., arXiv 2104.08691): soft tokens in front of every row, before the task's own soft prompt.
 *
 * Their rows are in the units of the model's prompt table (divided by √D with it) and belong to its segment. They begin
 * uniformly within ±`range`, or as rows of the token table (`from` token ids, repeated).
 */
import { z } from "zod";
import { names } from "../../model/parameters.ts";
import { fillUniform } from "../../util/random.ts";
import { defineMethod } from "../method.ts";
import { optionError } from "../option-error.ts";

export const softPrompt = defineMethod({
  name: "soft-prompt",
  summary: { zh: "每行之前的软词元", en: "soft tokens in front of every row" },
  options: z.object({
    tokens: z.int().min(1).max(4096).default(100),
    range: z.number().positive().default(0.5),
    from: z.array(z.int().min(0)).max(4096).default([]),
  }),
  kinds: ["table"],
  defaultPlaces: ["embed.prompt"],
  startsAs: "different",
  attach(place, { tokens: N, range, from }, { dimModel: D }) {
    return {
      place,
      parameters: [
        {
          local: "soft_prompt",
          name: "soft_prompt",
          shape: [N, D],
          async initialize(out, { seed, base }) {
            if (from.length === 0) return fillUniform(out, seed, "soft_prompt", -range, range);
            const table = await base(names.token);
            for (let n = 0; n < N; n++) {
              const id = from[n % from.length]!;
              out.set(table.subarray(id * D, (id + 1) * D), n * D);
            }
          },
        },
      ],
      edits: { prompt: (delta) => delta("soft_prompt") },
    };
  },
  promptRows: ({ tokens }) => tokens,
  check({ from }, places, { vocabSize }) {
    if (places.some(({ path }) => path !== "prompt")) throw optionError("soft-prompt", places[0]!.name, "embed.prompt");
    const beyond = from.find((id) => id >= vocabSize);
    if (beyond !== undefined) throw optionError("soft-prompt", `token ${beyond}`, `0 to ${vocabSize - 1}`);
  },
});
