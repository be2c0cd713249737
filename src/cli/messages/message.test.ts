import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { typographyFaults } from "../../../tools/chinese-typography.ts";
import { errorCatalogue } from "./errors.ts";
import { type Bilingual, defineMessages, text } from "./message.ts";

const own = defineMessages({
  plain: { zh: "没有参数", en: "no parameters" },
  two: { zh: "{b} 在 {a} 之前", en: "{a} after {b}" },
});

test("parameters are filled in by name", () => {
  assert.equal(text("zh", own.plain), "没有参数");
  assert.equal(text("zh", own.two, { a: 1, b: "x" }), "x 在 1 之前");
  assert.equal(text("en", own.two, { a: 1, b: "x" }), "1 after x");
});

/** Every bilingual text of this folder's modules, with where it stands. */
async function allMessages(): Promise<(readonly [string, Bilingual])[]> {
  const found: (readonly [string, Bilingual])[] = [];
  const visit = (path: string, value: unknown) => {
    if (typeof value !== "object" || value === null) return;
    const { zh, en } = value as Partial<Bilingual>;
    if (zh !== undefined || en !== undefined) found.push([path, value as Bilingual]);
    for (const [key, inner] of Object.entries(value)) visit(`${path}.${key}`, inner);
  };
  for (const file of readdirSync(new URL(".", import.meta.url))) {
    if (!file.endsWith(".ts") || file.endsWith(".test.ts")) continue;
    visit(file, await import(new URL(file, import.meta.url).href));
  }
  return found;
}

test("every message has both languages and the same parameters in them", async () => {
  const messages = await allMessages();
  assert.ok(messages.length > 50, `only ${messages.length} messages found`);
  const names = (value: string) => [...value.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
  for (const [path, { zh, en }] of messages) {
    assert.ok(typeof zh === "string" && zh.trim() !== "", `${path} has no Chinese text`);
    assert.ok(typeof en === "string" && en.trim() !== "", `${path} has no English text`);
    assert.deepEqual([...new Set(names(zh))], [...new Set(names(en))], `${path}: parameters differ`);
    assert.doesNotMatch(en, /\p{Script=Han}/u, `${path}: Chinese in the English text`);
  }
});

test("Chinese typography of every message", async () => {
  const faults = (await allMessages()).flatMap(([path, { zh }]) =>
    typographyFaults(zh).map((fault) => `${path}: ${fault}`),
  );
  assert.deepEqual(faults, []);
});

test("every entry of the error catalogue has a Chinese headline that ends as a sentence", () => {
  for (const [code, entry] of Object.entries(errorCatalogue)) {
    assert.match(code, /^CPM(_[A-Z0-9]+)+$/);
    assert.match(entry.zh, /\p{Script=Han}.*[。？]$/u, code);
    assert.match(entry.en, /[.?]$/, code);
    assert.match(entry.remedy.zh, /[。？]$/u, code);
    assert.match(entry.remedy.en, /[.?]$/, code);
  }
});
