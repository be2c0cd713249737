/**
 * The Dockerfile's steps in clean folders, and the server that comes of them as its image would run it: the health check of
 * the image and of compose, the probes of Kubernetes, a stop. Dependencies are those that are installed here, instead of
 * installed anew.
 */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { parse, parseAllDocuments } from "yaml";
import { addKey } from "../src/serve/api-keys.ts";
import { buildImage, type DockerImage, parseDockerfile } from "./support/dockerfile.ts";
import { eventsOf } from "./support/served-model.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const checkout = fileURLToPath(new URL("../", import.meta.url));
const deploy = join(checkout, "deploy");
const run = promisify(execFile);

/** What `docker build .` would be sent: tracked files and new ones, without those of .dockerignore. */
async function contextFolder(): Promise<string> {
  const folder = temporaryFolder("cpm-docker-context-");
  const { stdout } = await run("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: checkout,
  });
  const ignored = readFileSync(join(checkout, ".dockerignore"), "utf8").split("\n").filter(Boolean);
  for (const path of stdout.split("\0").filter(Boolean)) {
    if (ignored.some((entry) => path === entry || path.startsWith(`${entry}/`))) continue;
    if (!existsSync(join(checkout, path))) continue;
    mkdirSync(join(folder, dirname(path)), { recursive: true });
    cpSync(join(checkout, path), join(folder, path));
  }
  return folder;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A command of the build on this machine. */
async function command(text: string, { root, cwd }: { readonly root: string; readonly cwd: string }): Promise<void> {
  // Against the lock and without scripts, which has been done for this checkout.
  if (text === "npm ci --ignore-scripts") {
    return symlinkSync(realpathSync(join(checkout, "node_modules")), join(cwd, "node_modules"), "junction");
  }
  // Would take the packages of development from the checkout.
  if (text === "npm prune --omit=dev --ignore-scripts") return;
  const made = /^install -d -o node -g node (\/\S+)$/.exec(text)?.[1];
  if (made !== undefined) mkdirSync(join(root, made));
  else await run("sh", ["-c", text], { cwd });
}

/** What runs in a container of the image, with a model and keys where it looks for them. */
async function startContainer(image: DockerImage, port: number, context: TestContext) {
  const place = (word: string) => word.replace(/(^|=)\/(model|keys|cache)/, `$1${image.root}/$2`);
  const [node, ...words] = [...image.words, "--port", String(port)].map(place);
  assert.equal(node, "node");
  const env = Object.fromEntries(Object.entries(image.env).map(([name, value]) => [name, place(value)]));
  const child = spawn(process.execPath, words, {
    cwd: join(image.root, image.workdir),
    env: { PATH: process.env.PATH, HOME: image.root, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  context.after(() => child.kill("SIGKILL"));
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  const ended = once(child, "exit").then(([code]) => code as number);
  return { child, ended, log: () => log };
}

test("built by its steps it serves, is seen to be healthy, and stops in peace", {
  timeout: 600_000,
}, async (context) => {
  const stages = parseDockerfile(readFileSync(join(deploy, "Dockerfile"), "utf8"));
  const folder = temporaryFolder("cpm-docker-");
  const image = await buildImage(stages, { context: await contextFolder(), folder, run: command });
  assert.equal(image.user, "node");
  assert.deepEqual(
    ["bin", "cache", "dist", "node_modules", "package.json", "src"].filter((name) =>
      existsSync(join(image.root, name === "cache" ? "" : image.workdir, name)),
    ),
    ["bin", "cache", "dist", "node_modules", "package.json"],
    "what is built, and no sources",
  );
  await writeSmallModel(join(image.root, "model"));
  mkdirSync(join(image.root, "keys"));
  const { secret } = await addKey(
    join(image.root, "keys/keys.json"),
    { name: "app", scopes: ["generate"] },
    Date.now(),
  );

  const port = await freePort();
  const compose = parse(readFileSync(join(deploy, "compose.yaml"), "utf8")).services.serve;
  const [, ...composeCheck] = compose.healthcheck.test as string[];
  assert.deepEqual(composeCheck, image.healthcheck, "compose checks as the image does");
  const healthy = async () => {
    const [node, ...words] = image.healthcheck.map((word) => word.replace(":8023/", `:${port}/`));
    assert.equal(node, "node");
    return run(process.execPath, words).then(
      () => 0,
      ({ code }: { code: number }) => code,
    );
  };
  assert.equal(await healthy(), 1, "nothing listens yet");
  const { child, ended, log } = await startContainer(image, port, context);
  for (let i = 0; (await healthy()) !== 0; i++) {
    assert.ok(i < 300 && child.exitCode === null, log());
    await wait(200);
  }

  const [{ spec }] = parseAllDocuments(readFileSync(join(deploy, "kubernetes/deployment.yaml"), "utf8")).map((each) =>
    each.toJS(),
  );
  const [container] = spec.template.spec.containers;
  for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"])
    assert.equal((await fetch(`http://127.0.0.1:${port}${container[probe].httpGet.path}`)).status, 200, probe);
  const scraped = spec.template.metadata.annotations["prometheus.io/path"];
  assert.match(await (await fetch(`http://127.0.0.1:${port}${scraped}`)).text(), /cpm_serve_workers_ready/);

  const ask = (headers: Record<string, string>) =>
    fetch(`http://127.0.0.1:${port}/v1/completions`, {
      method: "POST",
      headers,
      body: JSON.stringify({ prompt: "春天来了，", max_tokens: 200, ignore_eos: true, stream: true }),
    });
  assert.equal((await ask({})).status, 401);
  const stream = await ask({ Authorization: `Bearer ${secret}` });
  child.kill("SIGTERM");
  const events = eventsOf(await stream.text());
  assert.equal(events.at(-1), "[DONE]", "what was under way is finished");
  assert.equal(await ended, 0, log());
  assert.equal(await healthy(), 1);
});
