/** The report of `npm test`: what it counts and what its last line says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import report, { type TestEvent } from "../tools/test-reporter.ts";

async function reportOf(events: readonly TestEvent[]): Promise<string> {
  let text = "";
  for await (const piece of report(events)) text += piece;
  return text;
}

const pass = (name: string, data: Partial<TestEvent["data"]> = {}): TestEvent => ({
  type: "test:pass",
  data: { name, file: "/a/x.test.ts", line: 3, nesting: 0, details: { duration_ms: 5, type: "test" }, ...data },
});

test("the last line counts tests, not suites", async () => {
  const text = await reportOf([pass("one", { nesting: 1 }), pass("suite", { details: { type: "suite" } })]);
  assert.equal(text.trimEnd().split("\n").at(-1), "1 passed, 0 failed");
});

test("skipped tests are listed by reason and counted", async () => {
  const text = await reportOf([pass("a"), pass("b", { skip: "no GPU" }), pass("c", { skip: "no GPU" })]);
  assert.match(text, /SKIPPED: 2 tests were not run\n {2}no GPU\n {4}- .*x\.test\.ts:3 b\n {4}- .* c\n/);
  assert.equal(text.trimEnd().split("\n").at(-1), "1 passed, 0 failed, 2 skipped");
});

test("a failure shows the error that was thrown; its parents are not counted again", async () => {
  const error = Object.assign(new Error("wrapped"), { cause: new Error("3 is not 4") });
  const parent = Object.assign(new Error("1 subtest failed"), { failureType: "subtestsFailed" });
  const text = await reportOf([
    { type: "test:fail", data: { name: "leaf", file: "/a/x.test.ts", line: 9, nesting: 1, details: { error } } },
    { type: "test:fail", data: { name: "parent", file: "/a/x.test.ts", nesting: 0, details: { error: parent } } },
  ]);
  assert.match(text, /FAILED[\s\S]*leaf[\s\S]*3 is not 4/);
  assert.equal(text.trimEnd().split("\n").at(-1), "0 passed, 1 failed");
});
