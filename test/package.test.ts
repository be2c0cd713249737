/** The package itself: what it exports, depends on, runs at install and would publish. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = new URL("../", import.meta.url);
const rootPath = fileURLToPath(root);
const run = promisify(execFile);

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly engines: { readonly node: string };
  readonly bin: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
  readonly scripts: Readonly<Record<string, string>>;
  readonly allowScripts: Readonly<Record<string, boolean>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

interface Lock {
  readonly version: string;
  readonly packages: Readonly<
    Record<string, { readonly version?: string; readonly hasInstallScript?: boolean; readonly resolved?: string }>
  >;
}

const json = (path: string) => JSON.parse(readFileSync(new URL(path, root), "utf8"));
const manifest = json("package.json") as Manifest;
const lock = json("package-lock.json") as Lock;

/** Packages whose install scripts we know: what each does, and whether it must run. */
const installScripts: Readonly<Record<string, { readonly runs: boolean }>> = {
  node: { runs: true }, // links the binary of its platform's package; development only
  koffi: { runs: false }, // would compile; the prebuilt package of the platform is enough
  "onnxruntime-node": { runs: false }, // would download CUDA libraries from outside the registry
};

test("every export has its source", () => {
  for (const [subpath, target] of Object.entries(manifest.exports)) {
    if (typeof target === "string") {
      assert.ok(existsSync(new URL(target, root)), `${subpath}: ${target} is absent`);
      continue;
    }
    assert.match(target.types, /^\.\/dist\/.*\.d\.ts$/);
    assert.equal(target.types, target.default.replace(/\.js$/, ".d.ts"), subpath);
    const source = target.default.replace("./dist/", "src/").replace(/\.js$/, ".ts");
    assert.ok(existsSync(new URL(source, root)), `${subpath}: ${source} is absent`);
  }
});

test("every export can be imported", async () => {
  for (const target of Object.values(manifest.exports)) {
    if (typeof target === "string") continue;
    const source = target.default.replace("./dist/", "src/").replace(/\.js$/, ".ts");
    const module = (await import(new URL(source, root).href)) as object;
    assert.ok(Object.keys(module).length > 0, `${source} exports nothing`);
  }
});

test("the command is there, executable and knows its version", async () => {
  const { stdout } = await run(process.execPath, [fileURLToPath(new URL(manifest.bin.cpm!, root)), "--version"]);
  assert.equal(stdout.trim(), manifest.version);
  assert.match(readFileSync(new URL(manifest.bin.cpm!, root), "utf8"), /^#!\/usr\/bin\/env node\n/);
});

test("versions are pinned, and the lock agrees", () => {
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    assert.match(version, /^\d+\.\d+\.\d+$/, `${name} is not pinned`);
    assert.equal(lock.packages[`node_modules/${name}`]?.version, version, `${name} differs in the lock`);
  }
  assert.equal(lock.version, manifest.version);
});

test("the lock names no registry host", () => {
  const resolved = Object.entries(lock.packages).filter(([, entry]) => entry.resolved !== undefined);
  assert.deepEqual(resolved, []);
});

test("no install script runs that we do not know", () => {
  const found = Object.entries(lock.packages)
    .filter(([, entry]) => entry.hasInstallScript === true)
    .map(([path]) => path.replace(/^.*node_modules\//, ""));
  assert.deepEqual(found.sort(), Object.keys(installScripts).sort());
  const stated = Object.fromEntries(Object.entries(installScripts).map(([name, { runs }]) => [name, runs]));
  assert.deepEqual({ ...manifest.allowScripts }, stated);
  for (const hook of ["preinstall", "install", "postinstall", "prepare"]) {
    assert.equal(manifest.scripts[hook], undefined, `${hook} would run on a user's machine`);
  }
});

test("what would be published", async () => {
  const { stdout } = await run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: rootPath });
  // npm 11 lists packages in an array, npm 12 by name.
  const report = Object.values(JSON.parse(stdout) as Record<string, PackReport>)[0]!;
  const paths = report.files.map(({ path }) => path);
  for (const needed of ["package.json", "README.md", "README.en.md", "LICENSE", "bin/cpm.js"]) {
    assert.ok(paths.includes(needed), `${needed} is not packed`);
  }
  assert.ok(
    paths.some((path) => path.startsWith("corpus/")),
    "the text of the main job is not packed",
  );
  const strangers = paths.filter(
    (path) =>
      !/^(bin|dist|corpus|recipes)\/|^(package\.json|README(\.en)?\.md|LICENSE)$/.test(path) || /\.test\./.test(path),
  );
  assert.deepEqual(strangers, []);
  assert.ok(report.size < 6 * 2 ** 20, `the package has ${report.size} bytes`);
});

