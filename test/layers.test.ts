/** Folders are layers: a file imports from its own folder or from folders below it, never upward. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** From the lowest to the highest; a layer may import from itself and from every layer before it. */
const layers = [
  "util",
  "runtime",
  "graph",
  "model",
  "checkpoint",
  "tokenizer",
  "data",
  "cluster",
  "infer",
  "delta",
  "train",
  "compress",
  "evaluate",
  "live",
  "serve",
  "cli",
];

const source = fileURLToPath(new URL("../src", import.meta.url));
const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"));

function layerOf(path: string): string {
  return relative(source, path).split(/[\\/]/)[0]!;
}

test("every folder of src is a layer", () => {
  for (const entry of readdirSync(source, { withFileTypes: true })) {
    assert.ok(
      entry.isDirectory() && layers.includes(entry.name),
      `src/${entry.name} is in no layer: add it to the list`,
    );
  }
});

test("imports go only downward", () => {
  const upward: string[] = [];
  for (const file of files) {
    const path = join(source, file);
    const text = readFileSync(path, "utf8");
    for (const match of text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)) {
      const target = resolve(dirname(path), match[1]!);
      if (!target.startsWith(source)) {
        if (!path.endsWith(".test.ts")) upward.push(`${file} leaves src: ${match[1]}`);
      } else if (layers.indexOf(layerOf(target)) > layers.indexOf(layerOf(path))) {
        upward.push(`${file} imports ${match[1]}`);
      }
    }
  }
  assert.deepEqual(upward, []);
});

test("source files stay under 600 lines", () => {
  const long = files.filter((file) => readFileSync(join(source, file), "utf8").split("\n").length > 600);
  assert.deepEqual(long, []);
});
