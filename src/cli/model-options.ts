/** What the verbs that open a model share: options, how much memory they may keep, how a terminal shows a model's text. */
import { z } from "zod";
import type { CacheType } from "../infer/index.ts";
import type { CommandContext } from "./context.ts";
import { memoryLimitBytes } from "./machine.ts";
import { modelMessages as messages } from "./messages/model.ts";
import { bytesSchema } from "./quantity.ts";

const file = () => z.string().min(1).optional();

/** Options of opening a model. */
export const modelFields = {
  vocab: file().describe(messages.vocab.en).meta({ zh: messages.vocab.zh, placeholder: "FILE" }),
  config: file().describe(messages.config.en).meta({ zh: messages.config.zh, placeholder: "FILE" }),
  threads: z.int().min(1).max(1024).optional().describe(messages.threads.en).meta({ zh: messages.threads.zh }),
};

/** What keys and values are stored in. */
export const kvCacheField = z
  .enum(["float32", "float16", "int8"] as const satisfies readonly CacheType[])
  .default("float32")
  .describe(messages.kvCache.en)
  .meta({ zh: messages.kvCache.zh });

/** Options of where and within what it computes. */
export const hardwareFields = {
  kvCache: kvCacheField,
  device: z
    .enum(["cpu", "webgpu", "cuda"])
    .default("cpu")
    .describe(messages.device.en)
    .meta({ zh: messages.device.zh }),
  deviceLayers: z
    .string()
    .regex(/^\d+-\d+$/)
    .optional()
    .describe(messages.deviceLayers.en)
    .meta({ zh: messages.deviceLayers.zh, placeholder: "0-23" }),
  memory: bytesSchema().optional().describe(messages.memory.en).meta({ zh: messages.memory.zh, placeholder: "4GiB" }),
  cache: z.boolean().default(true).describe(messages.cache.en).meta({ zh: messages.cache.zh }),
};

/** Of a limit from outside some is left to the file cache, which counts there, and to what is not foreseen. */
const containerShare = 0.87;

/** Where a model computes: all of it on a device, or only the layers that were named. */
export function devicesOf({
  device,
  deviceLayers,
}: {
  readonly device: "cpu" | "webgpu" | "cuda";
  readonly deviceLayers?: string | undefined;
}) {
  if (device === "cpu" || deviceLayers === undefined) return { device, placement: undefined };
  const [first, last] = deviceLayers.split("-").map(Number) as [number, number];
  return { device: "cpu", placement: { device, from: first, to: last + 1 } } as const;
}

/** What the process may keep: what was asked for, else most of a limit that is set on it from outside, else no limit. */
export function memoryBudgetBytes(asked: number | undefined): number | undefined {
  const limit = asked === undefined ? memoryLimitBytes() : undefined;
  return limit === undefined ? asked : limit * containerShare;
}

/** The most that the process has kept in memory so far, mapped pages among it. */
export function peakResidentBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}

/** A terminal must not obey what a model writes: control characters are shown as U+FFFD, line breaks and tabs stay. */
export function shownText(text: string, context: CommandContext): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  return context.stdout.isTTY ? text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd") : text;
}
