/**
 * A token shard: documents as token ids, uncut, with where each came from. Rows are cut when a shard is read, so that
 * their length may change in the middle of a run.
 *
 * Little-endian, sections aligned to 8 bytes:
 *
 *     "CPMTOK01"                        8 bytes
 *     header length, CRC-32 of header   2 × u32
 *     header                            JSON, padded with spaces: counts, width of an id, files, CRC-32 of each section
 *     offsets                           (documents + 1) × f64: first id of each document
 *     hashes                            documents × u64: the first 8 bytes of each text's SHA-256
 *     characters, files, lines          documents × u32 each: code points, index into the header's files, line
 *     ids                               tokens × u16 or u32
 *
 * Everything but the ids is held in memory (28 bytes a document); ids are read from the file document by document. A
 * shard never changes once it has its name. Shards come from strangers too: every number is checked against the file's size
 * before anything is allocated, offsets must ascend, ids must lie below the vocabulary's size when they are read.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { crc32 } from "node:zlib";
import { z } from "zod";
import { fileErrorOf, openAtomicFile } from "../util/atomic-file.ts";
import { DataError, FileError } from "../util/error.ts";

const magic = Buffer.from("CPMTOK01", "latin1");
const prefixBytes = 16;
const maxHeaderBytes = 16 * 1024 * 1024;
const sectionNames = ["offsets", "hashes", "characters", "files", "lines", "ids"] as const;

const count = z.int().min(0);
const headerSchema = z.strictObject({
  documents: count,
  tokens: count,
  characters: count,
  idBytes: z.union([z.literal(2), z.literal(4)]),
  vocabSize: count,
  source: z.string(),
  files: z.array(z.string()),
  crc: z.record(z.enum(sectionNames), count),
});
type ShardHeader = z.output<typeof headerSchema>;

/** A document to be written. */
export interface ShardDocument {
  readonly ids: Int32Array | Uint16Array | Uint32Array;
  /** First 8 bytes of the text's SHA-256. */
  readonly hash: bigint;
  /** Code points of the text. */
  readonly characters: number;
  readonly file: string;
  readonly line: number;
}

/** Counts of a shard that was written. */
export interface ShardSummary {
  readonly documents: number;
  readonly tokens: number;
  readonly characters: number;
  readonly bytes: number;
}

/** Collects documents and writes them as one shard. */
export interface ShardWriter {
  readonly documents: number;
  readonly tokens: number;
  add(document: ShardDocument): void;
  /** Writes the file atomically; nothing can be added afterwards. */
  finish(path: string): Promise<ShardSummary>;
}

