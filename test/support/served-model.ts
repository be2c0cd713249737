/** A server over a small random model in a real worker process, and clients of it. */
import { machineAssumptions } from "../../src/live/ledger-assumptions.ts";
import { type ServedModel, type ServedModelOptions, serveModel } from "../../src/serve/served-model.ts";
import { type ApiServer, type ApiServerOptions, startApiServer } from "../../src/serve/server.ts";

export type LogLine = { readonly event: string; readonly [field: string]: unknown };

export interface TestServer {
  readonly url: string;
  readonly model: ServedModel;
  readonly server: ApiServer;
  readonly log: LogLine[];
  /** Posts JSON, or a body as it is. */
  post(path: string, body: unknown, options?: RequestInit): Promise<Response>;
  /** Posts and parses; fails unless the status is 200. */
  ask<T = Record<string, never>>(path: string, body: unknown, options?: RequestInit): Promise<T>;
}

export interface TestServerOptions extends Partial<ApiServerOptions> {
  readonly rows?: number;
  readonly contextTokens?: number;
  readonly maxWaiting?: number;
  readonly workers?: number;
  /** Served beside the model. */
  readonly delta?: string;
  /** Deltas in the model's batches. */
  readonly mixed?: readonly string[];
  readonly draft?: ServedModelOptions["draft"];
  readonly promptCacheBytes?: number;
  readonly cacheType?: ServedModelOptions["cacheType"];
  readonly memoryBytes?: number;
  readonly cacheFolder?: string;
}

/** Serves the model in a folder (`writeSmallModel`). The caller drains it. */
export async function startTestServer(folder: string, options: TestServerOptions = {}): Promise<TestServer> {
  const { rows = 4, workers = 1, contextTokens = 96, maxWaiting = 64, delta, ...others } = options;
  const { mixed, draft, promptCacheBytes = 0, cacheType = "float32", memoryBytes, cacheFolder, ...rest } = others;
  const log: LogLine[] = [];
  const write = (event: string, fields: Readonly<Record<string, unknown>>) => log.push({ event, ...fields });
  const open = (more: { delta?: string } = {}) =>
    serveModel({
      ...more,
      mixed,
      draft,
      promptCacheBytes,
      cacheType,
      memoryBytes,
      cacheFolder,
      model: `small=${folder}`,
      threads: 1,
      workers,
      rows,
      contextTokens,
      prefillTokens: 64,
      maxWaiting,
      maxWaitingPerUser: maxWaiting,
      now: Date.now,
      log: write,
    });
  const model = await open();
  const close = (error: unknown) => model.dispatcher.drain(0).then(() => Promise.reject(error));
  const tuned = delta === undefined ? [] : [await open({ delta }).catch(close)];
  const server = await startApiServer({
    models: [model, ...tuned],
    host: "127.0.0.1",
    port: 0,
    corsOrigins: [],
    maxBodyBytes: 64 * 1024,
    deadlineMs: 30_000,
    assumptions: machineAssumptions({ cpu: "Test CPU", cores: 2 }, { pricePerHour: 3.6, grid: "cn-2022" }),
    version: "0.0.0",
    log: write,
    logTexts: false,
    now: Date.now,
    ...rest,
  });
  const post = (path: string, body: unknown, init: RequestInit = {}) =>
    fetch(server.url + path, {
      method: "POST",
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...init,
      headers: { "Content-Type": "application/json", ...init.headers },
    });
  return {
    url: server.url,
    model,
    server,
    log,
    post,
    async ask(path, body, init) {
      const response = await post(path, body, init);
      const text = await response.text();
      if (response.status !== 200) throw new Error(`${response.status} ${text}`);
      return JSON.parse(text);
    },
  };
}

/** The data of a stream's events, [DONE] as text. Fails where a line is not of an event. */
export function eventsOf(text: string): unknown[] {
  const events: unknown[] = [];
  for (const block of text.split("\n\n")) {
    if (block === "" || block.startsWith(":")) continue;
    if (!block.startsWith("data: ") || block.includes("\n")) throw new Error(`not an event: ${JSON.stringify(block)}`);
    const data = block.slice("data: ".length);
    events.push(data === "[DONE]" ? data : JSON.parse(data));
  }
  return events;
}
