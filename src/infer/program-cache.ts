/**
 * Compiled programs with their packed weights, kept on disk and mapped instead of made again: a model opens in the time
 * that its programs take to load, and its weights are pages of files, which the system can drop and read again.
 *
 * The folder is named by the content of the weights. What hashing gigabytes gave is remembered beside it for as long as the
 * files have the same size, time and inode.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomic } from "../util/atomic-file.ts";

export interface ProgramCache {
  /** A name for the content of the weights. */
  readonly key: string;
  /** The file of a program; the folder exists. */
  path(program: string): string;
}

/** Weights of fewer bytes are packed faster than they are looked up. */
export const smallestCachedBytes = 64 * 2 ** 20;

/** The cache of the model in these files, below `folder`. */
export async function openProgramCache(folder: string, files: readonly string[]): Promise<ProgramCache> {
  const digests = await Promise.all(files.map((file) => contentDigest(folder, file)));
  const key = createHash("sha256").update(digests.join("\n")).digest("hex").slice(0, 32);
  const own = join(folder, "programs", key);
  await mkdir(own, { recursive: true });
  return { key, path: (program) => join(own, `${program}.onnx`) };
}

const rememberedSchema = z.object({
  sizeBytes: z.number(),
  modifiedNs: z.string(),
  inode: z.string(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

/** SHA-256 of a file, remembered. */
async function contentDigest(folder: string, file: string): Promise<string> {
  const path = await realpath(file);
  const { size, mtimeNs, ino } = await stat(path, { bigint: true });
  const facts = { sizeBytes: Number(size), modifiedNs: String(mtimeNs), inode: String(ino) };
  const note = join(folder, "digests", `${createHash("sha256").update(path).digest("hex")}.json`);
  // Absent, cut or no JSON: it is hashed again.
  const known = await readFile(note, "utf8")
    .then((text) => rememberedSchema.safeParse(JSON.parse(text)).data)
    .catch(() => undefined);
  const same = known && Object.entries(facts).every(([name, value]) => known[name as keyof typeof facts] === value);
  if (same) return known.sha256;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 22 })) hash.update(chunk);
  const sha256 = hash.digest("hex");
  await mkdir(join(folder, "digests"), { recursive: true });
  await writeFileAtomic(note, `${JSON.stringify({ ...facts, sha256 })}\n`);
  return sha256;
}
