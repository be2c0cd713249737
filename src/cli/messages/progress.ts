/** Messages of the progress line. */
import { defineMessages } from "./message.ts";

export const progressMessages = defineMessages({
  step: { zh: "步", en: "step" },
  loss: { zh: "损失", en: "loss" },
  remaining: { zh: "剩余", en: "eta" },
  elapsed: { zh: "用时", en: "elapsed" },
});
