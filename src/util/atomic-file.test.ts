import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openAtomicFile, writeFileAtomic, writeFolderAtomic } from "./atomic-file.ts";
import { FileError } from "./error.ts";

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "cpm-atomic-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const withCode = (code: string) => (error: unknown) => error instanceof FileError && error.code === code;

test("a file appears whole, replaces an older one, and leaves nothing beside it", async (t) => {
  const folder = scratch(t);
  const path = join(folder, "a.txt");
  await writeFileAtomic(path, "旧");
  const file = await openAtomicFile(path);
  await file.write(Buffer.from("new "));
  assert.equal(readFileSync(path, "utf8"), "旧");
  await file.write(Buffer.from("text"));
  assert.equal(file.size, 8);
  await file.commit();
  await file.abort(); // harmless
  assert.equal(readFileSync(path, "utf8"), "new text");
  assert.deepEqual(readdirSync(folder), ["a.txt"]);
  await assert.rejects(file.write(Buffer.from("x")), /internal/);
});

test("an aborted file leaves the old one", async (t) => {
  const folder = scratch(t);
  const path = join(folder, "a.txt");
  writeFileSync(path, "old");
  const file = await openAtomicFile(path);
  await file.write(Buffer.from("new"));
  await file.abort();
  assert.equal(readFileSync(path, "utf8"), "old");
  assert.deepEqual(readdirSync(folder), ["a.txt"]);
});

test("a folder appears whole or not at all", async (t) => {
  const folder = scratch(t);
  const target = join(folder, "deep", "run");
  await writeFolderAtomic(target, async (aside) => {
    await writeFileAtomic(join(aside, "one"), "1");
    assert.equal(existsSync(target), false);
  });
  assert.deepEqual(readdirSync(target), ["one"]);
  await assert.rejects(
    writeFolderAtomic(target, async () => {}),
    withCode("CPM_FILE_EXISTS"),
  );
  const failing = writeFolderAtomic(join(folder, "deep", "second"), async (aside) => {
    await writeFileAtomic(join(aside, "one"), "1");
    throw new RangeError("of the writer");
  });
  await assert.rejects(failing, RangeError);
  assert.deepEqual(readdirSync(join(folder, "deep")), ["run"]);
  mkdirSync(join(folder, "empty"));
  await writeFolderAtomic(join(folder, "empty"), (aside) => writeFileAtomic(join(aside, "one"), "1"));
  assert.deepEqual(readdirSync(join(folder, "empty")), ["one"]);
});

test("what the system refuses is a FileError with its own code", async (t) => {
  const folder = scratch(t);
  await assert.rejects(writeFileAtomic(join(folder, "no", "a"), "x"), withCode("CPM_FILE_NOT_FOUND"));
  mkdirSync(join(folder, "taken"));
  await assert.rejects(writeFileAtomic(join(folder, "taken"), "x"), withCode("CPM_FILE_KIND"));
  assert.deepEqual(readdirSync(folder), ["taken"]);
  if (process.getuid?.() !== 0) {
    mkdirSync(join(folder, "shut"));
    chmodSync(join(folder, "shut"), 0o500);
    await assert.rejects(writeFileAtomic(join(folder, "shut", "a"), "x"), withCode("CPM_FILE_PERMISSION"));
  }
});

// A limit on file sizes stands in for a full disk: the kernel refuses the write in the same place.
test("no room leaves the old file intact and nothing beside it", { skip: process.platform === "win32" }, (t) => {
  const folder = scratch(t);
  const path = join(folder, "a.bin");
  writeFileSync(path, "old");
  const module = fileURLToPath(new URL("./atomic-file.ts", import.meta.url));
  const script = `
    import { writeFileAtomic } from ${JSON.stringify(module)};
    await writeFileAtomic(${JSON.stringify(path)}, new Uint8Array(1 << 20)).catch((error) => console.log(error.code));`;
  const child = spawnSync(
    "sh",
    ["-c", 'ulimit -f 64; exec "$0" --input-type=module -e "$1"', process.execPath, script],
    { encoding: "utf8" },
  );
  assert.equal(child.stdout.trim(), "CPM_FILE_NO_SPACE", child.stderr);
  assert.equal(readFileSync(path, "utf8"), "old");
  assert.deepEqual(readdirSync(folder), ["a.bin"]);
});
