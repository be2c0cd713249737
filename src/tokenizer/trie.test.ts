import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { absent, addKey, child, createTrie, type Trie } from "./trie.ts";

function lookUp(trie: Trie, key: string): number | undefined {
  let node = trie.first[key.charCodeAt(0)]!;
  for (let i = 1; i < key.length && node !== absent; i++) node = child(trie, node, key.charCodeAt(i));
  const mark = node === absent ? 0 : trie.marks[node]!;
  return mark > 1 ? (mark >> 1) - 1 : undefined;
}

test("a trie answers as a map does", () => {
  const key = fc.string({
    unit: fc.constantFrom("a", "b", "中", "国", "\ud83d", "\ude00"),
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(fc.array(key, { maxLength: 200 }), fc.array(key, { maxLength: 50 }), (keys, others) => {
      const trie = createTrie(keys.reduce((sum, k) => sum + k.length, 0));
      const map = new Map<string, number>();
      for (const [value, k] of keys.entries()) {
        addKey(trie, k, value);
        map.set(k, value);
      }
      for (const k of [...keys, ...others]) assert.equal(lookUp(trie, k), map.get(k));
    }),
  );
});

test("the mark tells whether a node has children", () => {
  const trie = createTrie(3);
  addKey(trie, "ab", 7);
  const a = trie.first["a".charCodeAt(0)]!;
  const ab = child(trie, a, "b".charCodeAt(0));
  assert.equal(trie.marks[a], 1);
  assert.equal(trie.marks[ab], 16);
  addKey(trie, "a", 0);
  assert.equal(trie.marks[a], 3);
  assert.equal(child(trie, ab, "b".charCodeAt(0)), absent);
});
