import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError } from "../util/error.ts";
import { resolveLocale } from "./locale.ts";

test("the flag, then CPM_LANG, then the system's locale, Chinese first", () => {
  assert.equal(resolveLocale(undefined, {}), "zh");
  assert.equal(resolveLocale(undefined, { LANG: "C.UTF-8" }), "zh");
  assert.equal(resolveLocale(undefined, { LC_ALL: "POSIX", LANG: "en_US.UTF-8" }), "zh");
  assert.equal(resolveLocale(undefined, { LANG: "zh_TW.UTF-8" }), "zh");
  assert.equal(resolveLocale(undefined, { LANG: "en_US.UTF-8" }), "en");
  assert.equal(resolveLocale(undefined, { LC_MESSAGES: "zh_CN", LANG: "en_US" }), "zh");
  assert.equal(resolveLocale(undefined, { LANG: "de_DE@euro" }), "en");
  assert.equal(resolveLocale(undefined, { CPM_LANG: "zh", LANG: "en_US" }), "zh");
  assert.equal(resolveLocale("en", { CPM_LANG: "zh" }), "en");
});

test("an unknown language is an error that says where it came from", () => {
  assert.throws(
    () => resolveLocale("fr", {}),
    (error) => error instanceof ConfigError && error.where === "--lang",
  );
  assert.throws(() => resolveLocale(undefined, { CPM_LANG: "fr" }), { where: "CPM_LANG" });
});
