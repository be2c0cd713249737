/** A static export: the same tree as the server's, written once, updated where something changed. */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { exportStatic } from "../src/live/static-export.ts";
import { CpmError } from "../src/util/error.ts";
import { stepLine, writeSyntheticRun } from "./support/synthetic-run.ts";

const parent = mkdtempSync(join(tmpdir(), "cpm-export-"));
after(() => rmSync(parent, { recursive: true }));

const runs = join(parent, "runs");
const pages = join(parent, "pages");
const output = join(parent, "site");
const folder = writeSyntheticRun(runs, { id: "one", steps: 120 });
mkdirSync(join(folder, "log"));
writeFileSync(join(folder, "log", "2026-01-01.zh.md"), "# 日志");
mkdirSync(join(folder, "checkpoints", "step-00000100"));
writeFileSync(join(folder, "checkpoints", "step-00000100", "model.safetensors"), "weights");
mkdirSync(join(pages, "assets"), { recursive: true });
writeFileSync(join(pages, "index.html"), "<p>page");
writeFileSync(join(pages, "assets", "main-1.js"), "1");
const options = { runs: [runs], pages, output, checkpoints: false };
const site = (path: string) => readFileSync(join(output, path), "utf8");

test("everything that the page asks for is there", async () => {
  appendFileSync(join(folder, "events.jsonl"), '{"torn');
  const report = await exportStatic(options);
  assert.equal(report.runs, 1);
  assert.equal(report.written, report.files);
  assert.equal(JSON.parse(site("api/runs.json"))[0].id, "one");
  assert.equal(JSON.parse(site("api/runs/one/run.json")).id, "one");
  assert.equal(
    site("api/runs/one/events.jsonl"),
    readFileSync(join(folder, "events.jsonl"), "utf8").replace('{"torn', ""),
  );
  assert.deepEqual(JSON.parse(site("api/runs/one/log.json")), ["2026-01-01.zh.md"]);
  assert.equal(site("api/runs/one/log/2026-01-01.zh.md"), "# 日志");
  assert.deepEqual(JSON.parse(site("api/runs/one/checkpoints.json")), []);
  const ledger = JSON.parse(site("api/runs/one/ledger.json"));
  assert.ok(ledger.kWh > 0 && ledger.kgCo2e > 0);
  assert.match(ledger.assumptions[0].en, /^1 × test: 20 W each \(assumed/);
  assert.equal(site("index.html"), "<p>page");
});

test("again: only what changed is written, scripts of an older page go", async () => {
  const text = readFileSync(join(folder, "events.jsonl"), "utf8").replace('{"torn', `${stepLine(121, {})}\n`);
  writeFileSync(join(folder, "events.jsonl"), text);
  rmSync(join(pages, "assets", "main-1.js"));
  writeFileSync(join(pages, "assets", "main-2.js"), "2");
  const { written } = await exportStatic(options);
  assert.equal(written, 4, "events, what they cost, the list with their size, the new script");
  assert.ok(!existsSync(join(output, "assets", "main-1.js")));
  assert.equal((await exportStatic(options)).written, 0);
});

test("weights come along where they are asked for", async () => {
  await exportStatic({ ...options, checkpoints: true });
  assert.equal(site("api/runs/one/checkpoints/step-00000100/model.safetensors"), "weights");
  assert.deepEqual(JSON.parse(site("api/runs/one/checkpoints.json")), [
    { step: 100, files: [{ name: "model.safetensors", bytes: 7 }] },
  ]);
});

test("without a run there is nothing to export", async () => {
  await assert.rejects(
    exportStatic({ ...options, runs: [pages] }),
    (error) => error instanceof CpmError && error.code === "CPM_RUN_FOLDER",
  );
  await assert.rejects(
    exportStatic({ ...options, runs: [join(parent, "absent")] }),
    (error) => error instanceof CpmError,
  );
});
