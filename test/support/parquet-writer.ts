/**
 * Writes the Parquet files that the tests read: one column of text, optional, one page a row group, plain values. From the
 * format's description (parquet.apache.org); for tests only, nothing here checks anything.
 */
import { gzipSync, zstdCompressSync } from "node:zlib";

const codecs = {
  none: [0, (bytes: Buffer) => bytes],
  gzip: [2, (bytes: Buffer) => gzipSync(bytes)],
  zstd: [6, (bytes: Buffer) => zstdCompressSync(bytes)],
} as const;

/** A field of a Thrift struct in the compact protocol. */
type Field = readonly [id: number, value: Value];
type Value =
  | { readonly int: number; readonly wide?: boolean }
  | { readonly text: string }
  | { readonly list: readonly Value[] }
  | { readonly struct: readonly Field[] };

const int = (value: number): Value => ({ int: value });
const long = (value: number): Value => ({ int: value, wide: true });

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Buffer.from([...bytes, value]);
}

const typeOf = (value: Value) =>
  "int" in value ? (value.wide ? 6 : 5) : "text" in value ? 8 : "list" in value ? 9 : 12;

function bytesOf(value: Value): Buffer {
  if ("int" in value) return varint(2 * value.int);
  if ("text" in value) return Buffer.concat([varint(Buffer.byteLength(value.text)), Buffer.from(value.text)]);
  if ("list" in value) {
    const { list } = value;
    const head = list.length < 15 ? [16 * list.length + typeOf(list[0]!)] : [0xf0 + typeOf(list[0]!), list.length];
    return Buffer.concat([Buffer.from(head), ...list.map(bytesOf)]);
  }
  let last = 0;
  const parts: Buffer[] = [];
  for (const [id, field] of value.struct) {
    parts.push(Buffer.from([16 * (id - last) + typeOf(field)]), bytesOf(field));
    last = id;
  }
  return Buffer.concat([...parts, Buffer.from([0])]);
}

/** Row groups of texts; null is a missing one. */
export function parquetFile(
  groups: readonly (readonly (string | null)[])[],
  { column = "text", codec = "none" }: { column?: string; codec?: keyof typeof codecs } = {},
): Buffer {
  const [codecId, compress] = codecs[codec];
  const parts: Buffer[] = [Buffer.from("PAR1")];
  let at = 4;
  const described: Value[] = [];
  for (const texts of groups) {
    const values = texts.flatMap((text) => {
      if (text === null) return [];
      const length = Buffer.alloc(4);
      length.writeUInt32LE(Buffer.byteLength(text));
      return [length, Buffer.from(text)];
    });
    // Definition levels, one bit each: bit-packed runs of eight.
    const packed = Buffer.alloc(Math.ceil(texts.length / 8));
    for (const [i, text] of texts.entries()) if (text !== null) packed[i >> 3]! |= 1 << (i & 7);
    const levels = Buffer.concat([varint(2 * packed.length + 1), packed]);
    const levelBytes = Buffer.alloc(4);
    levelBytes.writeUInt32LE(levels.length);
    const page = Buffer.concat([levelBytes, levels, ...values]);
    const stored = compress(page);
    const header = bytesOf({
      struct: [
        [1, int(0)],
        [2, int(page.length)],
        [3, int(stored.length)],
        [
          5,
          {
            struct: [
              [1, int(texts.length)],
              [2, int(0)],
              [3, int(3)],
              [4, int(3)],
            ],
          },
        ],
      ],
    });
    const size = header.length + stored.length;
    described.push({
      struct: [
        [
          1,
          {
            list: [
              {
                struct: [
                  [2, long(at)],
                  [
                    3,
                    {
                      struct: [
                        [1, int(6)],
                        [2, { list: [int(0), int(3)] }],
                        [3, { list: [{ text: column }] }],
                        [4, int(codecId)],
                        [5, long(texts.length)],
                        [6, long(header.length + page.length)],
                        [7, long(size)],
                        [9, long(at)],
                      ],
                    },
                  ],
                ],
              },
            ],
          },
        ],
        [2, long(size)],
        [3, long(texts.length)],
      ],
    });
    parts.push(header, stored);
    at += size;
  }
  const footer = bytesOf({
    struct: [
      [1, int(1)],
      [
        2,
        {
          list: [
            {
              struct: [
                [4, { text: "schema" }],
                [5, int(1)],
              ],
            },
            {
              struct: [
                [1, int(6)],
                [3, int(1)],
                [4, { text: column }],
                [6, int(0)],
              ],
            },
          ],
        },
      ],
      [3, long(groups.reduce((sum, texts) => sum + texts.length, 0))],
      [4, { list: described }],
    ],
  });
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footer.length);
  return Buffer.concat([...parts, footer, length, Buffer.from("PAR1")]);
}
