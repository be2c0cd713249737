/**
 * A strict reader of ZIP archives whose entries are stored without compression, as `torch.save` writes them; with the
 * 64-bit extension. From the format's public description (PKWARE's APPNOTE, sections 4.3 to 4.5).
 *
 * Only the directory is read; entries are ranges of the file. Compressed and encrypted entries, names that lead out of
 * the archive, names that stand twice and entries that share bytes are refused, so no archive can grow when it is read.
 */
import { crc32 } from "node:zlib";
import { CheckpointError, type ErrorCode } from "../util/error.ts";
import type { ByteSource } from "./source.ts";

export interface ZipEntry {
  readonly name: string;
  /** Where its bytes start in the file. */
  readonly dataOffset: number;
  readonly sizeBytes: number;
  readonly crc32: number;
}

const entryLimit = 100_000;
const directoryLimitBytes = 64 * 1024 * 1024;

const signatures = {
  local: 0x04034b50,
  central: 0x02014b50,
  end: 0x06054b50,
  end64: 0x06064b50,
  locator64: 0x07064b50,
} as const;
const localBytes = 30;
const centralBytes = 46;
const endBytes = 22;
const locatorBytes = 20;
const end64Bytes = 56;
/** Bit 0: encrypted; 6: strongly encrypted; 13: masked headers. */
const encryptedFlags = 0x2041;

function bad(code: ErrorCode, what: string, where: string, got?: string, expected?: string): CheckpointError {
  return new CheckpointError(code, what, { where, got, expected });
}

