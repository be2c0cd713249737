/**
 * Where the built pages are. A published package brings them; a checkout builds them with Vite when they are first asked
 * for, into a cache that goes by the sources' content.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UnsupportedError } from "../util/error.ts";

/** The folder with index.html and assets/. Throws UnsupportedError CPM_LIVE_PAGES where they can neither be found nor built. */
export async function pagesFolder(): Promise<string> {
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const published = join(root, "dist", "web");
  const sources = join(root, "web");
  if (import.meta.url.endsWith(".js") && existsSync(join(published, "index.html"))) return published;
  if (!existsSync(join(sources, "vite.config.ts"))) throw missing(sources);
  const target = join(root, ".cache", `web-${await contentHash(sources)}`);
  if (existsSync(join(target, "index.html"))) return target;
  const vite = await import("vite").catch(() => undefined);
  if (vite === undefined) throw missing("vite");
  const aside = `${target}.partial-${process.pid}`;
  await mkdir(aside, { recursive: true });
  await vite.build({
    configFile: join(sources, "vite.config.ts"),
    logLevel: "error",
    build: { outDir: aside, emptyOutDir: true },
  });
  await rename(aside, target).catch(async () => {
    // another process was first
    if (!existsSync(join(target, "index.html"))) await cp(aside, target, { recursive: true });
    await rm(aside, { recursive: true, force: true });
  });
  return target;
}

async function contentHash(folder: string): Promise<string> {
  const digest = createHash("sha256");
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  for (const file of files.sort()) digest.update(file.slice(folder.length)).update(await readFile(file));
  // The one source of the server's that is part of the pages; of others they take types alone.
  digest.update(await readFile(new URL("./stream-beat.ts", import.meta.url)));
  return digest.digest("hex").slice(0, 16);
}

function missing(where: string): UnsupportedError {
  return new UnsupportedError("CPM_LIVE_PAGES", "The live pages are not there", {
    where,
    expected: "built pages in the package, or their sources and Vite in a checkout",
    hint: "Install the package again, or run npm ci in the checkout.",
  });
}
