import assert from "node:assert/strict";
import { test } from "node:test";
import { testWorld } from "../../test/support/cli-world.ts";
import { progressLine, startProgress } from "./progress.ts";
import { textWidth } from "./text-width.ts";

test("the line says step, share, loss, speed and both times", () => {
  const state = { step: 120, steps: 400, loss: 5.21349, tokensPerSecond: 12_345.4, extra: ["lr 1.0e-3"] };
  assert.equal(
    progressLine(state, 30_000, { locale: "en" }),
    "step 120/400 30% | loss 5.2135 | 12,345 tok/s | lr 1.0e-3 | elapsed 30.0 s | eta 1m10s",
  );
  assert.equal(progressLine({ done: 1 }, 1000, { locale: "zh" }), "100% | 用时 1.0 s");
  assert.equal(progressLine({ step: 3 }, 500, { locale: "zh" }), "步 3 | 用时 500 ms");
});

test("the time that remains is read off what this attempt has done", () => {
  const state = { step: 60, steps: 100, begun: 0.5 };
  assert.match(progressLine(state, 10_000, { locale: "en" }), /^step 60\/100 60% \| elapsed 10\.0 s \| eta 40\.0 s$/);
  assert.doesNotMatch(progressLine({ step: 50, steps: 100, begun: 0.5 }, 0, { locale: "en" }), /eta/);
});

test("the share is never rounded up to a hundred", () => {
  assert.match(progressLine({ done: 0.9999 }, 1000, { locale: "en" }), /^99\.9%/);
});

test("on a terminal one line is written over, and never wider than the terminal", () => {
  let now = 0;
  const { world, stderr } = testWorld({ isTTY: true, columns: 30, now: () => now });
  const progress = startProgress({ ...world, json: false, locale: "zh" }, { refreshEveryMs: 100 });
  for (const step of [1, 2, 3]) {
    progress.update({ step, steps: 3, loss: 6, tokensPerSecond: 100 });
    now += 60;
  }
  progress.note("检查点");
  progress.finish();
  progress.update({ step: 9 });
  const pieces = stderr().split("\r\u001b[2K");
  assert.equal(pieces.filter((piece) => piece.startsWith("步 1/3")).length, 1);
  assert.equal(pieces.filter((piece) => piece.startsWith("步 2/3")).length, 0);
  assert.match(pieces.at(-1)!, /^步 3\/3 .*\n$/);
  assert.ok(pieces.includes("检查点\n"));
  for (const piece of pieces) assert.ok(textWidth(piece.trimEnd()) < 30, piece);
});

test("elsewhere there is a line every few seconds, and the last state", () => {
  let now = 0;
  const { world, stderr } = testWorld({ now: () => now });
  const progress = startProgress({ ...world, json: false, locale: "en" }, { lineEveryMs: 1000 });
  for (let step = 1; step <= 25; step++) {
    progress.update({ step, steps: 25 });
    now += 100;
  }
  progress.finish();
  assert.deepEqual(
    stderr()
      .trimEnd()
      .split("\n")
      .map((line) => line.split(" | ")[0]),
    ["step 1/25 4%", "step 11/25 44%", "step 21/25 84%", "step 25/25 100%"],
  );
});
