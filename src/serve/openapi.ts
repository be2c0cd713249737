/** The OpenAPI 3.1 document, from the table of endpoints: the schemas that check requests are those that describe them. */
import { z } from "zod";
import { apiErrors } from "./api-errors.ts";
import { errorAnswer } from "./api-schemas.ts";
import type { Endpoint } from "./endpoint.ts";

type Json = Record<string, unknown>;

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { target: "draft-2020-12", io, unrepresentable: "any" });
  return rest;
}

const json = (schema: unknown) => ({ content: { "application/json": { schema } } });

/** `secured`: an API key is asked for. */
export function openApiDocument(endpoints: readonly Endpoint[], version: string, secured: boolean): Json {
  const schemas: Json = { Error: jsonSchema(errorAnswer, "output") };
  const paths: Record<string, Json> = {};
  for (const { path, method, name, summary, scope, request, answer, chunk } of endpoints) {
    const reference = (suffix: string, schema: z.ZodType, io: "input" | "output") => {
      schemas[`${name}${suffix}`] = jsonSchema(schema, io);
      return { $ref: `#/components/schemas/${name}${suffix}` };
    };
    const content: Json = { "application/json": { schema: reference("Answer", answer, "output") } };
    if (chunk !== undefined) {
      content["text/event-stream"] = {
        schema: reference("Chunk", chunk, "output"),
        description: "Each event's data is such an object; the last one is [DONE].",
      };
    }
    const parameters = [...path.matchAll(/:(\w+)/g)].map(([, parameter]) => ({
      name: parameter,
      in: "path",
      required: true,
      schema: { type: "string" },
    }));
    const shown = path.replaceAll(/:(\w+)/g, "{$1}");
    paths[shown] = {
      ...paths[shown],
      [method]: {
        operationId: name,
        summary,
        ...(parameters.length > 0 && { parameters }),
        ...(request && { requestBody: { required: true, ...json(reference("Request", request, "input")) } }),
        ...(secured && scope && { security: [{ apiKey: [] }] }),
        responses: {
          200: { description: "Done.", content },
          default: { description: "Refused; see `error.code`.", ...json({ $ref: "#/components/schemas/Error" }) },
        },
      },
    };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "cpm serve",
      version,
      description: `Codes of refusals: ${Object.entries(apiErrors)
        .map(([code, { status, en }]) => `\`${code}\` (${status}): ${en}`)
        .join(" ")}`,
    },
    jsonSchemaDialect: "https://json-schema.org/draft/2020-12/schema",
    paths,
    components: {
      schemas,
      ...(secured && { securitySchemes: { apiKey: { type: "http", scheme: "bearer" } } }),
    },
  };
}
