/** Files over HTTP: one byte range, validators, streams; and names that stay inside their folder. */
import { createReadStream } from "node:fs";
import { lstat, realpath, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { Readable } from "node:stream";

/** A part of something `size` bytes long: undefined for all of it, null where the header asks for what is not there. */
export function parseRange(header: string | undefined, size: number): { from: number; to: number } | undefined | null {
  const match = header === undefined ? null : /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header);
  if (match === null) return undefined; // several ranges and other units may be ignored
  const [, first, last] = match as unknown as [string, string, string];
  if (first === "" && last === "") return undefined;
  if (first === "") return size === 0 ? null : { from: Math.max(0, size - Number(last)), to: size };
  const from = Number(first);
  const to = last === "" ? size : Math.min(size, Number(last) + 1);
  return from >= size || to <= from ? null : { from, to };
}

/**
 * The path of a file below a folder, or undefined where the name leads out of it, through a link or to no plain file.
 */
export async function fileInside(folder: string, ...names: readonly string[]): Promise<string | undefined> {
  if (names.some((name) => !/^[\w][\w.-]{0,255}$/.test(name))) return undefined;
  const path = join(folder, ...names);
  try {
    const [root, real, info] = await Promise.all([realpath(folder), realpath(path), lstat(path)]);
    return info.isFile() && real.startsWith(root + sep) ? real : undefined;
  } catch {
    return undefined;
  }
}

/** Whether one of the validators of If-None-Match is this one, weak or strong. */
export function matchesTag(header: string | undefined, etag: string): boolean {
  const plain = (tag: string) => tag.trim().replace(/^W\//, "");
  return (header ?? "").split(",").some((tag) => plain(tag) === plain(etag));
}

export interface FileHeaders {
  readonly type: string;
  readonly cache: string;
  /** Offers the file under this name instead of showing it. */
  readonly download?: string | undefined;
}

/** A file as a response, a part of it where a range is asked for, 304 where the client has it. */
export async function fileResponse(
  path: string,
  request: { range?: string | undefined; ifNoneMatch?: string | undefined; head: boolean },
  { type, cache, download }: FileHeaders,
): Promise<Response> {
  const { size, mtimeMs } = await stat(path);
  const etag = `"${size.toString(36)}-${Math.floor(mtimeMs).toString(36)}"`;
  const headers: Record<string, string> = {
    "Content-Type": type,
    "Cache-Control": cache,
    "Accept-Ranges": "bytes",
    ETag: etag,
    ...(download !== undefined && {
      "Content-Disposition": `attachment; filename="${download.replace(/[^\w.-]/g, "_")}"`,
    }),
  };
  if (matchesTag(request.ifNoneMatch, etag)) return new Response(null, { status: 304, headers });
  const range = parseRange(request.range, size);
  if (range === null)
    return new Response(null, { status: 416, headers: { ...headers, "Content-Range": `bytes */${size}` } });
  const { from, to } = range ?? { from: 0, to: size };
  headers["Content-Length"] = String(to - from);
  if (range !== undefined) headers["Content-Range"] = `bytes ${from}-${to - 1}/${size}`;
  const status = range === undefined ? 200 : 206;
  if (request.head || from === to) return new Response(null, { status, headers });
  const body = Readable.toWeb(createReadStream(path, { start: from, end: to - 1 })) as ReadableStream;
  return new Response(body, { status, headers });
}
