/**
 * Documents out of a Parquet file: one column of text, row group by row group.
 *
 * The format is read by hyparquet (with hyparquet-compressors for Snappy, gzip, Brotli, LZ4 and zstd); a file is input
 * from strangers, so its groups are bounded and what the reader throws becomes an error with the file's name.
 */
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { DataError, FileError } from "../util/error.ts";

/** A row group is decoded at once; what its column says it unpacks to must stay below this. */
const maxGroupBytes = 2 ** 30;
const maxRows = 2 ** 40;

/** A row's text, or the reason why it has none. Rows count from 1. */
export interface ParquetText {
  readonly row: number;
  readonly text?: string;
  readonly reason?: string;
}

/**
 * @throws FileError CPM_DATA_FILE where the file cannot be read; DataError CPM_DATA_PARQUET where it is no Parquet file or
 * has no such column
 */
export async function* readParquetTexts(
  path: string,
  column: string,
  onBytes?: (bytes: number) => void,
): AsyncGenerator<ParquetText> {
  const bad = (what: string, got?: string, cause?: unknown) =>
    new DataError("CPM_DATA_PARQUET", what, { where: path, got, cause });
  const file = await asyncBufferFromFile(path).catch((cause) => {
    throw new FileError("CPM_DATA_FILE", "A text file cannot be read", { where: path, got: String(cause), cause });
  });
  const metadata = await parquetMetadataAsync(file).catch((cause) => {
    throw bad("This is not a Parquet file", String(cause instanceof Error ? cause.message : cause), cause);
  });
  const rows = Number(metadata.num_rows);
  if (!Number.isSafeInteger(rows) || rows < 0 || rows > maxRows)
    throw bad("The number of rows is impossible", `${rows}`);
  const columns = metadata.schema.slice(1).map((element) => element.name);
  if (!columns.includes(column)) {
    throw new DataError("CPM_DATA_PARQUET", "The Parquet file has no such column", {
      where: path,
      got: `columns ${columns.slice(0, 20).join(", ")}`,
      expected: column,
      hint: "Name the column that holds the text with --field.",
    });
  }
  let start = 0;
  for (const group of metadata.row_groups) {
    const end = start + Number(group.num_rows);
    const chunk = group.columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === column)?.meta_data;
    const bytes = Number(chunk?.total_uncompressed_size ?? 0);
    if (!(end >= start && end <= rows && bytes >= 0)) throw bad("The sizes of a row group are impossible", `${end}`);
    if (bytes > maxGroupBytes) throw bad("A row group is too large", `${bytes} bytes, at most ${maxGroupBytes}`);
    if (end === start) continue;
    const part = await parquetReadObjects({
      file,
      metadata,
      compressors,
      columns: [column],
      rowStart: start,
      rowEnd: end,
    }).catch((cause) => {
      throw bad("A part of the Parquet file is damaged", String(cause instanceof Error ? cause.message : cause), cause);
    });
    for (const [i, row] of part.entries()) yield { row: start + i + 1, ...textOf(row[column]) };
    onBytes?.(Math.round((file.byteLength * end) / rows));
    start = end;
  }
}

function textOf(value: unknown): { readonly text: string } | { readonly reason: string } {
  if (value === null || value === undefined) return { reason: "the column has no value" };
  if (typeof value !== "string") return { reason: `the column holds ${typeof value}, not text` };
  if (!value.isWellFormed()) return { reason: "the text has half a surrogate pair" };
  const text = value.trim();
  return text === "" ? { reason: "the text is empty" } : { text };
}
