import assert from "node:assert/strict";
import { test } from "node:test";
import { createGuard, guardSchema } from "./guard.ts";

const options = (changes: object = {}) => guardSchema.parse({ window: 16, ...changes });

/** A guard that has seen a usual loss of 3 and a norm of 1. */
function calm(changes: object = {}) {
  const guard = createGuard(options(changes));
  for (let i = 0; i < 20; i++) assert.deepEqual(guard.judge(3 + 0.01 * i, 1), { action: "update" });
  return guard;
}

test("ordinary updates pass, slow rises too", () => {
  const guard = createGuard(options());
  for (let i = 0; i < 500; i++) assert.equal(guard.judge(3 + i / 100, 1 + i / 50).action, "update");
});

test("what is no number is never applied, from the first update on", () => {
  for (const [loss, norm] of [
    [Number.NaN, 1],
    [Number.POSITIVE_INFINITY, 1],
    [3, Number.NaN],
    [3, Number.POSITIVE_INFINITY],
  ] as const) {
    const verdict = createGuard(options()).judge(loss, norm);
    assert.equal(verdict.action, "skip");
    assert.match((verdict as { reason: string }).reason, /loss is|norm is/);
  }
});

test("a jump against the median of the last updates is a spike; it does not become usual", () => {
  const guard = calm();
  for (let i = 0; i < 3; i++) assert.equal(guard.judge(7, 1).action, "skip");
  assert.equal(guard.judge(3, 1).action, "update");
  assert.equal(guard.judge(3, 25).action, "skip");
  assert.equal(guard.judge(5.9, 19).action, "update");
});

test("policies: warn lets it through, stop stops, 0 switches a rule off", () => {
  assert.equal(calm({ onSpike: "warn" }).judge(70, 1).action, "warn");
  assert.equal(calm({ onSpike: "stop" }).judge(70, 1).action, "stop");
  assert.equal(calm({ onNonFinite: "rollback" }).judge(Number.NaN, 1).action, "rollback");
  assert.equal(calm({ lossFactor: 0 }).judge(70, 1).action, "update");
  assert.equal(calm({ gradientFactor: 0 }).judge(3, 1e9).action, "update");
});

test("skipping is given up after some in a row, rolling back after some times", () => {
  const guard = calm({ patience: 3, maxRollbacks: 2 });
  const bad = () => guard.judge(Number.NaN, 1).action;
  assert.deepEqual([bad(), bad(), bad()], ["skip", "skip", "rollback"]);
  guard.rolledBack();
  assert.deepEqual([bad(), bad(), bad()], ["skip", "skip", "rollback"]);
  guard.rolledBack();
  assert.equal(guard.rollbacks, 2);
  assert.deepEqual([bad(), bad(), bad()], ["skip", "skip", "stop"]);
});

test("after a rollback nothing is usual until there is a history again", () => {
  const guard = calm();
  guard.rolledBack();
  assert.equal(guard.judge(8, 30).action, "update");
});

test("a restored guard judges as the one it was taken from", () => {
  const guard = calm({ patience: 3 });
  guard.judge(Number.NaN, 1);
  guard.judge(50, 1);
  const copy = createGuard(options({ patience: 3 }));
  copy.restore(JSON.parse(JSON.stringify(guard.state())));
  for (const [loss, norm] of [
    [Number.NaN, 1],
    [3, 1],
    [6.5, 1],
    [3, 30],
  ] as const) {
    assert.deepEqual(copy.judge(loss, norm), guard.judge(loss, norm));
    assert.deepEqual(copy.state(), guard.state());
  }
  assert.throws(() => copy.restore({ losses: "many" }));
});