/** Whether these first bytes are a ZIP archive's. */
export function looksLikeZip(head: Uint8Array): boolean {
  return head.length >= 4 && viewOf(head).getUint32(0, true) === signatures.local;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * The entries of an archive by name; folders are left out.
 *
 * @throws CheckpointError `CPM_ZIP_MALFORMED`, `CPM_ZIP_COMPRESSED`, `CPM_ZIP_ENCRYPTED`, `CPM_ZIP_NAME`,
 * `CPM_ZIP_DUPLICATE`, `CPM_ZIP_OVERLAP`, `CPM_ZIP_LIMIT`, `CPM_CHECKPOINT_TRUNCATED`
 */
export async function readZip(source: ByteSource): Promise<ReadonlyMap<string, ZipEntry>> {
  const directory = await findDirectory(source);
  const bytes = await source.read(directory.offset, directory.sizeBytes);
  const entries = parseDirectory(bytes, directory.entries, source.path);
  const ranges: { name: string; start: number; end: number }[] = [];
  const found = new Map<string, ZipEntry>();
  for (const entry of entries) {
    const dataOffset = await checkLocalHeader(source, entry);
    ranges.push({ name: entry.name, start: entry.localOffset, end: dataOffset + entry.sizeBytes });
    if (entry.name.endsWith("/")) continue;
    found.set(entry.name, { name: entry.name, dataOffset, sizeBytes: entry.sizeBytes, crc32: entry.crc32 });
  }
  ranges.sort((a, b) => a.start - b.start);
  let covered = 0;
  for (const { name, start, end } of ranges) {
    const at = `${source.path}: ${name}`;
    if (start < covered) throw bad("CPM_ZIP_OVERLAP", "two entries of the archive share bytes", at);
    if (end > directory.offset) throw bad("CPM_ZIP_OVERLAP", "an entry reaches into the archive's directory", at);
    covered = end;
  }
  return found;
}

/**
 * All bytes of an entry, compared with their checksum.
 *
 * @throws CheckpointError `CPM_ZIP_LIMIT` beyond `limitBytes`, `CPM_ZIP_CHECKSUM`
 */
export async function readZipEntry(source: ByteSource, entry: ZipEntry, limitBytes: number): Promise<Uint8Array> {
  const where = `${source.path}: ${entry.name}`;
  if (entry.sizeBytes > limitBytes) {
    throw bad("CPM_ZIP_LIMIT", "an entry is too large", where, `${entry.sizeBytes} bytes`, `at most ${limitBytes}`);
  }
  const bytes = await source.read(entry.dataOffset, entry.sizeBytes);
  checkCrc(bytes, entry, where);
  return bytes;
}

/** Compares an entry's bytes with its checksum. */
export function checkCrc(bytes: Uint8Array, entry: ZipEntry, where: string): void {
  const actual = crc32(bytes);
  if (actual === entry.crc32) return;
  throw new CheckpointError("CPM_ZIP_CHECKSUM", "an entry's bytes do not match their checksum", {
    where,
    got: actual.toString(16),
    expected: entry.crc32.toString(16),
    hint: "The file is damaged: copy or download it again. (Files saved with checksums turned off must be saved anew.)",
  });
}

interface Directory {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly entries: number;
}

/** A 64-bit number, which must be one that the file could hold. */
function uint64(view: DataView, at: number, where: string): number {
  const value = view.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw bad("CPM_ZIP_MALFORMED", "a 64-bit number is too large", where);
  return Number(value);
}

async function findDirectory(source: ByteSource): Promise<Directory> {
  const where = source.path;
  const tailBytes = Math.min(source.sizeBytes, endBytes + 0xffff);
  const tail = viewOf(await source.read(source.sizeBytes - tailBytes, tailBytes));
  // The end record is the last thing of the file but for a comment, whose length it tells.
  let at = tailBytes - endBytes;
  while (at >= 0) {
    if (tail.getUint32(at, true) === signatures.end && tail.getUint16(at + 20, true) === tailBytes - endBytes - at)
      break;
    at--;
  }
  if (at < 0) throw bad("CPM_ZIP_MALFORMED", "the archive has no end: it is cut short, or no ZIP archive", where);
  const endOffset = source.sizeBytes - tailBytes + at;
  const disks = [tail.getUint16(at + 4, true), tail.getUint16(at + 6, true)];
  let entries = tail.getUint16(at + 10, true);
  let sizeBytes = tail.getUint32(at + 12, true);
  let offset = tail.getUint32(at + 16, true);
  let directoryEnd = endOffset;
  const wide = await findWideEnd(source, endOffset);
  if (wide !== undefined) {
    const agree = (short: number, saturated: number, long: number) => short === saturated || short === long;
    if (!agree(entries, 0xffff, wide.entries) || !agree(sizeBytes, 0xffffffff, wide.sizeBytes)) {
      throw bad("CPM_ZIP_MALFORMED", "the archive's two end records disagree", where);
    }
    if (!agree(offset, 0xffffffff, wide.offset)) {
      throw bad("CPM_ZIP_MALFORMED", "the archive's two end records disagree", where);
    }
    ({ entries, sizeBytes, offset } = wide);
    directoryEnd = wide.recordOffset;
  } else if (disks.some((disk) => disk !== 0) || tail.getUint16(at + 8, true) !== entries) {
    throw bad("CPM_ZIP_MALFORMED", "the archive is split over several files", where);
  }
  if (entries > entryLimit || sizeBytes > directoryLimitBytes) {
    const got = `${entries} entries, a directory of ${sizeBytes} bytes`;
    throw bad("CPM_ZIP_LIMIT", "the archive's directory is too large", where, got, `at most ${entryLimit} entries`);
  }
  if (offset + sizeBytes > directoryEnd || entries * centralBytes > sizeBytes) {
    throw bad("CPM_ZIP_MALFORMED", "the archive's directory does not lie before its end", where);
  }
  return { offset, sizeBytes, entries };
}

/** The 64-bit end record, if a locator stands before the end record. */
async function findWideEnd(
  source: ByteSource,
  endOffset: number,
): Promise<(Directory & { recordOffset: number }) | undefined> {
  const where = source.path;
  if (endOffset < locatorBytes) return undefined;
  const locator = viewOf(await source.read(endOffset - locatorBytes, locatorBytes));
  if (locator.getUint32(0, true) !== signatures.locator64) return undefined;
  const recordOffset = uint64(locator, 8, where);
  if (recordOffset + end64Bytes > endOffset - locatorBytes) {
    throw bad("CPM_ZIP_MALFORMED", "the 64-bit end record lies outside of the archive", where);
  }
  const record = viewOf(await source.read(recordOffset, end64Bytes));
  const several = record.getUint32(16, true) !== 0 || record.getUint32(20, true) !== 0;
  if (record.getUint32(0, true) !== signatures.end64 || several || locator.getUint32(4, true) !== 0) {
    throw bad("CPM_ZIP_MALFORMED", "the 64-bit end record is not where the archive says, or not alone", where);
  }
  return {
    recordOffset,
    entries: uint64(record, 32, where),
    sizeBytes: uint64(record, 40, where),
    offset: uint64(record, 48, where),
  };
}

interface DirectoryEntry {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly sizeBytes: number;
  readonly crc32: number;
  readonly localOffset: number;
}

function parseDirectory(bytes: Uint8Array, count: number, where: string): DirectoryEntry[] {
  const view = viewOf(bytes);
  const names = new Set<string>();
  const entries: DirectoryEntry[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + centralBytes > bytes.length || view.getUint32(at, true) !== signatures.central) {
      throw bad("CPM_ZIP_MALFORMED", "the archive's directory is damaged", where, `entry ${i} of ${count}`);
    }
    const flags = view.getUint16(at + 8, true);
    const method = view.getUint16(at + 10, true);
    const nameEnd = at + centralBytes + view.getUint16(at + 28, true);
    const extraEnd = nameEnd + view.getUint16(at + 30, true);
    const end = extraEnd + view.getUint16(at + 32, true);
    if (end > bytes.length) throw bad("CPM_ZIP_MALFORMED", "the archive's directory is cut short", where);
    const nameBytes = bytes.subarray(at + centralBytes, nameEnd);
    const name = checkedName(nameBytes, where);
    const entryAt = `${where}: ${name}`;
    if (names.has(name)) throw bad("CPM_ZIP_DUPLICATE", "the archive has two entries of one name", entryAt);
    names.add(name);
    if ((flags & encryptedFlags) !== 0) throw bad("CPM_ZIP_ENCRYPTED", "an entry is encrypted", entryAt);
    const sizes = sizesOf(view, at, nameEnd, extraEnd, entryAt);
    if (method !== 0 || sizes.storedBytes !== sizes.sizeBytes) {
      throw new CheckpointError("CPM_ZIP_COMPRESSED", "an entry is compressed", {
        where: entryAt,
        got: `method ${method}, ${sizes.storedBytes} bytes that become ${sizes.sizeBytes}`,
        expected: "stored entries, as torch.save writes them",
        hint: "Unpack the archive and save its tensors again with torch.save.",
      });
    }
    entries.push({
      name,
      nameBytes,
      sizeBytes: sizes.sizeBytes,
      crc32: view.getUint32(at + 16, true),
      localOffset: sizes.localOffset,
    });
    at = end;
  }
  return entries;
}

