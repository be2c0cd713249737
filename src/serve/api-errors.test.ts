import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ApiError, apiErrors, errorBody, languageOf } from "./api-errors.ts";

test("the page lists every code with its status and both sentences", () => {
  const page = readFileSync(new URL("../../docs/serving.md", import.meta.url), "utf8");
  for (const [code, { status, zh, en }] of Object.entries(apiErrors))
    assert.ok(page.includes(`| \`${code}\` | ${status} | ${zh} | ${en} |`), code);
});

test("a refusal has OpenAI's shape, in the client's language", () => {
  const error = new ApiError("invalid_value", { param: "n", detail: "n: at most 4." });
  assert.deepEqual(errorBody(error, languageOf(undefined)), {
    error: {
      message: `${apiErrors.invalid_value.en} n: at most 4.`,
      type: "invalid_request_error",
      param: "n",
      code: "invalid_value",
    },
  });
  assert.match(errorBody(error, languageOf("zh-CN,en;q=0.5")).error.message, /^请求/);
  assert.equal(languageOf("en, zh"), "en");
});
