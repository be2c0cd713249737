/** Normalising, filters, duplicates and leakage: the rules that judge one text. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { temporaryFolder } from "../../../test/support/text-model.ts";
import { createDuplicateFinder, type DuplicateOptions, duplicatesSchema, hash53, printsOf } from "./duplicates.ts";
import { filterReason, filtersSchema } from "./filters.ts";
import { createLeakageIndex, leakageSchema, readLeakageIndex } from "./leakage.ts";
import { normalizeSchema, normalizeText } from "./normalize.ts";

const folder = temporaryFolder("cpm-rules-");

test("normalising: composed form, one kind of line end and space, nothing invisible", () => {
  const options = normalizeSchema.parse({});
  assert.equal(normalizeText("e\u0301\r\n甲\u2028乙\u0085丙\r丁", options), "é\n甲\n乙\n丙\n丁");
  assert.equal(normalizeText("\uFEFFa\u0000b\u200Bc\u202Ed\u00A0e\tf\u3000g ", options), "abcd e f\u3000g");
  assert.equal(normalizeText("👩\u200D👧", options), "👩\u200D👧");
  assert.equal(normalizeText(`甲\u{E0041}乙`, options), "甲乙"); // a tag, beyond 16 bits
  const off = normalizeSchema.parse({ nfc: false, controls: false });
  assert.equal(normalizeText("e\u0301\u0000\t", off), "e\u0301\u0000");
});

test("normalising: width is kept unless it is asked for", () => {
  const text = "Ａ１％，你好,世界.共3.5元!end";
  const width = (value: string) => normalizeText(text, normalizeSchema.parse({ width: value }));
  assert.equal(width("keep"), text);
  assert.equal(width("half"), "A1%，你好,世界.共3.5元!end");
  assert.equal(width("full"), "Ａ１％，你好，世界。共3.5元!end");
});

test("normalising twice is normalising once", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "grapheme", maxLength: 60 }),
      fc.constantFrom("keep", "half", "full"),
      (text, width) => {
        const options = normalizeSchema.parse({ width });
        const once = normalizeText(text, options);
        assert.equal(normalizeText(once, options), once);
        assert.ok(!/(?!\n)\p{Cc}|\u200B|\uFEFF/u.test(once));
      },
    ),
  );
});

const poem = "床前明月光，疑是地上霜。举头望明月，低头思故乡。";

test("filters name the first rule that a text breaks", () => {
  const reason = (text: string, options: object = {}) => filterReason(text, filtersSchema.parse(options));
  assert.equal(reason(poem), undefined);
  assert.equal(reason("太短"), "short");
  assert.equal(reason("𠮷".repeat(9)), "short"); // nine code points, eighteen units
  assert.equal(reason("𠮷".repeat(10)), undefined);
  assert.equal(reason(poem, { maxCharacters: 20 }), "long");
  assert.equal(reason("This is a sentence of English without any Chinese."), "language");
  assert.equal(reason("これはひらがなのぶんしょうです。"), "language");
  assert.equal(reason("한국어로 쓴 문장은 여기에 넣지 않습니다"), "language");
  assert.equal(reason("使用 git commit 提交更改，然后推送。"), undefined);
  assert.equal(reason("|—|—|—|♥♥♥♥♥♥♥♥♥♥ 表格 ■■■■"), "symbols");
  assert.equal(reason(Array(5).fill("这一行重复了很多次").join("\n")), "repetition");
  assert.equal(reason(`${poem}\n第二行不同的话\n${poem.slice(0, 8)}`), undefined);
  assert.equal(reason("2023 1 2 3 4 5 6 7 8 9"), undefined); // figures are no language
  assert.equal(reason("English only here", { minHanShare: 0 }), undefined);
});

const finder = (options: Partial<DuplicateOptions> = {}) => {
  const all = duplicatesSchema.parse(options);
  const made = createDuplicateFinder(all);
  return { check: (text: string) => made.check(printsOf(text, all)), remember: made.remember };
};
/** A line of text that differs in all its parts for each i. */
const line = (i: number) => `第${i}段讲的是${i * 7919}号房间里的${i * 104729}件旧东西与它们的来历`;
const lines = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => line(from + i)).join("\n");

test("equal texts are duplicates, and only the first stays", () => {
  const { check, remember } = finder();
  assert.equal(check("甲乙丙丁"), undefined);
  assert.equal(check("甲乙丙丁"), "duplicate");
  assert.equal(check("甲乙丙丁。"), undefined);
  remember(printsOf(lines(0, 10), duplicatesSchema.parse({})));
  assert.equal(check(lines(0, 10)), "duplicate");
  assert.equal(check(lines(2, 12)), "paragraphs");
  assert.equal(check(`前言${lines(0, 10).replaceAll("\n", "")}`), "nearDuplicate");
  const off = finder({ exact: false });
  assert.equal(off.check("甲乙丙丁"), undefined);
  assert.equal(off.check("甲乙丙丁"), undefined);
});

