/**
 * API keys at rest: a JSON file of names, scopes, limits and hashes.
 *
 * A key is 256 random bits, so its SHA-256 is safe to keep: there is nothing to guess, and a slow hash such as scrypt,
 * which is for passwords that people choose, would only give strangers a way to make the server work. Keys are looked
 * up by their hash, whose comparison tells nothing about the key.
 */
import { createHash, randomBytes } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { z } from "zod";
import { writeFileAtomic } from "../util/atomic-file.ts";
import { ConfigError, FileError } from "../util/error.ts";

export const scopes = ["generate", "embed", "score"] as const;
export type Scope = (typeof scopes)[number];

const keySchema = z.strictObject({
  /** Shown in logs and lists; the beginning of the key. */
  id: z.string().regex(/^[\w-]{4,16}$/),
  name: z.string().min(1).max(100),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  scopes: z.array(z.enum(scopes)),
  /** Absent: no limit. */
  requestsPerMinute: z.number().positive().optional(),
  /** Prompt and generated tokens. Absent: no limit. */
  tokensPerMinute: z.number().positive().optional(),
  created: z.iso.datetime(),
  revoked: z.iso.datetime().optional(),
});
export type ApiKey = z.output<typeof keySchema>;

const fileSchema = z.strictObject({ version: z.literal(1), keys: z.array(keySchema).max(100_000) });

export interface NewKey {
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly requestsPerMinute?: number | undefined;
  readonly tokensPerMinute?: number | undefined;
}

/** Reads the keys; none where there is no file. Throws ConfigError CPM_SERVE_KEYS for a file that is not one of keys. */
export async function readKeys(path: string): Promise<readonly ApiKey[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new FileError("CPM_SERVE_KEYS", "the file of API keys cannot be read", { where: path, cause: error });
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw notKeys(path, "text that is not JSON");
  }
  const parsed = fileSchema.safeParse(content);
  if (parsed.success) return parsed.data.keys;
  const [issue] = parsed.error.issues;
  throw notKeys(path, `${issue!.path.join(".") || "the whole"}: ${issue!.message}`);
}

function notKeys(path: string, got: string): ConfigError {
  return new ConfigError("CPM_SERVE_KEYS", "the file of API keys is not as it must be", {
    where: path,
    got,
    expected: "a file that cpm serve keys add has written",
    hint: "Mend the file, or remove it and add the keys anew.",
  });
}

async function writeKeys(path: string, keys: readonly ApiKey[]): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify({ version: 1, keys }, null, 2)}\n`);
}

/** Adds a key to the file, which is made if need be. The secret is returned here and kept nowhere. */
export async function addKey(path: string, { name, scopes: allowed, ...limits }: NewKey, nowMs: number) {
  const keys = await readKeys(path);
  const secret = `cpm-${randomBytes(32).toString("base64url")}`;
  const key = keySchema.parse({
    id: secret.slice(4, 12),
    name,
    sha256: hashOf(secret),
    scopes: [...allowed],
    ...limits,
    created: new Date(nowMs).toISOString(),
  });
  await writeKeys(path, [...keys, key]);
  return { secret, key };
}

/** Revokes the keys of this id or name; returns those that were still good. Throws ConfigError CPM_SERVE_KEY_UNKNOWN. */
export async function revokeKeys(path: string, idOrName: string, nowMs: number): Promise<readonly ApiKey[]> {
  const keys = await readKeys(path);
  const matching = keys.filter(({ id, name }) => id === idOrName || name === idOrName);
  if (matching.length === 0) {
    throw new ConfigError("CPM_SERVE_KEY_UNKNOWN", "there is no API key of this id or name", {
      where: path,
      got: idOrName,
      hint: "cpm serve keys list shows them.",
    });
  }
  const good = matching.filter(({ revoked }) => revoked === undefined);
  const revoked = new Date(nowMs).toISOString();
  await writeKeys(
    path,
    keys.map((key) => (good.includes(key) ? { ...key, revoked } : key)),
  );
  return good;
}

export function hashOf(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

export interface KeyRing {
  /** The key that a secret belongs to, unless it was revoked. */
  find(secret: string): Promise<ApiKey | undefined>;
}

/** How old what is known of the file may be. */
const freshMs = 1000;

/**
 * The keys of a file, which is read again when it has changed: keys that are added or revoked count within a second. While
 * the file cannot be read, what was read last counts, and `onTrouble` hears of it.
 */
export async function openKeyRing(
  path: string,
  now: () => number,
  onTrouble: (error: unknown) => void,
): Promise<KeyRing> {
  let byHash = new Map<string, ApiKey>();
  let version = "";
  let lookedMs = Number.NEGATIVE_INFINITY;
  const load = async () => {
    lookedMs = now();
    const info = await stat(path).catch(() => undefined);
    const seen = info === undefined ? "none" : `${info.ino} ${info.mtimeMs} ${info.size}`;
    if (seen === version) return;
    const keys = await readKeys(path);
    byHash = new Map(keys.filter(({ revoked }) => revoked === undefined).map((key) => [key.sha256, key]));
    version = seen;
  };
  await load();
  return {
    async find(secret) {
      if (now() - lookedMs > freshMs) await load().catch(onTrouble);
      return byHash.get(hashOf(secret));
    },
  };
}