interface PackReport {
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

test("the build runs by itself, with the files beside the sources", async () => {
  const folder = mkdtempSync(join(tmpdir(), "cpm-package-"));
  try {
    const path = (relative: string) => fileURLToPath(new URL(relative, root));
    const dist = join(folder, "dist");
    const tsc = path("node_modules/typescript/bin/tsc");
    await run(process.execPath, [tsc, "-p", path("tsconfig.build.json"), "--outDir", dist]);
    await run(process.execPath, [path("tools/copy-assets.ts"), dist]);
    for (const part of ["bin", "package.json"]) cpSync(path(part), join(folder, part), { recursive: true });
    symlinkSync(path("node_modules"), join(folder, "node_modules"), "junction");
    const vocabulary = join(folder, "vocab.txt");
    const words = ["tokenizer", "train", path("corpus"), "--size", "2000", "-o", vocabulary, "--json"];
    const { stdout } = await run(process.execPath, [join(folder, "bin/cpm.js"), ...words]);
    assert.equal(JSON.parse(stdout).size, 2000);
    assert.equal(readFileSync(vocabulary, "utf8").trimEnd().split("\n").length, 2000);
    const sources = readdirSync(dist, { recursive: true, encoding: "utf8" }).filter((file) =>
      /(?<!\.d)\.ts$/.test(file),
    );
    assert.deepEqual(sources, []);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("publint finds nothing wrong with the manifest", async () => {
  const { publint } = await import("publint");
  const paths = new Set<string>();
  const built = existsSync(new URL("dist/", root));
  const { messages } = await publint({ pkgDir: rootPath, strict: true, pack: false });
  for (const message of messages) {
    // In a checkout nothing is built: the sources of the exports are checked above.
    if (!built && message.code === "FILE_DOES_NOT_EXIST") continue;
    paths.add(`${message.code} at ${message.path.join(".")}`);
  }
  assert.deepEqual([...paths], []);
});

test("the two READMEs have the same structure", () => {
  const outline = (path: string) => {
    const text = readFileSync(new URL(path, root), "utf8").replaceAll(/```[\s\S]*?```/g, "");
    return [...text.matchAll(/^(#+) /gm)].map(([, level]) => level!.length);
  };
  assert.deepEqual(outline("README.en.md"), outline("README.md"));
  const rows = (path: string) => readFileSync(new URL(path, root), "utf8").match(/^\|/gm)?.length;
  assert.equal(rows("README.en.md"), rows("README.md"), "a table of one has more rows");
});

test("the READMEs list every verb, and their links lead somewhere", async () => {
  const { verbs } = await import("../src/cli/registry.ts");
  for (const path of ["README.md", "README.en.md"]) {
    const text = readFileSync(new URL(path, root), "utf8");
    for (const { name } of verbs) assert.ok(text.includes(`\`cpm ${name}\``), `${path} does not list cpm ${name}`);
    for (const [, link] of text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
      if (!/^https?:/.test(link!)) assert.ok(existsSync(new URL(link!, root)), `${path} links to ${link}`);
    }
  }
});

test("no page or source names a path of one machine", async () => {
  const { stdout } = await run("git", ["ls-files", "-z"], { cwd: rootPath });
  const texts = stdout
    .split("\0")
    .filter((path) => /\.(ts|js|md|json|yaml|yml)$/.test(path) && existsSync(new URL(path, root)));
  const machine = new RegExp(`${["/wo", "rk/"].join("")}|${["/ho", "me/[a-z]"].join("")}`);
  const found = texts.filter((path) => machine.test(readFileSync(new URL(path, root), "utf8")));
  assert.deepEqual(found, []);
});
