/**
 * The server: endpoints behind keys, limits and one socket. What is told of a request in logs and metrics is told here;
 * what is done for it is in the endpoints.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type HttpBindings, serve } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { type Context, Hono } from "hono";
import type { EngineCounts } from "../infer/engine.ts";
import type { LedgerAssumptions } from "../live/ledger-assumptions.ts";
import { ApiError, apiErrors, errorBody, languageOf } from "./api-errors.ts";
import { type ApiKey, type KeyRing, openKeyRing } from "./api-keys.ts";
import { completionEndpoints } from "./completions.ts";
import { type Endpoint, type Exchange, modelDirectory, parseBody, streamed } from "./endpoint.ts";
import { createMetrics } from "./metrics.ts";
import { openApiDocument } from "./openapi.ts";
import { createRateLimiter } from "./rate-limit.ts";
import { readingEndpoints } from "./reading-endpoints.ts";
import { readJson } from "./request-body.ts";
import type { ServedModel } from "./served-model.ts";

export interface ApiServerOptions {
  /** Started; the server closes them. */
  readonly models: readonly ServedModel[];
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** File of API keys; without one whoever reaches the server may use it. */
  readonly keysPath?: string | undefined;
  /** Origins whose pages may call the server; `*`: all. */
  readonly corsOrigins: readonly string[];
  readonly maxBodyBytes: number;
  /** Milliseconds that a request has at most. */
  readonly deadlineMs: number;
  readonly assumptions: LedgerAssumptions;
  readonly version: string;
  /** Writes one line of the log. */
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
  /** Prompts and texts go into the log. */
  readonly logTexts: boolean;
  readonly now: () => number;
}

export interface ApiServer {
  readonly url: string;
  readonly port: number;
  /** Refuses what is new, lets the rest finish for so long, then ends everything. Once: later calls wait for the first. */
  drain(graceMs: number): Promise<void>;
}

type Env = { Bindings: HttpBindings };

const secondsBounds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const tokenSecondsBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];

/** Starts listening. Errors: CPM_SERVE_KEYS, and of the system where the port cannot be had. */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { keysPath, log, now, host } = options;
  const keys =
    keysPath === undefined
      ? undefined
      : await openKeyRing(keysPath, now, (error) => log("keys_unreadable", { error: String(error) }));
  const state = { draining: false };
  const app = apiApp(options, keys, state);
  const { promise, resolve, reject } = Promise.withResolvers<{ port: number }>();
  const server = serve(
    {
      fetch: app.fetch,
      hostname: host,
      port: options.port,
      createServer,
      // A client that leaves is not an error of ours.
      autoCleanupIncoming: true,
      serverOptions: {
        maxHeaderSize: 16 * 1024,
        headersTimeout: 20_000,
        requestTimeout: 60_000,
        // Longer than balancers and clients keep theirs: they should be the ones to close.
        keepAliveTimeout: 75_000,
      },
    },
    resolve,
  ) as Server;
  server.on("error", reject);
  const { port } = await promise;
  let drained: Promise<void> | undefined;
  async function drain(graceMs: number): Promise<void> {
    state.draining = true;
    log("draining", {
      grace_ms: graceMs,
      open: options.models.reduce((sum, model) => sum + model.dispatcher.open, 0),
    });
    await Promise.all(options.models.map((model) => model.dispatcher.drain(graceMs)));
    // Answers that are on their way out get a moment to arrive.
    const closed = new Promise<void>((done) => server.close(() => done()));
    server.closeIdleConnections();
    const cut = setTimeout(() => server.closeAllConnections(), 1000);
    await closed;
    clearTimeout(cut);
    log("stopped", {});
  }
  const shown = host === "0.0.0.0" || host === "::" ? "localhost" : host.includes(":") ? `[${host}]` : host;
  return {
    url: `http://${shown}:${port}`,
    port,
    drain: (graceMs) => (drained ??= drain(graceMs)),
  };
}

