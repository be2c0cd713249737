#!/usr/bin/env node
// The `cpm` command. In a checkout it runs the TypeScript sources as they are; in the published package, the build.
import { existsSync } from "node:fs";

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `cpm: CPM_NODE_TOO_OLD: 需要 Node.js 22.18 或更新版本，当前是 ${process.versions.node}。请升级 Node，或在项目目录中用 npx cpm 运行。\n` +
      `cpm: needs Node.js 22.18 or newer, this is ${process.versions.node}: upgrade Node, or run it with npx cpm inside the project.\n`,
  );
  process.exit(3);
}
const source = new URL("../src/cli/main.ts", import.meta.url);
const built = new URL("../dist/cli/main.js", import.meta.url);
const { main } = await import(existsSync(source) ? source : built);
process.exitCode = await main(process.argv.slice(2));
