import assert from "node:assert/strict";
import { test } from "node:test";
import { parseMix } from "./delta-mix.ts";

const deltas = ["poems", "news", "v1.2", "3"];

test("weights of the deltas that are named, each once", () => {
  assert.deepEqual(parseMix("poems", deltas), [1, 0, 0, 0]);
  assert.deepEqual(parseMix("poems+news", deltas), [1, 1, 0, 0]);
  assert.deepEqual(parseMix("0.5*news+v1.2", deltas), [0, 0.5, 1, 0]);
  assert.deepEqual(parseMix("-0.25*3+2*poems", deltas), [2, 0, 0, -0.25]);
  assert.deepEqual(parseMix("0*poems", deltas), [0, 0, 0, 0]);
});

test("what is no mixture is none", () => {
  const wrong = ["", "+", "poems+", "poems+poems", "poems*2", "x", "1e3*poems", "11*poems", "NaN*poems", "0.5 * news"];
  for (const expression of wrong) assert.equal(parseMix(expression, deltas), undefined, expression);
});
