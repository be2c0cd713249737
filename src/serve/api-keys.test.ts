import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { addKey, openKeyRing, readKeys, revokeKeys } from "./api-keys.ts";

const folder = mkdtempSync(join(tmpdir(), "cpm-keys-"));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, "keys.json");

test("a key is found by its secret, which the file does not hold; revoked it is not", async () => {
  let nowMs = Date.UTC(2026, 0, 1);
  const now = () => nowMs;
  const ring = await openKeyRing(path, now, (error) => assert.fail(String(error)));
  assert.equal(await ring.find("cpm-none"), undefined);
  const one = await addKey(path, { name: "one", scopes: ["generate"], requestsPerMinute: 5 }, nowMs);
  const two = await addKey(path, { name: "two", scopes: ["embed", "score"] }, nowMs);
  assert.match(one.secret, /^cpm-[\w-]{43}$/);
  assert.notEqual(one.secret, two.secret);
  const text = readFileSync(path, "utf8");
  for (const { secret } of [one, two]) assert.ok(!text.includes(secret.slice(14)), "no secret at rest");
  nowMs += 1001;
  assert.equal((await ring.find(one.secret))?.name, "one");
  assert.equal((await ring.find(two.secret))?.tokensPerMinute, undefined);
  assert.equal(await ring.find(`${one.secret}x`), undefined);
  assert.deepEqual(
    (await revokeKeys(path, "one", nowMs)).map(({ id }) => id),
    [one.key.id],
  );
  assert.deepEqual(await revokeKeys(path, one.key.id, nowMs), [], "once is enough");
  nowMs += 1001;
  assert.equal(await ring.find(one.secret), undefined);
  assert.equal((await ring.find(two.secret))?.name, "two");
  await assert.rejects(revokeKeys(path, "three", nowMs), { code: "CPM_SERVE_KEY_UNKNOWN" });
  // A file that somebody spoils does not lock everybody out, nor let anybody in.
  const troubles: unknown[] = [];
  const watching = await openKeyRing(path, now, (error) => troubles.push(error));
  writeFileSync(path, "{");
  nowMs += 1001;
  assert.equal((await watching.find(two.secret))?.name, "two");
  assert.equal(await watching.find(one.secret), undefined);
  assert.equal(troubles.length, 1);
});

test("a file of something else is refused", async () => {
  const wrong = join(folder, "wrong.json");
  const contents = [
    "{",
    "[]",
    '{"version":2,"keys":[]}',
    '{"version":1,"keys":[{"id":"abcd","name":"x","sha256":"00","scopes":[],"created":"2026-01-01T00:00:00Z"}]}',
    '{"version":1,"keys":[],"more":1}',
  ];
  for (const content of contents) {
    writeFileSync(wrong, content);
    await assert.rejects(readKeys(wrong), { code: "CPM_SERVE_KEYS" });
    await assert.rejects(addKey(wrong, { name: "x", scopes: [] }, 0), { code: "CPM_SERVE_KEYS" });
  }
  assert.deepEqual(await readKeys(join(folder, "absent.json")), []);
});