/** The routes; `startApiServer` puts them behind a socket. */
function apiApp(
  options: ApiServerOptions,
  keys: KeyRing | undefined,
  state: { readonly draining: boolean },
): Hono<Env> {
  const { models, log, now, corsOrigins } = options;
  const limiter = createRateLimiter(now);
  const metrics = serverMetrics(models);
  const settings = {
    deadlineMs: options.deadlineMs,
    assumptions: options.assumptions,
    onWork: metrics.onWork,
    onFirstToken: metrics.onFirstToken,
    onNextToken: metrics.onNextToken,
    onSlowReader: metrics.onSlowReader,
  };
  const directory = modelDirectory(models);
  const endpoints = [...completionEndpoints(directory, settings), ...readingEndpoints(directory, settings)];
  const document = openApiDocument(endpoints, options.version, keys !== undefined);

  const corsHeaders = (origin: string | undefined): Record<string, string> => {
    if (origin === undefined || corsOrigins.length === 0) return {};
    const any = corsOrigins.includes("*");
    if (!any && !corsOrigins.includes(origin)) return { Vary: "Origin" };
    return {
      "Access-Control-Allow-Origin": any ? "*" : origin,
      "Access-Control-Expose-Headers": "X-Request-Id, Retry-After",
      ...(!any && { Vary: "Origin" }),
    };
  };

  async function keyOf(c: Context<Env>): Promise<ApiKey | undefined> {
    if (keys === undefined) return undefined;
    const [, secret] = /^Bearer ([\x21-\x7e]{1,200})$/.exec(c.req.header("Authorization") ?? "") ?? [];
    const key = secret === undefined ? undefined : await keys.find(secret);
    if (key === undefined) throw new ApiError("invalid_api_key");
    return key;
  }

  function checkLimits(key: ApiKey | undefined): void {
    if (key === undefined) return;
    const { sha256, requestsPerMinute, tokensPerMinute } = key;
    const waitSeconds = Math.max(
      tokensPerMinute === undefined ? 0 : limiter.take(`${sha256} tokens`, tokensPerMinute, 0),
      requestsPerMinute === undefined ? 0 : limiter.take(`${sha256} requests`, requestsPerMinute, 1),
    );
    if (waitSeconds > 0) throw new ApiError("rate_limit_exceeded", { retryAfterSeconds: Math.ceil(waitSeconds) });
  }

  const handler = (endpoint: Endpoint) => async (c: Context<Env>) => {
    const startMs = performance.now();
    const { incoming, outgoing } = c.env as { incoming: IncomingMessage; outgoing: ServerResponse };
    const id = randomUUID();
    const language = languageOf(c.req.header("Accept-Language"));
    const named = requestIdOf(c);
    const headers = {
      "X-Request-Id": named ?? id,
      "X-Content-Type-Options": "nosniff",
      ...corsHeaders(c.req.header("Origin")),
    };
    const fields: Record<string, unknown> = { ...(named !== undefined && { client_request: named }) };
    const left = new AbortController();
    outgoing.once("close", () => {
      if (!outgoing.writableFinished) left.abort(new DOMException("the client has left", "AbortError"));
    });
    let status = 200;
    let code: string | undefined;
    try {
      const key = await keyOf(c);
      if (key !== undefined) fields.key = key.id;
      if (endpoint.scope !== undefined && key !== undefined && !key.scopes.includes(endpoint.scope))
        throw new ApiError("insufficient_scope", { detail: `${endpoint.scope}.` });
      if (state.draining) throw new ApiError("shutting_down", { retryAfterSeconds: 5 });
      checkLimits(key);
      const body =
        endpoint.request === undefined
          ? undefined
          : parseBody(endpoint.request, await readJson(incoming, options.maxBodyBytes));
      const exchange: Exchange = {
        id,
        user: key?.sha256 ?? "",
        language,
        signal: left.signal,
        parameters: c.req.param() as Record<string, string>,
        outgoing,
        headers,
        log: fields,
        logTexts: options.logTexts,
        charge(tokens) {
          if (key?.tokensPerMinute !== undefined) limiter.charge(`${key.sha256} tokens`, key.tokensPerMinute, tokens);
        },
      };
      const answer = await endpoint.handle(body, exchange);
      if (answer === streamed) {
        code = fields.error as string | undefined;
        return RESPONSE_ALREADY_SENT;
      }
      return c.json(answer as object, 200, headers);
    } catch (error) {
      if (left.signal.aborted) {
        status = 499;
        code = "client_left";
        metrics.onClientLeft();
        return RESPONSE_ALREADY_SENT;
      }
      const refusal = error instanceof ApiError ? error : new ApiError("internal_error");
      if (!(error instanceof ApiError)) {
        const { stack } = error as { stack?: string };
        log("internal_error", { request: id, error: stack ?? String(error) });
      }
      status = refusal.status;
      code = refusal.code;
      if (outgoing.headersSent) {
        outgoing.destroy();
        return RESPONSE_ALREADY_SENT;
      }
      return refuse(c, refusal, language, headers);
    } finally {
      const ms = performance.now() - startMs;
      metrics.onRequest(endpoint.path, status, code, ms);
      log("request", { request: id, path: endpoint.path, status, code, ms: Math.round(ms), ...fields });
    }
  };

  const allowed = allowedMethods(endpoints);
  const app = new Hono<Env>();
  app.use(async (c, next) => {
    if (c.req.url.length > 2048)
      return refuse(c, new ApiError("invalid_value", { detail: "The address is too long." }));
    if (c.req.method === "OPTIONS" && c.req.header("Access-Control-Request-Method") !== undefined) {
      return c.body(null, 204, {
        ...corsHeaders(c.req.header("Origin")),
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers":
          "Authorization, Content-Type, Content-Encoding, Accept-Language, OpenAI-Organization, OpenAI-Project, X-Request-Id",
        "Access-Control-Max-Age": "600",
      });
    }
    await next();
    return undefined;
  });
  for (const endpoint of endpoints) app.on(endpoint.method.toUpperCase(), endpoint.path, handler(endpoint));

  const fresh = { "Cache-Control": "no-store" };
  app.get("/openapi.json", (c) => c.json(document, 200, { ...fresh, ...corsHeaders(c.req.header("Origin")) }));
  app.get("/health/live", (c) => c.json({ status: "ok" }, 200, fresh));
  // Two names: what users of other servers look for, and what probes are told apart by.
  app.on("GET", ["/health", "/health/ready"], (c) => {
    const missing = models.filter(({ dispatcher }) => dispatcher.pool.states.every(({ ready }) => !ready));
    const ready = !state.draining && missing.length === 0;
    const status = state.draining ? "draining" : ready ? "ok" : "no worker";
    return c.json({ status, models: models.map(({ id }) => id) }, ready ? 200 : 503, fresh);
  });
  app.get("/metrics", (c) =>
    c.text(metrics.text(), 200, { ...fresh, "Content-Type": "text/plain; version=0.0.4; charset=utf-8" }),
  );
  app.notFound((c) => {
    const methods = allowed(c.req.path);
    if (methods === undefined) return refuse(c, new ApiError("not_found"));
    if (c.req.method === "OPTIONS") return c.body(null, 204, { Allow: methods });
    const response = refuse(c, new ApiError("method_not_allowed"));
    response.headers.set("Allow", methods);
    return response;
  });
  app.onError((error, c) => {
    log("internal_error", { error: error.stack ?? String(error) });
    return refuse(c, new ApiError("internal_error"));
  });
  return app;
}

