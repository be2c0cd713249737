import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { padColumns, textWidth, truncateColumns, wrapColumns } from "./text-width.ts";

test("Chinese takes two columns, Latin one, marks and control sequences none", () => {
  assert.equal(textWidth("abc"), 3);
  assert.equal(textWidth("损失 5.2"), 8);
  assert.equal(textWidth("，（）"), 6);
  assert.equal(textWidth("𠀀"), 2);
  assert.equal(textWidth("é"), 1);
  assert.equal(textWidth("\u001b[31m红\u001b[0m"), 2);
  assert.equal(textWidth("─→·"), 3);
});

test("padding counts columns", () => {
  assert.equal(padColumns("损失", 6), "损失  ");
  assert.equal(padColumns("损失", 6, "end"), "  损失");
  assert.equal(padColumns("损失很大", 6), "损失很大");
});

test("truncation never exceeds the columns", () => {
  assert.equal(truncateColumns("中文模型", 8), "中文模型");
  assert.equal(truncateColumns("中文模型", 7), "中文模…");
  assert.equal(truncateColumns("中文模型", 6), "中文…");
  assert.equal(truncateColumns("中", 1), "…");
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.nat(40), (value, columns) => {
      assert.ok(textWidth(truncateColumns(value, columns)) <= columns);
    }),
  );
});

test("wrapping breaks between Chinese characters but not before closing punctuation", () => {
  assert.equal(wrapColumns("训练一个小模型，然后用它写作。", 14), "训练一个小模\n型，然后用它写\n作。");
  assert.equal(wrapColumns("see the usage of it", 8), "see the\nusage of\nit");
  assert.equal(wrapColumns("用 cpm train 训练", 9), "用 cpm\ntrain 训\n练");
  assert.equal(wrapColumns("a\n\nb", 10), "a\n\nb");
});

test("wrapping loses no characters and keeps to the width where words allow", () => {
  const piece = fc.constantFrom("训", "练", "，", "。", "（", "）", "a", "bc", " ", "5");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), fc.integer({ min: 12, max: 40 }), (parts, columns) => {
      const source = parts.join("");
      const wrapped = wrapColumns(source, columns);
      assert.equal(wrapped.replaceAll(/\s/g, ""), source.replaceAll(/\s/g, ""));
    }),
  );
});
