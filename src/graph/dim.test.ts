import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  addDims,
  type Dim,
  dim,
  divideDims,
  formatDim,
  formatShape,
  mulDims,
  namesIn,
  resolveShape,
  sameShape,
  sizeOf,
  subDims,
  substituteDim,
} from "./dim.ts";

const names = ["B", "T", "past_1"] as const;

/** A polynomial as the test keeps it: a way to build it and a way to compute it. */
interface Recipe {
  readonly size: Dim;
  readonly at: (values: ReadonlyMap<string, number>) => number;
}

const operations = {
  add: { size: addDims, number: (a: number, b: number) => a + b },
  sub: { size: subDims, number: (a: number, b: number) => a - b },
  mul: { size: mulDims, number: (a: number, b: number) => a * b },
} as const;

const { recipe } = fc.letrec<{ recipe: Recipe }>((tie) => ({
  recipe: fc.oneof(
    { maxDepth: 3 },
    fc.integer({ min: -3, max: 9 }).map((n): Recipe => ({ size: n, at: () => n })),
    fc.constantFrom(...names).map((name): Recipe => ({ size: dim(name), at: (values) => values.get(name)! })),
    fc.tuple(fc.constantFrom("add", "sub", "mul"), tie("recipe"), tie("recipe")).map(
      ([kind, a, b]): Recipe => ({
        size: operations[kind].size(a.size, b.size),
        at: (values) => operations[kind].number(a.at(values), b.at(values)),
      }),
    ),
  ),
}));
const values = fc
  .tuple(...names.map(() => fc.integer({ min: 0, max: 7 })))
  .map((numbers) => new Map(names.map((name, i) => [name, numbers[i]!])));

suite("sizes", () => {
  test("arithmetic agrees with the arithmetic of numbers", () => {
    fc.assert(
      fc.property(recipe, values, ({ size, at }, known) => {
        const resolved = resolveShape([size, 1], known);
        assert.ok(resolved.length === 2 && resolved[0] === at(known) && resolved[1] === 1);
      }),
    );
  });

  test("equal polynomials are one object, whatever the order of the arithmetic", () => {
    fc.assert(
      fc.property(recipe, recipe, recipe, ({ size: a }, { size: b }, { size: c }) => {
        assert.ok(addDims(a, b) === addDims(b, a));
        assert.ok(mulDims(a, b) === mulDims(b, a));
        assert.ok(mulDims(a, addDims(b, c)) === addDims(mulDims(a, b), mulDims(a, c)));
        assert.ok(subDims(addDims(a, b), b) === a);
        assert.ok(subDims(a, a) === 0);
      }),
    );
  });

  test("polynomials that differ somewhere are different objects", () => {
    fc.assert(
      fc.property(recipe, recipe, values, (a, b, known) => {
        if (a.at(known) !== b.at(known)) assert.ok(a.size !== b.size);
      }),
    );
  });

  test("a product divided by one of its factors is the other", () => {
    const term = fc.tuple(fc.integer({ min: 1, max: 6 }), fc.subarray([...names])).map(([factor, chosen]) => {
      return chosen.reduce<Dim>((product, name) => mulDims(product, dim(name)), factor);
    });
    fc.assert(fc.property(recipe, term, ({ size }, by) => assert.ok(divideDims(mulDims(size, by), by) === size)));
  });

  test("what does not divide is no size", () => {
    const [B, T] = [dim("B"), dim("T")];
    assert.equal(divideDims(B, T), undefined);
    assert.equal(divideDims(addDims(B, 1), B), undefined);
    assert.equal(divideDims(mulDims(B, 3), 2), undefined);
    assert.equal(divideDims(mulDims(B, B), addDims(B, T)), undefined);
    assert.equal(divideDims(7, 2), undefined);
    assert.equal(divideDims(B, 0), undefined);
    assert.equal(divideDims(0, B), 0);
  });

  test("some names may stay symbolic", () => {
    fc.assert(
      fc.property(recipe, values, ({ size, at }, known) => {
        const partly = substituteDim(size, new Map([["B", known.get("B")!]]));
        assert.ok(!namesIn(partly).includes("B"));
        assert.ok(resolveShape([partly], known)[0] === at(known));
      }),
    );
    assert.throws(() => resolveShape([dim("B"), dim("T")], new Map([["B", 2]])), /no value for the size T/);
  });

  test("texts", () => {
    const [B, T] = [dim("B"), dim("T")];
    assert.equal(formatDim(addDims(mulDims(T, B), 32)), "B*T+32");
    assert.equal(formatDim(subDims(mulDims(mulDims(T, 2), T), 1)), "2*T*T-1");
    assert.equal(formatDim(subDims(0, T)), "-T");
    assert.equal(formatShape([3, B, subDims(T, B)]), "[3, B, T-B]");
    assert.deepEqual(namesIn(addDims(mulDims(B, T), B)).sort(), ["B", "T"]);
    assert.deepEqual(namesIn(5), []);
  });

  test("shapes", () => {
    const B = dim("B");
    assert.equal(sizeOf([]), 1);
    assert.ok(sizeOf([2, B, 3]) === mulDims(B, 6));
    assert.ok(sameShape([B, 3], [dim("B"), 3]));
    assert.ok(!sameShape([B], [B, 1]));
    assert.ok(!sameShape([B], [dim("T")]));
  });

  test("a name is a name", () => {
    for (const name of ["", "2B", "B*T", "B+1", "长", " B"]) assert.throws(() => dim(name), /cannot name a size/);
  });
});