/** What a path takes, for `Allow`; undefined for paths that there are not. */
function allowedMethods(endpoints: readonly Endpoint[]): (path: string) => string | undefined {
  const own = ["/openapi.json", "/health", "/health/live", "/health/ready", "/metrics"];
  const known = [
    ...endpoints.map(({ path, method }) => ({ path, method })),
    ...own.map((path) => ({ path, method: "get" })),
  ];
  const patterns = known.map(({ path, method }) => ({
    pattern: new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/:\w+/g, "[^/]+")}$`),
    methods: method === "get" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS",
  }));
  return (path) => patterns.find(({ pattern }) => pattern.test(path))?.methods;
}

/** The name that a client gave its request, where it is one that may stand in a log. */
function requestIdOf(c: Context<Env>): string | undefined {
  return /^[\w.:+/=-]{1,128}$/.exec(c.req.header("X-Request-Id") ?? "")?.[0];
}

function refuse(
  c: Context<Env>,
  error: ApiError,
  language = languageOf(c.req.header("Accept-Language")),
  headers: Record<string, string> = { "X-Request-Id": requestIdOf(c) ?? randomUUID() },
): Response {
  const { retryAfterSeconds } = error.details;
  return c.json(errorBody(error, language), error.status, {
    ...headers,
    "Cache-Control": "no-store",
    ...(retryAfterSeconds !== undefined && { "Retry-After": String(retryAfterSeconds) }),
    ...(error.code === "invalid_api_key" && { "WWW-Authenticate": "Bearer" }),
    ...(error.code === "request_timeout" && { Connection: "close" }),
  });
}

/** What `/metrics` shows. */
function serverMetrics(models: readonly ServedModel[]) {
  const metrics = createMetrics();
  const requests = metrics.counter("cpm_serve_requests_total", "Requests by path and status.");
  const refusals = metrics.counter("cpm_serve_refusals_total", "Requests that were refused or failed, by code.");
  const seconds = metrics.histogram("cpm_serve_request_seconds", "Duration of requests, by path.", secondsBounds);
  const first = metrics.histogram("cpm_serve_first_token_seconds", "From request to first token.", secondsBounds);
  const next = metrics.histogram("cpm_serve_next_token_seconds", "Between the tokens of a text.", tokenSecondsBounds);
  const promptTokens = metrics.counter("cpm_serve_prompt_tokens_total", "Tokens read.");
  const generatedTokens = metrics.counter("cpm_serve_generated_tokens_total", "Tokens generated.");
  const joules = metrics.counter("cpm_serve_energy_joules_total", "Energy of requests, by the stated power.");
  const left = metrics.counter("cpm_serve_clients_left_total", "Clients that left before their answer was complete.");
  const slow = metrics.counter("cpm_serve_slow_readers_total", "Streams given up because they were not read.");
  const perModel = (read: (model: ServedModel) => number) => () =>
    models.map((model) => ({ labels: { model: model.id }, value: read(model) }));
  metrics.gauge(
    "cpm_serve_waiting",
    "Requests in the queue.",
    perModel(({ dispatcher }) => dispatcher.waiting),
  );
  metrics.gauge(
    "cpm_serve_open",
    "Requests waiting or at work.",
    perModel(({ dispatcher }) => dispatcher.open),
  );
  const states = (model: ServedModel) => model.dispatcher.pool.states;
  metrics.gauge(
    "cpm_serve_rows",
    "Rows at work.",
    perModel((model) => states(model).reduce((sum, { rows }) => sum + rows, 0)),
  );
  metrics.gauge(
    "cpm_serve_workers_ready",
    "Worker processes that are ready.",
    perModel((model) => states(model).filter(({ ready }) => ready).length),
  );
  metrics.gauge(
    "cpm_serve_worker_restarts",
    "Times that a worker process was started again.",
    perModel(({ dispatcher }) => dispatcher.pool.restarts),
  );
  metrics.gauge(
    "cpm_serve_worker_resident_bytes",
    "Resident memory of the worker processes.",
    perModel((model) => states(model).reduce((sum, { residentBytes }) => sum + residentBytes, 0)),
  );
  const counted = (name: string, help: string, of: (counts: EngineCounts) => number) =>
    metrics.gauge(
      name,
      help,
      perModel((model) => states(model).reduce((sum, { counts }) => sum + of(counts), 0)),
    );
  counted("cpm_serve_prompt_cache_bytes", "States of prompts that are kept.", (each) => each.promptCacheBytes);
  counted(
    "cpm_serve_cached_tokens",
    "Prompt tokens not read again, by the processes of now.",
    (each) => each.cachedTokens,
  );
  counted("cpm_serve_drafted_tokens", "Tokens guessed, by the processes of now.", (each) => each.draftedTokens);
  counted("cpm_serve_accepted_tokens", "Guesses that were right.", (each) => each.acceptedTokens);
  metrics.gauge("cpm_serve_resident_bytes", "Resident memory of the server itself.", () => [
    { value: process.memoryUsage.rss() },
  ]);
  return {
    text: () => metrics.text(),
    onRequest(path: string, status: number, code: string | undefined, ms: number) {
      requests.add({ path, status: String(status) });
      if (code !== undefined && code in apiErrors) refusals.add({ code });
      seconds.observe(ms / 1000, { path });
    },
    onWork(
      { label: id }: ServedModel,
      work: { promptTokens: number; generatedTokens: number },
      cost: { energy_wh: number | null },
    ) {
      promptTokens.add({ model: id }, work.promptTokens);
      generatedTokens.add({ model: id }, work.generatedTokens);
      if (cost.energy_wh !== null) joules.add({ model: id }, cost.energy_wh * 3600);
    },
    onFirstToken: ({ label }: ServedModel, ms: number) => first.observe(ms / 1000, { model: label }),
    onNextToken: ({ label }: ServedModel, ms: number) => next.observe(ms / 1000, { model: label }),
    onClientLeft: () => left.add(),
    onSlowReader: () => slow.add(),
  };
}
