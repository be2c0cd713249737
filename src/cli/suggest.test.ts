import assert from "node:assert/strict";
import { test } from "node:test";
import { editDistance, nearest } from "./suggest.ts";

test("edit distance counts a swap of neighbours as one", () => {
  assert.equal(editDistance("", "abc"), 3);
  assert.equal(editDistance("vocab", "vocab"), 0);
  assert.equal(editDistance("voacb", "vocab"), 1);
  assert.equal(editDistance("kitten", "sitting"), 3);
});

test("the nearest name, only where it is near", () => {
  assert.equal(nearest("--voacb", ["--vocab", "--json"]), "--vocab");
  assert.equal(nearest("tokenise", ["tokenize", "train"]), "tokenize");
  assert.equal(nearest("zzz", ["tokenize", "train"]), undefined);
});