export function createShardWriter(source: string, vocabSize: number): ShardWriter {
  const idBytes = vocabSize <= 0x10000 ? 2 : 4;
  const create = (size: number) => (idBytes === 2 ? new Uint16Array(size) : new Uint32Array(size));
  let ids = create(1 << 16);
  let tokens = 0;
  let characters = 0;
  const offsets: number[] = [0];
  const hashes: bigint[] = [];
  const counts: number[] = [];
  const fileIndices: number[] = [];
  const lines: number[] = [];
  const files = new Map<string, number>();
  return {
    get documents() {
      return hashes.length;
    },
    get tokens() {
      return tokens;
    },
    add(document) {
      const { length } = document.ids;
      if (tokens + length > ids.length) {
        const grown = create(Math.max(2 * ids.length, tokens + length));
        grown.set(ids.subarray(0, tokens));
        ids = grown;
      }
      for (let i = 0; i < length; i++) {
        const id = document.ids[i]!;
        if (!(id >= 0 && id < vocabSize)) throw new Error(`internal: id ${id} of a vocabulary of ${vocabSize}`);
        ids[tokens + i] = id;
      }
      tokens += length;
      characters += document.characters;
      offsets.push(tokens);
      hashes.push(document.hash);
      counts.push(document.characters);
      lines.push(document.line);
      if (!files.has(document.file)) files.set(document.file, files.size);
      fileIndices.push(files.get(document.file)!);
    },
    async finish(path) {
      const sections: Record<(typeof sectionNames)[number], ArrayBufferView> = {
        offsets: Float64Array.from(offsets),
        hashes: BigUint64Array.from(hashes),
        characters: Uint32Array.from(counts),
        files: Uint32Array.from(fileIndices),
        lines: Uint32Array.from(lines),
        ids: ids.subarray(0, tokens),
      };
      const bytesOf = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      const header: ShardHeader = {
        documents: hashes.length,
        tokens,
        characters,
        idBytes,
        vocabSize,
        source,
        files: [...files.keys()],
        crc: Object.fromEntries(
          sectionNames.map((name) => [name, crc32(bytesOf(sections[name]))]),
        ) as ShardHeader["crc"],
      };
      const json = Buffer.from(JSON.stringify(header));
      const headerBytes = Buffer.alloc(aligned(json.length), " ");
      json.copy(headerBytes);
      const prefix = Buffer.alloc(prefixBytes);
      magic.copy(prefix);
      prefix.writeUInt32LE(headerBytes.length, 8);
      prefix.writeUInt32LE(crc32(headerBytes), 12);
      const file = await openAtomicFile(path);
      try {
        await file.write(prefix);
        await file.write(headerBytes);
        for (const name of sectionNames) {
          const bytes = bytesOf(sections[name]);
          await file.write(bytes);
          await file.write(new Uint8Array(aligned(bytes.length) - bytes.length));
        }
        const bytes = file.size;
        await file.commit();
        return { documents: hashes.length, tokens, characters, bytes };
      } finally {
        await file.abort();
      }
    },
  };
}

/** An open shard. */
export interface TokenShard {
  readonly path: string;
  readonly source: string;
  readonly documents: number;
  readonly tokens: number;
  readonly characters: number;
  readonly vocabSize: number;
  /** Token count of a document. */
  lengthOf(document: number): number;
  charactersOf(document: number): number;
  hashOf(document: number): bigint;
  /** Where a document came from, as "file:line". */
  originOf(document: number): string;
  /** Ids `from` to `to` of a document. Throws DataError CPM_DATA_SHARD for ids outside the vocabulary. */
  ids(document: number, from?: number, to?: number): Int32Array;
  /** Reads everything and compares checksums. Throws DataError CPM_DATA_SHARD. */
  verify(): void;
  close(): void;
}

/**
 * Opens a shard and reads all but its ids.
 *
 * @throws FileError CPM_DATA_FILE where it cannot be read; DataError CPM_DATA_SHARD where it is not a whole, sound shard
 */
export function openShard(path: string): TokenShard {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    throw new FileError("CPM_DATA_FILE", "A token shard cannot be read", { where: path, got: String(cause), cause });
  }
  try {
    return readShard(path, file);
  } catch (error) {
    closeSync(file);
    throw fileErrorOf(error, "read", path);
  }
}

