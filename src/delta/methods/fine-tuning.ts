/**
 * Full or partial fine-tuning: parameters of the model themselves, as a copy of the delta's own that stands in their
 * place. The base stays as it is, whatever the share that is trained.
 */
import { z } from "zod";
import { defineMethod } from "../method.ts";

export const fineTuning = defineMethod({
  name: "fine-tuning",
  summary: { zh: "全部或部分参数的微调（在副本上）", en: "all parameters or some of them, on copies" },
  options: z.object({}),
  kinds: ["linear", "norm", "table"],
  defaultPlaces: ["**"],
  startsAs: "same",
  attach(place) {
    const { name, shape } = place.parameter!;
    return {
      place,
      parameters: [
        {
          local: "weight",
          name,
          shape,
          async initialize(out, { base }) {
            out.set(await base(name));
          },
        },
      ],
      edits: {},
      replaces: name,
    };
  },
  merge: () => (weight, _, delta) => {
    weight.set(delta("weight"));
  },
});
