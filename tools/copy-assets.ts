/**
 * After `tsc`: copies what lies beside the sources and is no TypeScript (dictionaries, tables) to the same place in the
 * build. `node tools/copy-assets.ts [FOLDER]`, by default `dist`.
 */
import { cpSync } from "node:fs";
import { fileURLToPath } from "node:url";

const source = fileURLToPath(new URL("../src", import.meta.url));
const target = process.argv[2] ?? fileURLToPath(new URL("../dist", import.meta.url));

cpSync(source, target, { recursive: true, filter: (file) => !file.endsWith(".ts") });