function readShard(path: string, file: number): TokenShard {
  const bad = (what: string, got?: string, expected?: string) =>
    new DataError("CPM_DATA_SHARD", `A token shard is damaged: ${what}`, {
      where: path,
      got,
      expected,
      hint: "Build this part of the data set again, or leave the shard out of dataset.json.",
    });
  const fileBytes = fstatSync(file).size;
  const read = (offset: number, length: number): Buffer => {
    const buffer = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const got = readSome(file, buffer, done, offset + done, path);
      if (got === 0) throw bad("it ends too early", `${fileBytes} bytes`);
      done += got;
    }
    return buffer;
  };
  if (fileBytes < prefixBytes) throw bad("it is too short", `${fileBytes} bytes`);
  const prefix = read(0, prefixBytes);
  if (!prefix.subarray(0, 8).equals(magic)) throw bad("it does not begin as one", prefix.toString("latin1", 0, 8));
  const headerBytes = prefix.readUInt32LE(8);
  if (headerBytes > maxHeaderBytes || prefixBytes + headerBytes > fileBytes) {
    throw bad("its header does not fit", `${headerBytes} bytes`, `at most ${Math.min(maxHeaderBytes, fileBytes)}`);
  }
  const headerText = read(prefixBytes, headerBytes);
  if (crc32(headerText) !== prefix.readUInt32LE(12)) throw bad("its header's checksum differs");
  const header = parseHeader(headerText, bad);
  const { documents, tokens, idBytes, vocabSize } = header;
  const sizes = {
    offsets: 8 * (documents + 1),
    hashes: 8 * documents,
    characters: 4 * documents,
    files: 4 * documents,
    lines: 4 * documents,
    ids: idBytes * tokens,
  };
  const starts = {} as Record<(typeof sectionNames)[number], number>;
  let at = prefixBytes + headerBytes;
  for (const name of sectionNames) {
    starts[name] = at;
    at += aligned(sizes[name]);
  }
  if (at !== fileBytes) throw bad("its size is not what its header says", `${fileBytes} bytes`, `${at}`);
  const section = (name: (typeof sectionNames)[number]): ArrayBuffer => {
    const bytes = read(starts[name], sizes[name]);
    if (crc32(bytes) !== header.crc[name]) throw bad(`the checksum of its ${name} differs`);
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  };
  const offsets = new Float64Array(section("offsets"));
  for (let i = 0; i < documents; i++) {
    if (!Number.isInteger(offsets[i]!) || !(offsets[i]! <= offsets[i + 1]!)) throw bad("its offsets do not ascend");
  }
  if (offsets[0] !== 0 || offsets[documents] !== tokens) throw bad("its offsets do not cover its tokens");
  const hashes = new BigUint64Array(section("hashes"));
  const characters = new Uint32Array(section("characters"));
  const fileIndices = new Uint32Array(section("files"));
  const lines = new Uint32Array(section("lines"));
  let open = true;
  return {
    path,
    source: header.source,
    documents,
    tokens,
    characters: header.characters,
    vocabSize,
    lengthOf: (document) => offsets[document + 1]! - offsets[document]!,
    charactersOf: (document) => characters[document]!,
    hashOf: (document) => hashes[document]!,
    originOf: (document) => `${header.files[fileIndices[document]!] ?? header.source}:${lines[document]}`,
    ids(document, from = 0, to = offsets[document + 1]! - offsets[document]!) {
      // The number of a closed file may be another file's by now.
      if (!open) throw new Error(`internal: ids of a closed shard, ${path}`);
      if (!(from >= 0 && from <= to && offsets[document]! + to <= offsets[document + 1]!)) {
        throw new Error(`internal: ids ${from} to ${to} of document ${document}`);
      }
      const first = offsets[document]! + from;
      const bytes = read(starts.ids + idBytes * first, idBytes * (to - from));
      const out = new Int32Array(to - from);
      for (let i = 0; i < out.length; i++) {
        const id = idBytes === 2 ? bytes.readUInt16LE(2 * i) : bytes.readUInt32LE(4 * i);
        if (id >= vocabSize) throw bad("an id is outside its vocabulary", String(id), `below ${vocabSize}`);
        out[i] = id;
      }
      return out;
    },
    verify() {
      let crc = 0;
      const chunkBytes = 1 << 22;
      for (let done = 0; done < sizes.ids; done += chunkBytes) {
        crc = crc32(read(starts.ids + done, Math.min(chunkBytes, sizes.ids - done)), crc);
      }
      if (crc !== header.crc.ids) throw bad("the checksum of its ids differs");
    },
    close() {
      if (open) closeSync(file);
      open = false;
    },
  };
}

/** Reads on into the buffer from `at`; the number of bytes. @throws FileError CPM_DATA_FILE */
function readSome(file: number, buffer: Buffer, at: number, position: number, path: string): number {
  try {
    return readSync(file, buffer, at, buffer.length - at, position);
  } catch (cause) {
    throw new FileError("CPM_DATA_FILE", "A token shard cannot be read", { where: path, got: String(cause), cause });
  }
}

function parseHeader(bytes: Buffer, bad: (what: string, got?: string) => DataError): ShardHeader {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw bad("its header is not JSON");
  }
  const parsed = headerSchema.safeParse(value);
  if (!parsed.success) throw bad("its header is not as it must be", parsed.error.issues[0]?.message);
  return parsed.data;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
