import assert from "node:assert/strict";
import { test } from "node:test";
import { type ZipInput, zip } from "../../test/support/torch-writer.ts";
import { CheckpointError } from "../util/error.ts";
import { memorySource } from "./source.ts";
import { readZip, readZipEntry } from "./zip.ts";

const text = (value: string) => new TextEncoder().encode(value);
const hello: ZipInput = { name: "a/hello", data: text("hello") };

async function refused(bytes: Uint8Array, code: string): Promise<void> {
  await assert.rejects(readAll(bytes), (error) => {
    assert.ok(error instanceof CheckpointError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  });
}

async function readAll(bytes: Uint8Array): Promise<Record<string, string>> {
  const source = memorySource(bytes);
  const found: Record<string, string> = {};
  for (const entry of (await readZip(source)).values()) {
    found[entry.name] = new TextDecoder().decode(await readZipEntry(source, entry, 1000));
  }
  return found;
}

test("stored entries are read, with short and with 64-bit sizes, behind a comment too", async () => {
  const entries: ZipInput[] = [hello, { name: "a/", data: text("") }, { name: "a/空", data: text("") }];
  const expected = { "a/hello": "hello", "a/空": "" };
  assert.deepEqual(await readAll(zip(entries)), expected);
  const wide = entries.map((entry) => ({ ...entry, wide: true }));
  assert.deepEqual(await readAll(zip(wide, { wideEnd: true })), expected);
  const plain = zip(entries);
  const commented = new Uint8Array(plain.length + 4);
  commented.set(plain);
  commented[plain.length - 2] = 4;
  assert.deepEqual(await readAll(commented), expected);
});

test("a bomb is refused before anything of it is unpacked", async () => {
  const bomb = { name: "a/data.pkl", data: new Uint8Array(64 * 1024 * 1024), deflate: true };
  const bytes = zip([bomb]);
  assert.ok(bytes.length < 100_000);
  bomb.data = new Uint8Array(0);
  const before = process.memoryUsage().arrayBuffers;
  await refused(bytes, "CPM_ZIP_COMPRESSED");
  assert.ok(process.memoryUsage().arrayBuffers - before < 1024 * 1024);
});

test("entries that share bytes are refused", async () => {
  const first = { name: "a", data: text("x".repeat(100)) };
  await refused(zip([first, { ...first, name: "a", offset: 0 }]), "CPM_ZIP_DUPLICATE");
  // One long entry whose data holds a second entry's header: both ranges are valid by themselves.
  const inner = zip([{ name: "b", data: text("y") }]).subarray(0, 30 + 1 + 1);
  const outer = { name: "a", data: inner };
  await refused(zip([outer, { name: "b", data: text("y"), offset: 30 + 1 }]), "CPM_ZIP_OVERLAP");
  await refused(zip([{ ...first, announcedBytes: 110 }]), "CPM_ZIP_OVERLAP");
});

test("names that lead out of the archive are refused", async () => {
  const names = [
    "../evil",
    "a/../../evil",
    "/etc/passwd",
    "C:/x",
    "a\\b",
    "a\0b",
    "",
    "./a",
    "a/./b",
    "x".repeat(2000),
  ];
  for (const name of names) await refused(zip([{ name, data: text("x") }]), "CPM_ZIP_NAME");
});

test("encrypted entries, wrong checksums and large entries are refused", async () => {
  await refused(zip([{ ...hello, flags: 1 }]), "CPM_ZIP_ENCRYPTED");
  await refused(zip([{ ...hello, crc: 1 }]), "CPM_ZIP_CHECKSUM");
  await refused(zip([{ name: "a", data: new Uint8Array(1001) }]), "CPM_ZIP_LIMIT");
});

test("archives that are cut or whose records disagree are refused", async () => {
  const bytes = zip([hello], { wideEnd: true });
  for (let length = 0; length < bytes.length; length += 7) await refused(bytes.slice(0, length), "CPM_ZIP_MALFORMED");
  const lengthens = (at: number, value: number): Uint8Array => {
    const changed = zip([hello]);
    changed[at] = value;
    return changed;
  };
  const end = zip([hello]).length - 22;
  await refused(lengthens(end + 4, 1), "CPM_ZIP_MALFORMED"); // a second disk
  await refused(lengthens(end + 10, 2), "CPM_ZIP_MALFORMED"); // two entries here, one there
  await refused(lengthens(end + 16, 1), "CPM_ZIP_MALFORMED"); // the directory elsewhere
  await refused(lengthens(end + 18, 200), "CPM_ZIP_MALFORMED"); // and beyond the end
  await refused(lengthens(26, 4), "CPM_ZIP_MALFORMED"); // another name's length in the local header
  await refused(lengthens(30, 0x62), "CPM_ZIP_MALFORMED"); // another name
  await refused(lengthens(8, 8), "CPM_ZIP_MALFORMED"); // another method
});
