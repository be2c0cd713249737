/**
 * The live server: read-only pages and data of runs, pushed as they happen. See `protocol.ts` for the paths.
 *
 * Everything that is served is a file of a run or of the pages; nothing is computed for one viewer that is not computed
 * once for all. Only GET and HEAD are answered; headers, paths and open connections are bounded.
 */
import { readdir } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { type HttpBindings, serve } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { type Context, Hono } from "hono";
import { listCheckpoints } from "../train/checkpoint.ts";
import { compression } from "./compression.ts";
import { type LiveRun, type LiveRuns, openLiveRuns } from "./live-runs.ts";
import { prometheusText } from "./prometheus.ts";
import type { Absence, CheckpointEntry } from "./protocol.ts";
import { fileInside, fileResponse, matchesTag, parseRange } from "./range.ts";
import type { ReplayOptions } from "./replay.ts";
import { checkpointsFolder } from "./run-folder.ts";
import { pageLedger } from "./run-ledger.ts";

export interface LiveServerOptions {
  /** Runs, or folders of runs. */
  readonly runs: readonly string[];
  /** The built pages. */
  readonly pages: string;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Weights may be downloaded. */
  readonly checkpoints: boolean;
  /** Sites that may show the pages in a frame; none by default. */
  readonly frameAncestors?: string | undefined;
  readonly replay?: Omit<ReplayOptions, "now"> | undefined;
  readonly maxViewers?: number | undefined;
  readonly now: () => number;
}

export interface LiveServer {
  readonly url: string;
  readonly port: number;
  readonly viewers: number;
  close(): Promise<void>;
}

/** In one stream. */
const maxStreamRuns = 32;
/** Given to answers under way when the server is closed. */
const closingMs = 2000;

type Env = { Bindings: HttpBindings };

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  json: "application/json; charset=utf-8",
  jsonl: "application/x-ndjson; charset=utf-8",
  md: "text/markdown; charset=utf-8",
  txt: "text/plain; charset=utf-8",
  svg: "image/svg+xml",
  png: "image/png",
  ico: "image/x-icon",
  woff2: "font/woff2",
};

/** Starts serving. Errors: those of `openLiveRuns`, and of the system where the port cannot be had. */
export async function startLiveServer(options: LiveServerOptions): Promise<LiveServer> {
  const runs = await openLiveRuns(options.runs, options.now, options.replay);
  const app = liveApp(runs, options);
  let server: Server | undefined;
  try {
    const address = await new Promise<{ port: number }>((resolve, reject) => {
      server = serve(
        {
          fetch: app.fetch,
          hostname: options.host,
          port: options.port,
          createServer,
          serverOptions: {
            maxHeaderSize: 16 * 1024,
            headersTimeout: 20_000,
            requestTimeout: 30_000,
            keepAliveTimeout: 60_000,
          },
        },
        resolve,
      ) as Server;
      server.on("error", reject);
    });
    const { host } = options;
    const shown = host === "0.0.0.0" || host === "::" ? "localhost" : host.includes(":") ? `[${host}]` : host;
    return {
      url: `http://${shown}:${address.port}/`,
      port: address.port,
      get viewers() {
        return viewersOf(runs);
      },
      async close() {
        const closed = new Promise<void>((resolve) => server!.close(() => resolve()));
        await runs.close();
        server!.closeIdleConnections();
        const timer = setTimeout(() => server!.closeAllConnections(), closingMs);
        await closed;
        clearTimeout(timer);
      },
    };
  } catch (error) {
    await runs.close();
    throw error;
  }
}

function viewersOf(runs: LiveRuns): number {
  return [...runs.open.values()].reduce((sum, { stream }) => sum + stream.viewers, 0);
}