/** Sizes and offset of a directory entry, from its 64-bit extra field where the short fields are saturated. */
function sizesOf(
  view: DataView,
  at: number,
  extraStart: number,
  extraEnd: number,
  where: string,
): { storedBytes: number; sizeBytes: number; localOffset: number } {
  let storedBytes = view.getUint32(at + 20, true);
  let sizeBytes = view.getUint32(at + 24, true);
  let localOffset = view.getUint32(at + 42, true);
  const wideFields = [sizeBytes, storedBytes, localOffset].filter((value) => value === 0xffffffff).length;
  if (wideFields === 0) return { storedBytes, sizeBytes, localOffset };
  for (let field = extraStart; field + 4 <= extraEnd; ) {
    const id = view.getUint16(field, true);
    const end = field + 4 + view.getUint16(field + 2, true);
    if (end > extraEnd) break;
    if (id === 1) {
      let next = field + 4;
      const take = (short: number): number => {
        if (short !== 0xffffffff) return short;
        if (next + 8 > end) throw bad("CPM_ZIP_MALFORMED", "an entry's 64-bit field is too short", where);
        next += 8;
        return uint64(view, next - 8, where);
      };
      sizeBytes = take(sizeBytes);
      storedBytes = take(storedBytes);
      localOffset = take(localOffset);
      return { storedBytes, sizeBytes, localOffset };
    }
    field = end;
  }
  throw bad("CPM_ZIP_MALFORMED", "an entry lacks its 64-bit field", where);
}

function checkedName(bytes: Uint8Array, where: string): string {
  let name: string;
  try {
    name = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError("CPM_ZIP_NAME", "an entry's name is not valid UTF-8", { where, cause });
  }
  const parts = name.split("/");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  const unsafe = name === "" || name.length > 1024 || /[\\:\u0000-\u001f\u007f]/.test(name) || parts[0] === "";
  if (unsafe || parts.includes("..") || parts.includes(".")) {
    const got = JSON.stringify(name.slice(0, 100));
    throw bad("CPM_ZIP_NAME", "an entry's name could lead out of the archive", where, got, "a plain relative name");
  }
  return name;
}

/** Checks that the entry's own header says the same as the directory; returns where its bytes start. */
async function checkLocalHeader(source: ByteSource, entry: DirectoryEntry): Promise<number> {
  const where = `${source.path}: ${entry.name}`;
  const { nameBytes } = entry;
  const bytes = await source.read(entry.localOffset, localBytes + nameBytes.length);
  const view = viewOf(bytes);
  const sameName = nameBytes.every((byte, i) => byte === bytes[localBytes + i]);
  if (view.getUint32(0, true) !== signatures.local || view.getUint16(26, true) !== nameBytes.length || !sameName) {
    throw bad("CPM_ZIP_MALFORMED", "an entry is not where the archive's directory says", where);
  }
  if (view.getUint16(8, true) !== 0 || (view.getUint16(6, true) & encryptedFlags) !== 0) {
    throw bad("CPM_ZIP_MALFORMED", "an entry's own header contradicts the archive's directory", where);
  }
  return entry.localOffset + localBytes + nameBytes.length + view.getUint16(28, true);
}
