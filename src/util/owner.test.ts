import assert from "node:assert/strict";
import { test } from "node:test";
import { createOwner, ownedBy } from "./owner.ts";

function recorder() {
  const ended: number[] = [];
  const thing = (number: number) => ({ dispose: () => void ended.push(number) });
  return { ended, thing };
}

test("an owner disposes the last thing first, and each once", () => {
  const { ended, thing } = recorder();
  const owner = createOwner();
  for (const number of [1, 2, 3]) owner.own(thing(number));
  owner.dispose();
  owner.dispose();
  assert.deepEqual(ended, [3, 2, 1]);
});

test("what was made before a failure is disposed, what succeeded is not", async () => {
  const { ended, thing } = recorder();
  await assert.rejects(
    ownedBy(async ({ own }) => {
      own(thing(1));
      own(thing(2));
      throw new Error("no");
    }),
    /no/,
  );
  assert.deepEqual(ended, [2, 1]);
  await ownedBy(async ({ own }) => own(thing(3)));
  assert.deepEqual(ended, [2, 1]);
});
