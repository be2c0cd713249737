/** `cpm serve`: models over HTTP. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { access, constants, mkdir } from "node:fs/promises";
import { availableParallelism, cpus } from "node:os";
import { z } from "zod";
import { ledgerChoicesSchema, machineAssumptions } from "../../live/ledger-assumptions.ts";
import type { ServedModel } from "../../serve/served-model.ts";
import { userCacheFolder } from "../../util/cache-folder.ts";
import { ConfigError, UnsupportedError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { note, print, say } from "../context.ts";
import { serveMessages as messages } from "../messages/serve.ts";
import { kvCacheField, memoryBudgetBytes, modelFields } from "../model-options.ts";
import { bytesSchema, durationSchema } from "../quantity.ts";

const loopback = new Set(["127.0.0.1", "localhost", "::1"]);

export default defineCommand({
  name: "serve",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [
    { line: "serve model/", ...messages.exampleOne },
    { line: "serve ant=model/ --delta poems=deltas/poems --delta news=deltas/news", ...messages.exampleDelta },
    { line: "serve ant=models/ant --host 0.0.0.0 --keys keys.json", ...messages.exampleKeys },
  ],
  schema: z.object({
    models: z
      .array(z.string().min(1))
      .min(1)
      .describe(messages.models.en)
      .meta({ zh: messages.models.zh, positional: true, placeholder: "MODEL" }),
    delta: z
      .array(z.string().min(1))
      .default([])
      .describe(messages.delta.en)
      .meta({ zh: messages.delta.zh, placeholder: "DELTA" }),
    mix: z.boolean().default(false).describe(messages.mix.en).meta({ zh: messages.mix.zh }),
    draft: z
      .string()
      .min(1)
      .optional()
      .describe(messages.draft.en)
      .meta({ zh: messages.draft.zh, placeholder: "MODEL" }),
    lookup: z.boolean().default(false).describe(messages.lookup.en).meta({ zh: messages.lookup.zh }),
    vocab: modelFields.vocab,
    config: modelFields.config,
    host: z.string().default("127.0.0.1").describe(messages.host.en).meta({ zh: messages.host.zh }),
    port: z.int().min(0).max(65535).default(8023).describe(messages.port.en).meta({ zh: messages.port.zh, alias: "p" }),
    keys: z.string().min(1).optional().describe(messages.keys.en).meta({ zh: messages.keys.zh, placeholder: "FILE" }),
    open: z.boolean().default(false).describe(messages.open.en).meta({ zh: messages.open.zh }),
    cors: z
      .array(z.string().regex(/^(\*|https?:\/\/[^\s/]+)$/))
      .default([])
      .describe(messages.cors.en)
      .meta({ zh: messages.cors.zh, placeholder: "ORIGIN" }),
    workers: z.int().min(1).max(256).default(1).describe(messages.workers.en).meta({ zh: messages.workers.zh }),
    rows: z.int().min(1).max(256).default(16).describe(messages.rows.en).meta({ zh: messages.rows.zh }),
    context: z.int().min(2).max(65_536).default(1024).describe(messages.context.en).meta({ zh: messages.context.zh }),
    prefillTokens: z
      .int()
      .min(1)
      .max(65_536)
      .default(256)
      .describe(messages.prefill.en)
      .meta({ zh: messages.prefill.zh }),
    threads: z.int().min(1).max(1024).optional().describe(messages.threads.en).meta({ zh: messages.threads.zh }),
    kvCache: kvCacheField,
    memory: bytesSchema().optional().describe(messages.memory.en).meta({ zh: messages.memory.zh, placeholder: "4GiB" }),
    promptCache: bytesSchema()
      .default(64 * 2 ** 20)
      .describe(messages.promptCache.en)
      .meta({ zh: messages.promptCache.zh }),
    cache: z.boolean().default(true).describe(messages.cache.en).meta({ zh: messages.cache.zh }),
    maxWaiting: z
      .int()
      .min(1)
      .max(100_000)
      .default(128)
      .describe(messages.maxWaiting.en)
      .meta({ zh: messages.maxWaiting.zh }),
    deadline: durationSchema().default(120_000).describe(messages.deadline.en).meta({ zh: messages.deadline.zh }),
    maxBody: bytesSchema()
      .default(2 ** 20)
      .describe(messages.maxBody.en)
      .meta({ zh: messages.maxBody.zh }),
    drain: durationSchema().default(30_000).describe(messages.drain.en).meta({ zh: messages.drain.zh }),
    logTexts: z.boolean().default(false).describe(messages.logTexts.en).meta({ zh: messages.logTexts.zh }),
    quiet: z.boolean().default(false).describe(messages.quiet.en).meta({ zh: messages.quiet.zh, alias: "q" }),
    ledger: ledgerChoicesSchema.optional().describe(messages.ledger.en).meta({ zh: messages.ledger.zh }),
  }),
  async run(options, context) {
    const { models: given, host, port, keys, workers, rows, maxWaiting, drain, ledger } = options;
    if (keys === undefined && !options.open && !loopback.has(host)) {
      throw new ConfigError("CPM_SERVE_OPEN", say(context, messages.openRefused), {
        where: `--host ${host}`,
        hint: say(context, messages.openHint),
      });
    }
    const [{ modelName, serveModel }, { startApiServer }] = await Promise.all([
      import("../../serve/served-model.ts"),
      import("../../serve/server.ts"),
    ]);
    if (options.delta.length > 0 && given.length !== 1)
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.deltaOfWhich, { count: given.length }));
    if (options.draft !== undefined && options.lookup)
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.bothDrafts));
    const { delta: deltas, mix } = options;
    const served: readonly { readonly model: string; readonly delta?: string; readonly mixed?: readonly string[] }[] = [
      ...given.map((model) => ({ model, ...(mix && { mixed: deltas }) })),
      ...(mix ? [] : deltas.map((delta) => ({ model: given[0]!, delta }))),
    ];
    const names = [
      ...given.map((model) => modelName(model).id),
      ...deltas.map((delta) => `${modelName(given[0]!).id}:${modelName(delta).id}`),
    ];
    if (new Set(names).size < names.length) {
      throw new ConfigError("CPM_CLI_USAGE", say(context, messages.sameName), {
        got: names.join(", "),
        hint: say(context, messages.nameThem),
      });
    }
    const log = (event: string, fields: Readonly<Record<string, unknown>>) => {
      if (options.quiet) return;
      note(context, JSON.stringify({ time: new Date(context.now()).toISOString(), event, ...fields }));
    };
    const cacheFolder = options.cache ? await writableFolder(userCacheFolder(context.env)) : undefined;
    if (options.cache && cacheFolder === undefined)
      note(context, say(context, messages.noCache, { folder: userCacheFolder(context.env) }));
    note(context, say(context, messages.loading, { models: names.join(", ") }));
    const models: ServedModel[] = [];
    const closeAll = () => Promise.all(models.map(({ dispatcher }) => dispatcher.drain(0)));
    try {
      for (const which of served) {
        models.push(
          await serveModel({
            ...which,
            vocabularyPath: options.vocab,
            configPath: options.config,
            cacheFolder,
            threads: options.threads,
            draft: options.draft !== undefined ? { path: options.draft } : options.lookup ? "lookup" : undefined,
            promptCacheBytes: options.promptCache,
            cacheType: options.kvCache,
            memoryBytes: workerBytes(options.memory, served.length * workers),
            workers,
            rows,
            contextTokens: options.context,
            prefillTokens: options.prefillTokens,
            maxWaiting,
            // Where there are keys, no one of them can take all places.
            maxWaitingPerUser: keys === undefined ? maxWaiting : Math.ceil(maxWaiting / 2),
            now: context.now,
            log,
          }),
        );
        context.signal.throwIfAborted();
      }
      const machine = { cpu: cpus()[0]?.model.trim() ?? "CPU", cores: availableParallelism() };
      const server = await startApiServer({
        models,
        host,
        port,
        keysPath: keys,
        corsOrigins: options.cors,
        maxBodyBytes: options.maxBody,
        deadlineMs: options.deadline,
        assumptions: machineAssumptions(machine, ledger),
        version: version(),
        log,
        logTexts: options.logTexts,
        now: context.now,
      }).catch((error) => {
        if ((error as { code?: string }).code !== "EADDRINUSE") throw error;
        throw new UnsupportedError("CPM_SERVE_PORT", say(context, messages.portTaken, { port: String(port) }), {
          where: `${host}:${port}`,
          cause: error,
        });
      });
      if (keys === undefined) note(context, say(context, messages.withoutKeys));
      note(context, say(context, messages.serving, { models: names.join(", "), url: server.url }));
      if (context.json) print(context, JSON.stringify({ event: "listening", url: server.url, port: server.port }));
      if (!context.signal.aborted) await once(context.signal, "abort");
      note(context, say(context, messages.draining));
      await server.drain(drain);
    } catch (error) {
      await closeAll();
      throw error;
    }
    // Being stopped is how a server ends well: with the code of success, as what starts it expects.
    return 0;
  },
});

/** What the server itself takes; it holds no weights. */
const serverBytes = 192 * 2 ** 20;

/** What one of the processes with a model may keep: its part of what was asked for, or of a limit set from outside. */
function workerBytes(asked: number | undefined, processes: number): number | undefined {
  const budget = memoryBudgetBytes(asked);
  return budget === undefined ? undefined : Math.max(0, budget - serverBytes) / processes;
}

/** The folder, which is made if need be; undefined where nothing can be written, as in a container that is read-only. */
async function writableFolder(folder: string): Promise<string | undefined> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
    return folder;
  } catch {
    return undefined;
  }
}

function version(): string {
  const manifest = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}
