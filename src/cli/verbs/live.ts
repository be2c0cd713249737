/** `cpm live`: runs as web pages. */
import { once } from "node:events";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { ConfigError, UnsupportedError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { note, print, printJson, say } from "../context.ts";
import { liveMessages as messages } from "../messages/live.ts";
import { formatBytes } from "../quantity.ts";

export default defineCommand({
  name: "live",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "live runs/", ...messages.exampleAll },
    { line: "live runs/zh --replay 60", ...messages.exampleReplay },
    { line: "live --example cpm-ant --replay 86400", ...messages.exampleAnt },
    { line: "live runs/ --export site/ --no-checkpoints", ...messages.exampleExport },
  ],
  schema: z.object({
    runs: z
      .array(z.string())
      .default([])
      .describe(messages.runs.en)
      .meta({ zh: messages.runs.zh, positional: true, placeholder: "RUN" }),
    host: z.string().default("127.0.0.1").describe(messages.host.en).meta({ zh: messages.host.zh }),
    port: z.int().min(0).max(65535).default(8022).describe(messages.port.en).meta({ zh: messages.port.zh, alias: "p" }),
    checkpoints: z.boolean().default(true).describe(messages.checkpoints.en).meta({ zh: messages.checkpoints.zh }),
    frameAncestors: z.string().optional().describe(messages.frame.en).meta({ zh: messages.frame.zh, flag: false }),
    example: z.enum(["cpm-ant"]).optional().describe(messages.example.en).meta({ zh: messages.example.zh }),
    export: z
      .string()
      .min(1)
      .optional()
      .describe(messages.export.en)
      .meta({ zh: messages.export.zh, placeholder: "DIR" }),
    replay: z.number().min(0).optional().describe(messages.replay.en).meta({ zh: messages.replay.zh }),
    from: z.string().optional().describe(messages.from.en).meta({ zh: messages.from.zh }),
  }),
  async run({ runs: given, example, export: output, host, port, checkpoints, frameAncestors, replay, from }, context) {
    const [{ startLiveServer }, { pagesFolder }] = await Promise.all([
      import("../../live/server.ts"),
      import("../../live/pages.ts"),
    ]);
    const runs = [...given];
    if (example !== undefined) {
      const { writeExampleRun } = await import("../../live/example-run.ts");
      const parent = await mkdtemp(join(tmpdir(), "cpm-example-"));
      context.signal.addEventListener("abort", () => rmSync(parent, { recursive: true, force: true }));
      runs.push(await writeExampleRun(parent));
    }
    if (output !== undefined) {
      const { exportStatic } = await import("../../live/static-export.ts");
      const pages = await pagesFolder();
      const report = await exportStatic({
        runs: runs.length > 0 ? runs : ["runs"],
        pages,
        output,
        checkpoints,
        signal: context.signal,
      });
      if (context.json) printJson(context, { output, ...report });
      else
        print(
          context,
          say(context, messages.exported, {
            path: output,
            runs: report.runs,
            files: report.files,
            written: report.written,
            bytes: formatBytes(report.bytes),
          }),
        );
      return;
    }
    const fromMs = from === undefined ? undefined : Date.parse(from);
    if (Number.isNaN(fromMs))
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.badTime), { where: "from", got: from });
    const server = await startLiveServer({
      runs: runs.length > 0 ? runs : ["runs"],
      pages: await pagesFolder(),
      host,
      port,
      checkpoints,
      frameAncestors,
      ...(replay !== undefined && { replay: { speed: replay === 0 ? Number.POSITIVE_INFINITY : replay, fromMs } }),
      now: context.now,
    }).catch((error) => {
      if ((error as { code?: string }).code !== "EADDRINUSE") throw error;
      throw new UnsupportedError("CPM_LIVE_PORT", say(context, messages.portTaken, { port: String(port) }), {
        where: `${host}:${port}`,
        cause: error,
      });
    });
    note(context, say(context, messages.serving, { url: server.url }));
    if (context.json) print(context, JSON.stringify({ event: "listening", url: server.url, port: server.port }));
    if (!context.signal.aborted) await once(context.signal, "abort");
    await server.close();
    context.signal.throwIfAborted();
  },
});
