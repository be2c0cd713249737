/**
 * Compression of responses, as a client's Accept-Encoding allows: zstd, Brotli or gzip.
 *
 * What is compressed is text of some length, in full. A part that was asked for with Range is sent as it is: bytes of a
 * range count in the encoded representation (RFC 9110, 14.1.2), and browsers ask for no encoding then. Event streams are not
 * compressed: each event would have to be flushed, for every viewer. Files that never change are compressed once.
 */
import { Readable, type Transform } from "node:stream";
import { promisify } from "node:util";
import {
  brotliCompress,
  constants,
  createBrotliCompress,
  createGzip,
  createZstdCompress,
  gzip,
  type ZstdOptions,
  zstdCompress,
} from "node:zlib";
import type { MiddlewareHandler } from "hono";

const encodings = ["zstd", "br", "gzip"] as const;
export type Encoding = (typeof encodings)[number];

/** Shorter texts are not worth it. */
const minBytes = 1024;
/** What never changes is kept compressed up to so many bytes. */
const keptBytes = 8 * 1024 * 1024;

/**
 * The encoding that suits a client best: the highest quality, of equals the first of zstd, br and gzip; undefined where it
 * takes none of them or likes the text better as it is.
 */
export function chooseEncoding(accept: string | undefined): Encoding | undefined {
  const qualities = new Map<string, number>();
  for (const part of (accept ?? "").slice(0, 1000).split(",")) {
    const [name = "", ...parameters] = part.split(";").map((each) => each.trim().toLowerCase());
    const stated = parameters.find((each) => each.startsWith("q="));
    const quality = stated === undefined ? 1 : Number(stated.slice(2));
    qualities.set(name === "x-gzip" ? "gzip" : name, Number.isFinite(quality) ? quality : 0);
  }
  const qualityOf = (name: string) => qualities.get(name) ?? qualities.get("*") ?? 0;
  let best: Encoding | undefined;
  for (const each of encodings) {
    if (qualityOf(each) > (best === undefined ? 0 : qualityOf(best))) best = each;
  }
  return best !== undefined && qualityOf(best) >= (qualities.get("identity") ?? 0) ? best : undefined;
}

const { BROTLI_PARAM_QUALITY: brotliQuality, ZSTD_c_compressionLevel: zstdLevel } = constants;
const zstd = (level: number): ZstdOptions => ({ params: { [zstdLevel]: level } });

/** While it is sent: levels that keep up with a network. */
function compressor(encoding: Encoding): Transform {
  if (encoding === "zstd") return createZstdCompress(zstd(3));
  if (encoding === "br") return createBrotliCompress({ params: { [brotliQuality]: 4 } });
  return createGzip({ level: 6 });
}

/** Once for all who ask: as small as it gets. */
function compressOnce(encoding: Encoding, data: Uint8Array): Promise<Buffer> {
  if (encoding === "zstd") return promisify(zstdCompress)(data, zstd(19));
  if (encoding === "br") return promisify(brotliCompress)(data, { params: { [brotliQuality]: 11 } });
  return promisify(gzip)(data, { level: 9 });
}

function isText(type: string): boolean {
  return /^(?:text\/(?!event-stream)|application\/(?:json|x-ndjson)|image\/svg\+xml)/.test(type);
}

/** Compresses what passes; put before the routes. */
export function compression(): MiddlewareHandler {
  const once = createOnceCache();
  return async (c, next) => {
    await next();
    const { headers, status } = c.res;
    if (!isText(headers.get("Content-Type") ?? "") || headers.has("Content-Encoding")) return;
    headers.append("Vary", "Accept-Encoding");
    const encoding = chooseEncoding(c.req.header("Accept-Encoding"));
    if (encoding === undefined || status !== 200 || c.res.body === null) return;
    const stated = headers.get("Content-Length");
    // What states no length was made in one piece: the piece tells whether it is worth it.
    const whole = stated === null ? new Uint8Array(await c.res.arrayBuffer()) : undefined;
    const length = whole?.length ?? Number(stated);
    const replace = (body: ReadableStream | Uint8Array<ArrayBuffer>, changes: Readonly<Record<string, string>>) => {
      const next = new Headers(headers);
      next.delete("Content-Length");
      for (const [name, value] of Object.entries(changes)) next.set(name, value);
      if (changes["Content-Encoding"] !== undefined) next.delete("Accept-Ranges"); // of encoded bytes none are served
      c.res = undefined; // else the old headers would be taken over
      c.res = new Response(body, { status, headers: next });
    };
    if (length < minBytes) {
      if (whole !== undefined) replace(whole, {});
      return;
    }
    // The same text in another encoding is the same to a cache, byte for byte it is not.
    const etag = headers.get("ETag");
    const encoded = {
      "Content-Encoding": encoding,
      ...(etag !== null && { ETag: etag.replace(/^(?:W\/)?/, "W/") }),
    };
    const isFixed = (headers.get("Cache-Control") ?? "").includes("immutable");
    const data = isFixed ? await once(`${encoding} ${c.req.path} ${etag}`, length, c.res, encoding) : undefined;
    if (data !== undefined) {
      replace(new Uint8Array(data), { ...encoded, "Content-Length": String(data.length) });
      return;
    }
    const source =
      whole === undefined
        ? Readable.fromWeb(c.res.body as import("node:stream/web").ReadableStream)
        : Readable.from([whole]);
    replace(compressing(source, encoding), encoded);
  };
}

/** Bodies that never change, compressed when they are first asked for; undefined where there is no room for another. */
function createOnceCache() {
  const kept = new Map<string, Promise<Buffer>>();
  let total = 0;
  return async (key: string, length: number, response: Response, encoding: Encoding): Promise<Buffer | undefined> => {
    let done = kept.get(key);
    if (done !== undefined) {
      await response.body!.cancel();
      return done;
    }
    if (total + length > keptBytes) return undefined;
    total += length;
    done = response.arrayBuffer().then((data) => compressOnce(encoding, new Uint8Array(data)));
    kept.set(key, done);
    done.catch(() => kept.delete(key));
    return done;
  };
}

/** What fails or is given up on one side ends the other. */
function compressing(source: Readable, encoding: Encoding): ReadableStream {
  const transform = compressor(encoding);
  source.on("error", (error) => transform.destroy(error));
  transform.on("close", () => source.destroy());
  return Readable.toWeb(source.pipe(transform)) as ReadableStream;
}
