/**
 * The body of a request as JSON: read up to a limit and within a time, unpacked up to the same limit, decoded as UTF-8.
 */
import type { IncomingMessage } from "node:http";
import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate, zstdDecompress } from "node:zlib";
import { ApiError } from "./api-errors.ts";

/** A body that does not arrive within this time is given up. */
const bodyTimeoutMs = 30_000;

const unpackers = {
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
  br: promisify(brotliDecompress),
  zstd: promisify(zstdDecompress),
} as const;

/**
 * Reads a body and parses it. Throws ApiError `request_too_large` (as sent or unpacked), `request_timeout`,
 * `unsupported_encoding` or `invalid_json`.
 */
export async function readJson(incoming: IncomingMessage, maxBytes: number): Promise<unknown> {
  const body = await readBody(incoming, maxBytes);
  const unpacked = await unpack(body, incoming.headers["content-encoding"] ?? "identity", maxBytes);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(unpacked));
  } catch {
    throw new ApiError("invalid_json");
  }
}

async function unpack(body: Buffer, encoding: string, maxBytes: number): Promise<Buffer> {
  const name = encoding.trim().toLowerCase();
  if (name === "identity" || name === "") return body;
  if (!Object.hasOwn(unpackers, name)) throw new ApiError("unsupported_encoding", { detail: name.slice(0, 50) });
  try {
    // What would grow beyond the limit is not unpacked further.
    return await unpackers[name as keyof typeof unpackers](body, { maxOutputLength: maxBytes });
  } catch (error) {
    throw (error as { code?: string }).code === "ERR_BUFFER_TOO_LARGE"
      ? tooLarge(maxBytes)
      : new ApiError("invalid_json");
  }
}

/** By hand: leaving an iterator over the request early would close the connection before the refusal is out. */
function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // The rest of a body that is too large is read and thrown away (until the server's limit of time): a connection that
    // is closed while the client still writes may take the refusal with it.
    const refuseSize = () => {
      incoming.resume();
      reject(tooLarge(maxBytes));
    };
    if (Number(incoming.headers["content-length"] ?? 0) > maxBytes) return refuseSize();
    const chunks: Buffer[] = [];
    let bytes = 0;
    const settle = (act: () => void) => {
      clearTimeout(late);
      incoming.off("data", onData).off("end", onEnd).off("error", onError).off("close", onClose);
      act();
    };
    const onData = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxBytes) settle(refuseSize);
      else chunks.push(chunk);
    };
    const onEnd = () => settle(() => resolve(Buffer.concat(chunks)));
    const onError = (error: Error) => settle(() => reject(error));
    const onClose = () => settle(() => reject(new DOMException("the client has left", "AbortError")));
    const late = setTimeout(() => settle(() => reject(new ApiError("request_timeout"))), bodyTimeoutMs);
    incoming.on("data", onData).on("end", onEnd).on("error", onError).on("close", onClose);
  });
}

function tooLarge(maxBytes: number): ApiError {
  return new ApiError("request_too_large", { detail: `At most ${maxBytes} bytes.` });
}
