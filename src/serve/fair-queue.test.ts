import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createFairQueue } from "./fair-queue.ts";

test("users take turns by what they ask for, each in its own order", () => {
  const queue = createFairQueue<string>();
  for (const item of ["a1", "a2", "a3"]) queue.push("a", 10, item);
  queue.push("b", 10, "b1");
  queue.push("c", 1, "c1");
  queue.push("c", 1, "c2");
  const order = [];
  while (queue.size > 0) {
    assert.equal(queue.peek(), queue.peek());
    order.push(queue.shift());
  }
  assert.deepEqual(order, ["a1", "b1", "c1", "c2", "a2", "a3"]);
  assert.equal(queue.shift(), undefined);
});

test("who stayed away has no credit, who was charged more waits longer", () => {
  const queue = createFairQueue<string>();
  for (let i = 0; i < 5; i++) queue.push("a", 10, `a${i}`);
  for (let i = 0; i < 4; i++) queue.shift();
  for (let i = 0; i < 3; i++) queue.push("late", 10, `late${i}`);
  queue.push("a", 10, "a5");
  assert.deepEqual([queue.shift(), queue.shift()].sort(), ["a4", "late0"]);
  queue.settle("late", 100);
  queue.push("late", 1, "late3");
  queue.push("a", 1, "a6");
  const rest = [];
  while (queue.size > 0) rest.push(queue.shift());
  assert.ok(rest.indexOf("late3") > rest.indexOf("a6"), rest.join(" "));
});

test("what is taken out is not owed, and nothing is lost", () => {
  const operation = fc.record({
    user: fc.constantFrom("a", "b", "c", "d"),
    cost: fc.integer({ min: 1, max: 50 }),
    act: fc.constantFrom("push", "push", "shift", "remove"),
    which: fc.nat(1000),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 80 }), (operations) => {
      const queue = createFairQueue<{ user: string; number: number }>();
      const waiting: { user: string; number: number }[] = [];
      let number = 0;
      for (const { user, cost, act, which } of operations) {
        if (act === "push") {
          const item = { user, number: number++ };
          queue.push(user, cost, item);
          waiting.push(item);
        } else if (act === "shift") {
          const item = queue.shift();
          if (waiting.length === 0) assert.equal(item, undefined);
          else {
            // Of its user it is the first.
            assert.equal(
              item,
              waiting.find((each) => each.user === item!.user),
            );
            waiting.splice(waiting.indexOf(item!), 1);
          }
        } else if (waiting.length > 0) {
          const [item] = waiting.splice(which % waiting.length, 1);
          assert.equal(queue.remove(item!), true);
          assert.equal(queue.remove(item!), false);
        }
        assert.equal(queue.size, waiting.length);
        assert.equal(queue.sizeOf(user), waiting.filter((each) => each.user === user).length);
        assert.deepEqual(new Set(queue.items()), new Set(waiting));
      }
    }),
  );
});

test("served amounts of users that always wait differ by no more than two items", () => {
  const costs = { a: 1, b: 7, c: 30 };
  const queue = createFairQueue<keyof typeof costs>();
  const served = { a: 0, b: 0, c: 0 };
  for (const user of ["a", "b", "c"] as const) for (let i = 0; i < 2; i++) queue.push(user, costs[user], user);
  for (let i = 0; i < 2000; i++) {
    const user = queue.shift()!;
    served[user] += costs[user];
    queue.push(user, costs[user], user);
  }
  const amounts = Object.values(served);
  assert.ok(Math.max(...amounts) - Math.min(...amounts) <= 60, JSON.stringify(served));
});