test("a document is a duplicate from 70 % known paragraphs on, short ones not counted", () => {
  const make = () => {
    const made = finder({ similarity: 0 });
    assert.equal(made.check(lines(0, 10)), undefined);
    return made.check;
  };
  assert.equal(make()(lines(4, 14)), undefined); // 6 of 10
  assert.equal(make()(lines(3, 13)), "paragraphs"); // 7 of 10
  assert.equal(make()(`${lines(4, 14)}\n短行一\n短行二\n短行三`), undefined);
  assert.equal(make()(`${lines(3, 13)}\n短行一\n短行二\n短行三`), "paragraphs");
  // What was left out is not remembered: its new paragraphs stay new.
  const check = make();
  assert.equal(check(lines(3, 13)), "paragraphs");
  assert.equal(check(lines(10, 20)), undefined);
});

test("nearly equal texts are found, different ones are not", () => {
  const { check } = finder({ paragraphShare: 0 });
  const article = lines(0, 30).replaceAll("\n", "");
  assert.equal(check(article), undefined);
  assert.equal(check(`${article.slice(0, 400)}改${article.slice(401)}`), "nearDuplicate");
  assert.equal(check(`${article}。后来又添了一句话。`), "nearDuplicate");
  assert.equal(check(lines(100, 130).replaceAll("\n", "")), undefined);
  assert.equal(check(poem), undefined);
  assert.equal(check(poem.replace("霜", "雪")), undefined); // too short to say: 24 characters, 5 of 20 shingles differ
});

test("the estimate of likeness is near the truth", () => {
  const options = duplicatesSchema.parse({});
  const shingles = (text: string) => new Set(Array.from({ length: text.length - 4 }, (_, i) => text.slice(i, i + 5)));
  let worst = 0;
  for (const shared of [5, 15, 25, 35]) {
    const one = lines(0, 40).replaceAll("\n", "");
    const two = lines(40 - shared, 80 - shared).replaceAll("\n", "");
    const [a, b] = [printsOf(one, options).signature, printsOf(two, options).signature];
    const estimate = a.filter((value, i) => value === b[i]).length / a.length;
    const [s, t] = [shingles(one), shingles(two)];
    const common = [...s].filter((each) => t.has(each)).length;
    worst = Math.max(worst, Math.abs(estimate - common / (s.size + t.size - common)));
  }
  assert.ok(worst < 0.2, `off by ${worst}`); // 64 hashes: a deviation of at most 0.06
});

test("hashes of paragraphs do not fall together", () => {
  const seen = new Set<number>();
  for (let i = 0; i < 20_000; i++)
    seen
      .add(hash53(`${i}`))
      .add(hash53(`段落${i}`))
      .add(hash53(line(i)));
  assert.equal(seen.size, 60_000);
});

test("leakage: a shared passage is found whatever marks stand in it, a shorter one is not", () => {
  const question = "下列关于长江三角洲城市群发展规划的说法中正确的一项是什么，请结合材料说明理由并举出两个例子。";
  const index = createLeakageIndex();
  index.add(question);
  assert.ok(index.size > 0);
  assert.ok(index.matches(`前言。${question}后记。`) > 0);
  assert.ok(index.matches(`前言。${question.replace("，", "\n\n  ……").replaceAll("的", "的 ")}`) > 0);
  assert.equal(index.matches(`前言${question.slice(0, 20)}后记${"别的内容".repeat(20)}`), 0);
  assert.equal(index.matches("太短"), 0);
  assert.equal(createLeakageIndex().matches(question), 0);
});

test("leakage: what is missed, and what is found wrongly, by chance", () => {
  const index = createLeakageIndex();
  let state = 1;
  const random = (length: number) =>
    Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return String.fromCharCode(0x4e00 + ((state >>> 12) % 4000));
    }).join("");
  const questions = Array.from({ length: 300 }, () => random(24 + 16));
  for (const question of questions) index.add(question);
  const found = questions.filter((question) => index.matches(`${random(100)}${question}${random(100)}`) > 0).length;
  assert.ok(found >= 290, `${found} of 300`);
  let wrong = 0;
  for (let i = 0; i < 300; i++) if (index.matches(random(300)) > 0) wrong++;
  assert.equal(wrong, 0);
});

test("leakage: every string of evaluation files counts, of JSON however deep", async () => {
  const text = (name: string) => `这是${name}里面的一段足够长的评测文字，用来检查训练文本里有没有混进来同样的句子`;
  const files = {
    "a.jsonl.gz": gzipSync(JSON.stringify({ q: [{ deep: [text("甲")] }], n: 3, none: null })),
    "b.txt": text("乙"),
    "c.json": JSON.stringify([{ input: text("丙") }], undefined, 1), // over several lines
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  const paths = Object.keys(files).map((name) => join(folder, name));
  const index = await readLeakageIndex(leakageSchema.parse({ files: paths, letters: 16 }));
  for (const name of ["甲", "乙", "丙"]) assert.ok(index!.matches(text(name)) > 0, name);
  assert.equal(index!.matches(poem.repeat(3)), 0);
  assert.equal(await readLeakageIndex(leakageSchema.parse({})), undefined);
});
