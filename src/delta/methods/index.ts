/** All delta methods by name. A new one is a file beside this and a line here. */
import { ConfigError } from "../../util/error.ts";
import type { DeltaMethod } from "../method.ts";
import { bitFit } from "./bitfit.ts";
import { compacter } from "./compacter.ts";
import { fineTuning } from "./fine-tuning.ts";
import { houlsby } from "./houlsby.ts";
import { ia3 } from "./ia3.ts";
import { lora } from "./lora.ts";
import { lowRankAdapter } from "./low-rank-adapter.ts";
import { parallelAdapter } from "./parallel-adapter.ts";
import { prefix } from "./prefix.ts";
import { softPrompt } from "./soft-prompt.ts";

/** What a recipe says of one method: its name, its places, and its options. */
export interface DeltaSpec {
  readonly method: string;
  readonly places?: readonly string[] | undefined;
  readonly exclude?: readonly string[] | undefined;
  readonly [option: string]: unknown;
}

export const methods: readonly DeltaMethod[] = [
  lora,
  houlsby,
  parallelAdapter,
  lowRankAdapter,
  compacter,
  bitFit,
  prefix,
  softPrompt,
  ia3,
  fineTuning,
];

/** @throws ConfigError CPM_DELTA_METHOD */
export function methodOf(name: string): DeltaMethod {
  const found = methods.find((method) => method.name === name);
  if (found) return found;
  throw new ConfigError("CPM_DELTA_METHOD", "there is no such delta method", {
    got: name,
    expected: methods.map((method) => method.name).join(", "),
  });
}
