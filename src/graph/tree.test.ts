import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { leaves, mapTree, type Tree } from "./tree.ts";

const isNumber = (value: unknown): value is number => typeof value === "number";

suite("trees", () => {
  test("paths follow keys and indices; undefined branches are passed over", () => {
    const tree = { b: { q: 1, absent: undefined }, a: [2, { k: 3 }], none: {} };
    assert.deepEqual(leaves(tree, isNumber), [
      ["b.q", 1],
      ["a.0", 2],
      ["a.1.k", 3],
    ]);
    assert.deepEqual(leaves(tree, isNumber, "params")[0], ["params.b.q", 1]);
    assert.deepEqual(leaves(undefined, isNumber), []);
    assert.deepEqual(leaves(7, isNumber), [["", 7]]);
  });

  test("mapping keeps the structure and gives each leaf its path", () => {
    const tree = { b: { q: 1, absent: undefined }, a: [2, { k: 3 }] };
    assert.deepEqual(
      mapTree(tree as Tree<number>, isNumber, (leaf, path) => `${path}=${leaf}`),
      { b: { q: "b.q=1" }, a: ["a.0=2", { k: "a.1.k=3" }] },
    );
  });

  test("leaves of a mapped tree are the mapped leaves, in the same order", () => {
    const { tree } = fc.letrec<{ tree: Tree<number> }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 3 },
        fc.integer(),
        fc.array(tie("tree"), { maxLength: 3 }),
        fc.dictionary(fc.stringMatching(/^[a-z]{1,3}$/), tie("tree"), { maxKeys: 3 }),
      ),
    }));
    fc.assert(
      fc.property(tree, (given) => {
        const mapped = mapTree(given, isNumber, (leaf) => leaf + 1) as Tree<number>;
        assert.deepEqual(
          leaves(mapped, isNumber),
          leaves(given, isNumber).map(([path, leaf]) => [path, leaf + 1]),
        );
      }),
    );
  });

  test("what is neither leaf nor branch is refused with its path", () => {
    for (const stranger of ["text", null, true] as const) {
      const tree = { a: { b: stranger } } as unknown as Tree<number>;
      assert.throws(() => leaves(tree, isNumber), /a\.b/);
      assert.throws(() => mapTree(tree, isNumber, (leaf) => leaf), /a\.b/);
    }
  });
});
