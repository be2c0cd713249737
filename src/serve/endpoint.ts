/** What an endpoint is, and what it gets to know of a request: the one shape that all of them are written in. */
import type { ServerResponse } from "node:http";
import type { z } from "zod";
import { ApiError, type ApiLanguage } from "./api-errors.ts";
import type { Scope } from "./api-keys.ts";
import { neutralParameters, parameterHints } from "./api-schemas.ts";
import { mixedModel } from "./delta-mix.ts";
import type { ServedModel } from "./served-model.ts";

/** One request and what is known of it. */
export interface Exchange {
  readonly id: string;
  /** Whose turn it takes in the queues and whose limits count: the key, or one for all. */
  readonly user: string;
  readonly language: ApiLanguage;
  /** Aborts when the client leaves. */
  readonly signal: AbortSignal;
  readonly parameters: Readonly<Record<string, string>>;
  /** For endpoints that stream; with the headers that every answer has. */
  readonly outgoing: ServerResponse;
  readonly headers: Readonly<Record<string, string>>;
  /** What the log says of the request beside what it says of all. */
  readonly log: Record<string, unknown>;
  /** Prompts and texts go into the log. */
  readonly logTexts: boolean;
  /** Tokens that were read and written: counts against the key's limit. */
  charge(tokens: number): void;
}

/** Its answer went out as a stream. */
export const streamed = Symbol("streamed");

export interface Endpoint<R extends z.ZodType = z.ZodType> {
  readonly path: string;
  readonly method: "get" | "post";
  /** In the OpenAPI document. */
  readonly name: string;
  readonly summary: string;
  /** What an API key must allow; without one any key will do. */
  readonly scope?: Scope | undefined;
  readonly request?: R | undefined;
  readonly answer: z.ZodType;
  readonly chunk?: z.ZodType | undefined;
  handle(body: z.output<R>, exchange: Exchange): Promise<unknown>;
}

/** Declares an endpoint; the schema's type flows into `handle`. */
export function defineEndpoint<R extends z.ZodType>(endpoint: Endpoint<R>): Endpoint {
  return endpoint as unknown as Endpoint;
}

/** Checks a body. Throws ApiError `invalid_value` or `unsupported_parameter` naming the first fault. */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const path = issue.path.map(String);
  if (issue.code === "unrecognized_keys") {
    const param = [...path, issue.keys[0]!].join(".").slice(0, 200);
    throw new ApiError("unsupported_parameter", { param, detail: parameterHints[param] });
  }
  const param = path.join(".") || undefined;
  if (param !== undefined && neutralParameters.has(param)) {
    throw new ApiError("unsupported_parameter", { param, detail: parameterHints[param] });
  }
  throw new ApiError("invalid_value", { param, detail: `${param ?? "The body"}: ${issue.message}.` });
}

export interface ModelDirectory {
  readonly models: readonly ServedModel[];
  /** Throws ApiError `model_not_found`. Without a name it is the first one. */
  find(name: string | null | undefined): ServedModel;
}

export function modelDirectory(served: readonly ServedModel[]): ModelDirectory {
  // Each delta in a batch is listed beside its model; other mixtures are known when they are asked for.
  const models = served.flatMap((model) => [model, ...model.deltas.map((name) => mixedModel(model, name)!)]);
  const mixture = (name: string) => {
    const at = name.indexOf(":");
    const model = at < 0 ? undefined : served.find(({ id }) => id === name.slice(0, at));
    return model && mixedModel(model, name.slice(at + 1));
  };
  return {
    models,
    find(name) {
      const found = name == null ? models[0] : (models.find(({ id }) => id === name) ?? mixture(name));
      if (found === undefined) throw new ApiError("model_not_found", { param: "model" });
      return found;
    },
  };
}
