import assert from "node:assert/strict";
import { test } from "node:test";
import { createRateLimiter } from "./rate-limit.ts";

test("a minute's allowance at once, then as it fills", () => {
  let nowMs = 1000;
  const limiter = createRateLimiter(() => nowMs);
  for (let i = 0; i < 6; i++) assert.equal(limiter.take("a", 6, 1), 0);
  assert.ok(Math.abs(limiter.take("a", 6, 1) - 10) < 1e-6);
  assert.equal(limiter.take("b", 6, 1), 0, "others have their own");
  nowMs += 9_999;
  assert.ok(limiter.take("a", 6, 1) > 0);
  nowMs += 1;
  assert.equal(limiter.take("a", 6, 1), 0);
  assert.ok(limiter.take("a", 6, 1) > 9.9);
  nowMs += 3_600_000;
  for (let i = 0; i < 6; i++) assert.equal(limiter.take("a", 6, 1), 0);
  assert.ok(limiter.take("a", 6, 1) > 0, "an hour away gives no more than a minute");
});

test("what was used beyond the allowance is waited for", () => {
  let nowMs = 0;
  const limiter = createRateLimiter(() => nowMs);
  assert.equal(limiter.take("a", 100, 0), 0);
  limiter.charge("a", 100, 250);
  assert.ok(Math.abs(limiter.take("a", 100, 0) - 90) < 1e-6);
  nowMs += 90_001;
  assert.equal(limiter.take("a", 100, 0), 0);
  // Dearer than all: when the bucket is full.
  assert.ok(limiter.take("a", 100, 500) > 0);
  nowMs += 60_000;
  assert.equal(limiter.take("a", 100, 500), 0);
});

test("buckets are bounded in number", () => {
  const limiter = createRateLimiter(() => 0);
  for (let i = 0; i < 30_000; i++) limiter.take(String(i), 1, 1);
  assert.ok(limiter.take("29999", 1, 1) > 0);
  assert.equal(limiter.take("0", 1, 1), 0, "forgotten");
});
