import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { jsonLineTexts, linesOf, maxLineBytes } from "./text-input.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-text-"));
after(() => rmSync(folder, { recursive: true }));

async function* chunks(bytes: Uint8Array, size: number) {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

test("lines come out the same however the bytes arrive", async () => {
  const line = fc.string({ unit: "grapheme" }).map((text) => text.replaceAll(/[\n\r]/g, ""));
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 9 }),
      async (lines, size) => {
        const bytes = new TextEncoder().encode(lines.map((text) => `${text}\n`).join(""));
        assert.deepEqual(
          await Array.fromAsync(linesOf(chunks(bytes, size), "x")),
          lines.map((text) => text.toWellFormed()),
        );
      },
    ),
    { numRuns: 60 },
  );
});

test("a last line without a line feed counts, an empty end does not, CRLF is taken off, U+2028 stays", async () => {
  const read = (text: string) =>
    Array.fromAsync(linesOf([Buffer.from(text)] as unknown as AsyncIterable<Uint8Array>, "x"));
  assert.deepEqual(await read("a\r\n\nb"), ["a", "", "b"]);
  assert.deepEqual(await read(""), []);
  assert.deepEqual(await read("a\u2028b\n"), ["a\u2028b"]);
});

test("bytes that are not UTF-8 and endless lines are errors", async () => {
  await assert.rejects(Array.fromAsync(linesOf(chunks(Uint8Array.of(97, 10, 255, 10), 9), "f")), {
    code: "CPM_CLI_TEXT",
    where: "f, line 2",
  });
  async function* endless() {
    const piece = new Uint8Array(2 ** 20).fill(97);
    for (;;) yield piece;
  }
  await assert.rejects(Array.fromAsync(linesOf(endless(), "f")), {
    code: "CPM_CLI_TEXT",
    got: `over ${maxLineBytes} bytes`,
  });
});

test("JSON Lines, plain and packed, keep spaces; what has no text is an error that names the line", async () => {
  const text = '{"text":" a "}\n\n{"text":"","x":1}\n';
  for (const [name, bytes] of [
    ["a.jsonl", Buffer.from(text)],
    ["a.jsonl.gz", gzipSync(text)],
    ["a.jsonl.zst", zstdCompressSync(text)],
  ] as const) {
    writeFileSync(join(folder, name), bytes);
    assert.deepEqual(await Array.fromAsync(jsonLineTexts(join(folder, name), "text")), [" a ", ""]);
  }
  for (const bad of ['{"txt":"a"}', '{"text":3}', "[1]", "null", "{"]) {
    writeFileSync(join(folder, "bad.jsonl"), `{"text":"a"}\n${bad}\n`);
    const path = join(folder, "bad.jsonl");
    await assert.rejects(Array.fromAsync(jsonLineTexts(path, "text")), {
      code: "CPM_CLI_TEXT",
      where: `${path}, line 2`,
    });
  }
  await assert.rejects(Array.fromAsync(jsonLineTexts(join(folder, "absent"), "text")), { code: "CPM_CLI_FILE" });
  writeFileSync(join(folder, "cut.gz"), gzipSync("x".repeat(10_000)).subarray(0, 20));
  await assert.rejects(Array.fromAsync(jsonLineTexts(join(folder, "cut.gz"), "text")), { code: "CPM_CLI_FILE" });
});
