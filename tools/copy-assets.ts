/** After `tsc`: copies what lies beside the sources and is no TypeScript (dictionaries, tables) to the same place in dist. */
import { cpSync } from "node:fs";
import { fileURLToPath } from "node:url";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

cpSync(path("../src"), path("../dist"), { recursive: true, filter: (file) => !file.endsWith(".ts") });
