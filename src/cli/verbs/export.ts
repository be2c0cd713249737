/** `cpm export`: a run's events for other tools. */
import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import type { RunEvent } from "../../live/events.ts";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, say } from "../context.ts";
import { exportMessages as messages } from "../messages/export.ts";
import { formatInteger } from "../quantity.ts";

const csvColumns = [
  "time",
  "step",
  "tokens",
  "loss",
  "learningRate",
  "gradientNorm",
  "ms",
  "dataMs",
  "tokensPerSecond",
  "mfu",
  "memoryBytes",
  "epoch",
  "rows",
  "columns",
] as const;

export default defineCommand({
  name: "export",
  summary: messages.summary,
  description: messages.description,
  examples: [
    { line: "export runs/zh --format tensorboard --output boards/zh", ...messages.exampleBoard },
    { line: "export runs/zh --format csv --output zh.csv", ...messages.exampleCsv },
  ],
  schema: z.object({
    run: z.string().describe(messages.run.en).meta({ zh: messages.run.zh, positional: true, placeholder: "RUN" }),
    format: z
      .enum(["tensorboard", "prometheus", "csv", "json"])
      .describe(messages.format.en)
      .meta({ zh: messages.format.zh }),
    output: z
      .string()
      .min(1)
      .optional()
      .describe(messages.output.en)
      .meta({ zh: messages.output.zh, alias: "o", placeholder: "PATH" }),
  }),
  async run({ run: folder, format, output }, context) {
    const { readRun, readEvents } = await import("../../live/run-folder.ts");
    const { currentEvents } = await import("../../live/events.ts");
    const run = readRun(folder);
    const events: RunEvent[] = [];
    for await (const { event } of readEvents(folder)) events.push(event);
    if (format === "tensorboard") {
      if (output === undefined)
        throw new ConfigError("CPM_CLI_USAGE", say(context, messages.needOutput), { where: "output" });
      const { tensorboardRecords } = await import("../../live/tensorboard.ts");
      const { openAtomicFile } = await import("../../util/atomic-file.ts");
      await mkdir(output, { recursive: true });
      const name = `events.out.tfevents.${Math.floor(Date.parse(run.createdAt) / 1000)}.${hostname()}`;
      const file = await openAtomicFile(join(output, name));
      let count = 0;
      try {
        for await (const record of tensorboardRecords(currentEvents(events))) {
          context.signal.throwIfAborted();
          await file.write(record);
          count++;
        }
        await file.commit();
      } finally {
        await file.abort();
      }
      note(context, say(context, messages.written, { path: join(output, name), count: formatInteger(count) }));
    } else if (format === "prometheus") {
      const { createRunMetrics, prometheusText } = await import("../../live/prometheus.ts");
      const metrics = createRunMetrics();
      for (const event of events) metrics.add(event);
      await write(prometheusText([{ run, metrics }]), output, events.length, context);
    } else if (format === "csv") {
      const rows = currentEvents(events).filter((event) => event.type === "step");
      const lines = rows.map((event) => csvColumns.map((column) => event[column] ?? "").join(","));
      await write(`${[csvColumns.join(","), ...lines].join("\n")}\n`, output, rows.length, context);
    } else {
      const current = currentEvents(events);
      await write(`${JSON.stringify({ run, events: current })}\n`, output, current.length, context);
    }
  },
});

async function write(text: string, output: string | undefined, count: number, context: CommandContext): Promise<void> {
  if (output === undefined) {
    context.stdout.write(text);
    return;
  }
  const { writeFileAtomic } = await import("../../util/atomic-file.ts");
  await writeFileAtomic(output, text);
  note(context, say(context, messages.written, { path: output, count: formatInteger(count) }));
}
