import assert from "node:assert/strict";
import { test } from "node:test";
import { createLossScale, lossScaleSchema } from "./loss-scale.ts";

test("the original's: from 2^20, doubled after 512 good updates in a row, halved at an overflow", () => {
  const loss = createLossScale(lossScaleSchema.parse({}));
  assert.equal(loss.scale, 2 ** 20);
  for (let i = 0; i < 511; i++) assert.ok(loss.accepts(1));
  assert.equal(loss.scale, 2 ** 20);
  assert.ok(loss.accepts(1));
  assert.equal(loss.scale, 2 ** 21);
  for (let i = 0; i < 511; i++) assert.ok(loss.accepts(1));
  assert.ok(!loss.accepts(Number.POSITIVE_INFINITY));
  assert.equal(loss.scale, 2 ** 20);
  assert.ok(!loss.accepts(Number.NaN));
  assert.equal(loss.scale, 2 ** 19);
  for (let i = 0; i < 511; i++) loss.accepts(1);
  assert.equal(loss.scale, 2 ** 19, "the row began anew");
  loss.accepts(1);
  assert.equal(loss.scale, 2 ** 20);
});

test("it stays within its bounds, and a restored one goes on", () => {
  const options = lossScaleSchema.parse({ initial: 4, growthInterval: 3, min: 2, max: 8 });
  const loss = createLossScale(options);
  for (let i = 0; i < 9; i++) loss.accepts(1);
  assert.equal(loss.scale, 8);
  for (let i = 0; i < 5; i++) loss.accepts(Number.NaN);
  assert.equal(loss.scale, 2);
  loss.accepts(1);
  loss.accepts(1);
  const again = createLossScale(options);
  again.restore(JSON.parse(JSON.stringify(loss.state())));
  again.accepts(1);
  assert.equal(again.scale, 4);
});