/** The routes; `startLiveServer` puts them behind a socket. */
export function liveApp(runs: LiveRuns, options: LiveServerOptions): Hono<Env> {
  const app = new Hono<Env>();
  const ancestors = options.frameAncestors ?? "'none'";
  app.use(async (c, next) => {
    if (c.req.method !== "GET" && c.req.method !== "HEAD")
      return c.text("only GET and HEAD", 405, { Allow: "GET, HEAD" });
    if (c.req.url.length > 2048) return c.text("the address is too long", 414);
    await next();
    c.header("X-Content-Type-Options", "nosniff");
    c.header("Referrer-Policy", "no-referrer");
    c.header("Cross-Origin-Resource-Policy", "same-origin");
    c.header(
      "Content-Security-Policy",
      `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors ${ancestors}`,
    );
    return undefined;
  });

  app.use(compression());

  const withRun =
    (handle: (c: Context<Env>, run: LiveRun) => Promise<Response> | Response) => async (c: Context<Env>) => {
      const run = await runs.find(c.req.param("id") ?? "");
      return run === undefined ? absent(c, noRun) : handle(c, run);
    };
  const requestOf = (c: Context<Env>) => ({
    range: c.req.header("Range"),
    ifNoneMatch: c.req.header("If-None-Match"),
    head: c.req.method === "HEAD",
  });
  const fresh = { "Cache-Control": "no-cache" };
  const notFound = (c: Context<Env>) => absent(c, noFile);

  const isFull = () => viewersOf(runs) >= (options.maxViewers ?? 20_000);

  app.get("/health", (c) => c.json({ ok: true, viewers: viewersOf(runs) }, 200, fresh));
  app.get("/metrics", async (c) => {
    await runs.list();
    const open = [...runs.open.values()].flatMap((run) => {
      try {
        return [{ run: run.describe(), metrics: run.metrics }];
      } catch {
        return []; // gone, or being replaced
      }
    });
    const own = { cpm_live_viewers: viewersOf(runs), cpm_live_resident_bytes: process.memoryUsage.rss() };
    const type = "text/plain; version=0.0.4; charset=utf-8";
    return c.text(prometheusText(open, own), 200, { ...fresh, "Content-Type": type });
  });
  app.get("/api/runs.json", async (c) => c.json(await runs.list(), 200, fresh));
  app.get(
    "/api/runs/:id/run.json",
    withRun((c, run) => c.json(run.describe(), 200, fresh)),
  );
  app.get(
    "/api/runs/:id/ledger.json",
    withRun((c, run) => c.json(pageLedger(run.ledger.summary()), 200, fresh)),
  );
  app.get("/api/runs/:id/events.jsonl", withRun(eventBytes));
  app.get(
    "/api/runs/:id/stream",
    withRun((c, run) => {
      if (isFull()) return c.text("too many viewers", 503, { "Retry-After": "10" });
      const from = Number(c.req.header("Last-Event-ID") ?? c.req.query("from") ?? 0);
      if (!Number.isSafeInteger(from) || from < 0) return c.text("from is a byte offset", 400);
      const outgoing = beginStream(c);
      if (c.req.method === "HEAD") outgoing.end();
      else run.stream.add(outgoing, from);
      return RESPONSE_ALREADY_SENT;
    }),
  );
  // Browsers open six connections to a server of HTTP/1.1: a page with many runs needs one stream for all.
  app.get("/api/stream", async (c) => {
    if (isFull()) return c.text("too many viewers", 503, { "Retry-After": "10" });
    const asked = (c.req.query("runs") ?? "").split(",").map((part) => /^([\w.-]{1,128})~(\d{1,15})$/.exec(part));
    if (asked.length > maxStreamRuns || asked.some((part) => part === null))
      return c.text(`runs is a list of at most ${maxStreamRuns} ID~BYTE`, 400);
    const found = await Promise.all(
      asked.map(async (part) => ({ run: await runs.find(part![1]!), from: Number(part![2]) })),
    );
    const outgoing = beginStream(c);
    if (c.req.method === "HEAD") outgoing.end();
    outgoing.setMaxListeners(4 * maxStreamRuns);
    for (const { run, from } of found) run?.stream.add(outgoing, from, run.id);
    return RESPONSE_ALREADY_SENT;
  });
  app.get(
    "/api/runs/:id/checkpoints.json",
    withRun(async (c, run) => c.json(options.checkpoints ? await checkpointEntries(run) : [], 200, fresh)),
  );
  app.get(
    "/api/runs/:id/checkpoints/:step/:file",
    withRun(async (c, run) => {
      const [step, file] = [c.req.param("step")!, c.req.param("file")!];
      const path = options.checkpoints ? await fileInside(join(run.folder, checkpointsFolder), step, file) : undefined;
      if (path === undefined) return notFound(c);
      const type = types[file.split(".").at(-1)!] ?? "application/octet-stream";
      return fileResponse(path, requestOf(c), {
        type,
        cache: "public, max-age=3600",
        download: `${run.id}-${step}-${file}`,
      });
    }),
  );
  app.get(
    "/api/runs/:id/log.json",
    withRun(async (c, run) => {
      const names = await readdir(join(run.folder, "log")).catch(() => []);
      return c.json(names.filter((name) => /^[\w.-]+\.md$/.test(name)).sort(), 200, fresh);
    }),
  );
  for (const folder of ["log", "samples"] as const) {
    app.get(
      `/api/runs/:id/${folder}/:file`,
      withRun(async (c, run) => {
        const file = c.req.param("file")!;
        const path = await fileInside(join(run.folder, folder), file);
        const type = types[file.split(".").at(-1)!] ?? "text/plain; charset=utf-8";
        return path === undefined ? notFound(c) : fileResponse(path, requestOf(c), { type, cache: "no-cache" });
      }),
    );
  }
  app.get("/assets/:file", async (c) => {
    const file = c.req.param("file");
    const path = await fileInside(join(options.pages, "assets"), file);
    if (path === undefined) return notFound(c);
    const type = types[file.split(".").at(-1)!] ?? "application/octet-stream";
    return fileResponse(path, requestOf(c), { type, cache: "public, max-age=31536000, immutable" });
  });
  app.get("/", async (c) => {
    const path = await fileInside(options.pages, "index.html");
    return path === undefined
      ? notFound(c)
      : fileResponse(path, requestOf(c), { type: types.html!, cache: "no-cache" });
  });
  app.notFound((c) => (c.req.path.startsWith("/api/") ? absent(c, noFile) : c.text("not found", 404)));
  app.onError((_, c) => c.text("internal error", 500));
  return app;
}

