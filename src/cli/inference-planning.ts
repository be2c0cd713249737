/** `cpm plan --infer`: what running a model takes at each precision, and how fast it will be, before it is loaded. */
import type { CacheType } from "../infer/index.ts";
import type { ModelConfig } from "../model/config.ts";
import { parameterCount } from "../model/parameters.ts";
import { type CommandContext, print, printJson, say } from "./context.ts";
import { freeMemoryBytes } from "./machine.ts";
import { inferPlanMessages as messages } from "./messages/plan.ts";
import { formatBytes, formatInteger, formatNumber } from "./quantity.ts";
import { renderTable } from "./table.ts";

export interface InferencePlanning {
  readonly checkpoint?: string | undefined;
  readonly memory?: number | undefined;
  readonly texts: number;
  readonly capacity: number;
  readonly kvCache: CacheType;
  readonly diskRate: number;
  readonly threads?: number | undefined;
}

/** Groups of the plan: what `cpm quantize` makes by default. */
const group = 128;

/** Plans a model at every precision and shows it. `preset` counts where no checkpoint is given. */
export async function showInferencePlan(
  preset: ModelConfig,
  { checkpoint, memory, texts, capacity, kvCache, diskRate, threads }: InferencePlanning,
  context: CommandContext,
): Promise<void> {
  const { inferencePrecisions, kernelRates, planInference } = await import("../compress/index.ts");
  const config = checkpoint === undefined ? preset : await configOf(checkpoint);
  const { createNativeRuntime } = await import("../runtime/index.ts");
  using runtime = createNativeRuntime(threads === undefined ? {} : { threads });
  const memoryBytes = memory ?? freeMemoryBytes();
  const kernelBytesPerSecond = await kernelRates(runtime);
  const options = {
    group,
    rows: texts,
    capacityTokens: capacity,
    cacheType: kvCache,
    memoryBytes,
    kernelBytesPerSecond,
    diskBytesPerSecond: diskRate,
  };
  const plans = inferencePrecisions.map((precision) => planInference(config, precision, options));
  if (context.json) {
    printJson(context, { parameters: parameterCount(config), ...options, plans });
    return;
  }
  const title = say(context, messages.title, {
    parameters: formatInteger(parameterCount(config)),
    memory: formatBytes(memoryBytes),
    texts,
    capacity,
  });
  const end = "end" as const;
  const table = renderTable(
    [
      { title: say(context, messages.precision) },
      { title: say(context, messages.weights), align: end },
      { title: say(context, messages.cache), align: end },
      { title: say(context, messages.total), align: end },
      { title: say(context, messages.speed), align: end },
      { title: say(context, messages.verdict) },
    ],
    plans.map(({ precision, bytes, verdict, residentLayers, streamedBytes, tokensPerSecond }) => [
      precision,
      formatBytes(bytes.layers + bytes.table + bytes.other),
      formatBytes(bytes.cache),
      formatBytes(bytes.total),
      tokensPerSecond === undefined ? "—" : formatNumber(tokensPerSecond),
      verdict === "streams"
        ? say(context, messages.streams, {
            resident: residentLayers,
            layers: config.layers,
            bytes: formatBytes(streamedBytes),
          })
        : say(context, messages[verdict]),
    ]),
  );
  const gigabytes = (bytes: number) => formatNumber(bytes / 1e9);
  const measured = say(context, messages.measured, {
    float32: gigabytes(kernelBytesPerSecond.float32),
    int8: gigabytes(kernelBytesPerSecond.int8),
    int4: gigabytes(kernelBytesPerSecond.int4),
    disk: gigabytes(diskRate),
  });
  print(context, [title, table, measured, say(context, messages.how)].join("\n"));
}

async function configOf(path: string): Promise<ModelConfig> {
  const { openCheckpoint } = await import("../checkpoint/index.ts");
  await using checkpoint = await openCheckpoint(path);
  return checkpoint.config;
}
