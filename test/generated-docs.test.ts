/** The reference pages say what their sources say, and every error code of the sources has its entry. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { errorCatalogue } from "../src/cli/messages/errors.ts";
import { typographyFaults } from "../tools/chinese-typography.ts";
import { stalePages } from "../tools/generate-docs.ts";

const source = new URL("../src/", import.meta.url);

/** Every code in the sources, and a file that has it. */
function codesInSources(): Map<string, string> {
  const codes = new Map<string, string>();
  const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter(
    (path) =>
      path.endsWith(".ts") && !path.endsWith(".test.ts") && !path.replaceAll("\\", "/").startsWith("cli/messages/"),
  );
  const paths = [...files.map((file) => new URL(file.replaceAll("\\", "/"), source)), new URL("../bin/cpm.js", source)];
  for (const path of paths) {
    for (const [code] of readFileSync(path, "utf8").matchAll(/\bCPM_[A-Z0-9]+(?:_[A-Z0-9]+)*\b/g)) {
      codes.set(code, path.pathname.split("/").slice(-3).join("/"));
    }
  }
  codes.delete("CPM_DELTA"); // the type of a delta file that PEFT does not know
  for (const variable of ["CPM_LANG", "CPM_LIVE_CACHE", "CPM_POWERCAP", "CPM_NVIDIA_SMI"]) codes.delete(variable); // of the environment
  return codes;
}

test("every error code of the sources has an entry in the catalogue", () => {
  const missing = [...codesInSources()].filter(([code]) => errorCatalogue[code] === undefined);
  assert.deepEqual(missing, []);
});

test("the catalogue has no entry for a code that nothing throws", () => {
  const codes = codesInSources();
  const unused = Object.keys(errorCatalogue).filter((code) => !codes.has(code));
  assert.deepEqual(unused, []);
});

test("the generated pages are not stale", async () => {
  assert.deepEqual(await stalePages(), [], "run npm run docs");
});

test("Chinese typography of the pages", () => {
  for (const path of [
    "README.md",
    "docs/cli.md",
    "docs/data.md",
    "docs/errors.md",
    "docs/evaluation.md",
    "docs/serving.md",
  ]) {
    const text = readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
    // Code, the targets of links, and the bars of tables are no prose.
    const prose = text
      .replaceAll(/```[\s\S]*?```/g, "")
      .replaceAll(/\]\([^)]*\)/g, "]")
      .replaceAll(" | ", "\n");
    assert.deepEqual(typographyFaults(prose), [], path);
  }
});