/** Takes the response over for server-sent events. */
function beginStream(c: Context<Env>): ServerResponse {
  const outgoing = c.env.outgoing as ServerResponse;
  outgoing.writeHead(200, {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
  });
  return outgoing;
}

const noRun: Absence = {
  error: "CPM_LIVE_NO_RUN",
  message: { zh: "没有这个训练记录。", en: "There is no such run here." },
  remedy: {
    zh: "api/runs.json 列出全部训练记录；训练记录可能已移走，或服务的是另一个文件夹。",
    en: "api/runs.json lists all runs; the run may have been moved, or another folder is served.",
  },
};
const noFile: Absence = {
  error: "CPM_LIVE_NO_FILE",
  message: { zh: "没有这个文件。", en: "There is no such file here." },
  remedy: { zh: "api/runs.json 列出全部训练记录。", en: "api/runs.json lists all runs." },
};

/** 404 as JSON, so that whoever asks by a program can tell what is absent. */
function absent(c: Context<Env>, absence: Absence): Response {
  return c.json(absence, 404, { "Cache-Control": "no-store" });
}

/**
 * What is there now, or a part of it: by Range, or by `?from=BYTE`, which is an address of its own and so may be compressed
 * (compression.ts). What was sent once never changes, so a range may be kept by any cache.
 */
async function eventBytes(c: Context<Env>, { feed }: LiveRun): Promise<Response> {
  const size = feed.size;
  const start = c.req.query("from") === undefined ? 0 : Number(c.req.query("from"));
  if (!Number.isSafeInteger(start) || start < 0 || start > size) return c.text("from is a byte offset", 400);
  const range = start === 0 ? parseRange(c.req.header("Range"), size) : undefined;
  const headers: Record<string, string> = {
    "Content-Type": types.jsonl!,
    ...(start === 0 && { "Accept-Ranges": "bytes" }),
    "Cache-Control": range ? "public, max-age=86400" : "no-cache",
    ETag: start === 0 ? `"${size.toString(36)}"` : `"${start.toString(36)}-${size.toString(36)}"`,
    "X-Event-Bytes": String(size),
    "X-Event-From": String(start),
  };
  if (range === null)
    return new Response(null, { status: 416, headers: { ...headers, "Content-Range": `bytes */${size}` } });
  if (range === undefined && matchesTag(c.req.header("If-None-Match"), headers.ETag!))
    return new Response(null, { status: 304, headers });
  const { from, to } = range ?? { from: start, to: size };
  if (range) headers["Content-Range"] = `bytes ${from}-${to - 1}/${size}`;
  headers["Content-Length"] = String(to - from);
  if (c.req.method === "HEAD") return new Response(null, { status: range ? 206 : 200, headers });
  let at = from;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (at >= to) return controller.close();
      const part = await feed.read(at, Math.min(to, at + 256 * 1024));
      // A file that was cut short ends the connection: less was sent than was said.
      if (part.length === 0) throw new Error("internal: the events are shorter than they were");
      at += part.length;
      controller.enqueue(new Uint8Array(part));
    },
  });
  return new Response(body, { status: range ? 206 : 200, headers });
}

async function checkpointEntries(run: LiveRun): Promise<CheckpointEntry[]> {
  const entries: CheckpointEntry[] = [];
  const { stat } = await import("node:fs/promises");
  for (const { step, path } of await listCheckpoints(join(run.folder, checkpointsFolder))) {
    const files = [];
    for (const name of (await readdir(path)).sort()) {
      const info = await stat(join(path, name)).catch(() => undefined);
      if (info?.isFile()) files.push({ name, bytes: info.size });
    }
    entries.push({ step, files });
  }
  return entries;
}
