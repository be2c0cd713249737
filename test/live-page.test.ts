/**
 * The live pages in a real headless Chromium: what they draw, that they follow a run by push, survive a server that goes
 * away, need no server as files, obey language, theme and small screens, and run nothing that a run's texts contain.
 */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import { pagesFolder } from "../src/live/pages.ts";
import { type LiveServer, startLiveServer } from "../src/live/server.ts";
import { exportStatic } from "../src/live/static-export.ts";
import { stepLine, writeSyntheticRun } from "./support/synthetic-run.ts";

const executablePath = [
  process.env.CHROMIUM_PATH,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
].find((path) => path !== undefined && existsSync(path));
const skip = executablePath === undefined ? "no Chromium found: set CHROMIUM_PATH to test the pages" : false;
const hostile = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';

let folder = "";
let pages = "";
let browser: Browser;
let server: LiveServer;

const serverOptions = (port: number) => ({
  runs: [folder],
  pages,
  host: "127.0.0.1",
  port,
  checkpoints: true,
  now: Date.now,
});

before(async () => {
  if (skip) return;
  folder = mkdtempSync(join(tmpdir(), "cpm-live-page-"));
  writeSyntheticRun(folder, { id: "one", name: "第一次训练", steps: 400, targetSteps: 1000 });
  writeSyntheticRun(folder, {
    id: "evil",
    name: hostile,
    steps: 100,
    status: "ended",
    samples: [{ prompt: hostile, text: hostile }],
  });
  appendFileSync(
    join(folder, "evil", "events.jsonl"),
    `${JSON.stringify({ time: new Date().toISOString(), type: "note", author: hostile, text: hostile })}\n`,
  );
  pages = await pagesFolder();
  server = await startLiveServer(serverOptions(0));
  browser = await chromium.launch({ executablePath: executablePath!, args: ["--no-sandbox"] });
});

after(async () => {
  if (skip) return;
  await browser.close();
  await server.close();
  rmSync(folder, { recursive: true });
});

/** A page, and what went wrong in it: uncaught errors, violations of the policy. What is absent (404) is no fault. */
async function open(
  hash: string,
  options: Parameters<Browser["newPage"]>[0] = {},
  lang = "zh",
): Promise<{ page: Page; faults: string[] }> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" && !/Failed to load resource/.test(message.text())) faults.push(message.text());
  });
  await page.goto(`${server.url}?lang=${lang}${hash}`);
  return { page, faults };
}

const stepShown = (page: Page, value: string) =>
  page.waitForFunction(
    (text) => [...document.querySelectorAll(".figure dd")].some((each) => each.textContent?.startsWith(text)),
    value,
    { timeout: 10_000 },
  );

test("the list names every run and leads to it; charts are drawn from the events", { skip }, async () => {
  const { page, faults } = await open("");
  await page.getByText("第一次训练").click();
  await stepShown(page, "400 / 1,000");
  await page.waitForSelector(".chart canvas");
  assert.ok((await page.locator(".chart canvas").count()) >= 6);
  const drawn = await page.evaluate(() => {
    const canvas = document.querySelector<HTMLCanvasElement>(".chart canvas")!;
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, i) => i % 4 === 3 && value > 0);
  });
  assert.ok(drawn, "the loss chart is blank");
  await page.getByRole("button", { name: "样本" }).click();
  assert.match((await page.locator(".sample").first().textContent())!, /春天来了，第400步/);
  assert.deepEqual(faults, []);
  await page.close();
});

test("new events appear without a reload, and none is lost or doubled when the server goes away", {
  skip,
  timeout: 60_000,
}, async () => {
  const { page, faults } = await open("#/run/one");
  await page.waitForSelector('[data-state="live"]');
  const file = join(folder, "one", "events.jsonl");
  appendFileSync(file, `${stepLine(401, {})}\n`);
  await stepShown(page, "401 / 1,000");
  const { port } = server;
  await server.close();
  await page.waitForSelector('[data-state="reconnecting"]', { timeout: 10_000 });
  for (let step = 402; step <= 450; step++) appendFileSync(file, `${stepLine(step, {})}\n`);
  server = await startLiveServer(serverOptions(port));
  await stepShown(page, "450 / 1,000");
  await page.waitForSelector('[data-state="live"]');
  appendFileSync(file, `${stepLine(451, {})}\n`);
  await stepShown(page, "451 / 1,000");
  // The slider has one place for each step in the store.
  assert.equal(await page.locator(".replay input[type=range]").getAttribute("max"), "451");
  assert.deepEqual(
    faults.filter((fault) => !/ERR_CONNECTION|EventSource/.test(fault)),
    [],
  );
  await page.close();
});

test("language and theme change in place", { skip }, async () => {
  const { page, faults } = await open("#/run/one", { colorScheme: "light" });
  await page.waitForSelector(".figures");
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.getByLabel("明暗").selectOption("dark");
  await page.waitForFunction((old) => getComputedStyle(document.body).backgroundColor !== old, light);
  await page.getByRole("button", { name: "English" }).click();
  await page.getByRole("button", { name: "Parameter dynamics" }).waitFor();
  await page.waitForFunction(() => document.documentElement.lang === "en");
  await page.reload();
  assert.notEqual(await background(), light, "the theme is not kept");
  assert.deepEqual(faults, []);
  await page.close();
});

test("a phone needs no horizontal scrolling in any view", { skip }, async () => {
  const { page, faults } = await open("#/run/one", { viewport: { width: 360, height: 740 } });
  for (const tab of ["overview", "samples", "dynamics", "events", "checkpoints", "logs", "plan"]) {
    await page.evaluate((name) => {
      location.hash = `#/run/one?tab=${name}`;
    }, tab);
    await page.waitForTimeout(150);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, tab);
  }
  assert.deepEqual(faults, []);
  await page.close();
});

test("texts of a run are shown, never run", { skip }, async () => {
  const { page, faults } = await open("#/run/evil");
  await page.locator("h1").getByText("<img src=x").waitFor(); // the name comes with run.json
  for (const tab of ["samples", "events"]) {
    await page.evaluate((name) => {
      location.hash = `#/run/evil?tab=${name}`;
    }, tab);
    await page.getByText("onerror").first().waitFor();
  }
  assert.equal(await page.evaluate(() => (window as unknown as { hacked?: number }).hacked), undefined);
  assert.deepEqual(faults, []);
  await page.close();
});

test("going back in time shows the run as it was", { skip }, async () => {
  const { page } = await open("#/run/one");
  await stepShown(page, "4");
  await page.locator(".replay input[type=range]").fill("123");
  await stepShown(page, "123 / 1,000");
  await page.getByRole("button", { name: "回到现在" }).click();
  await stepShown(page, "451 / 1,000");
  await page.close();
});

test("two runs are compared in one chart", { skip }, async () => {
  const { page, faults } = await open("#/compare?runs=one,evil");
  await page.getByText("第一次训练").first().waitFor();
  await page.waitForSelector(".chart canvas");
  assert.equal(await page.locator("section tbody tr").count(), 2);
  assert.deepEqual(faults, []);
  await page.close();
});

test("a static export needs no server that runs code", { skip }, async () => {
  const output = join(folder, "..", `${basename(folder)}-site`);
  await exportStatic({ runs: [join(folder, "one")], pages, output, checkpoints: false });
  const types: Readonly<Record<string, string>> = {
    html: "text/html",
    js: "text/javascript",
    css: "text/css",
    svg: "image/svg+xml",
  };
  const dumb = createServer((request, response) => {
    const path = join(
      output,
      request
        .url!.split("?")[0]!
        .replace(/^\/runs\/zh/, "")
        .replace(/\/$/, "/index.html"),
    );
    if (!existsSync(path)) return void response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": types[path.split(".").at(-1)!] ?? "application/octet-stream" });
    response.end(readFileSync(path));
  });
  await new Promise<void>((resolve) => dumb.listen(0, "127.0.0.1", resolve));
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(dumb.address() as AddressInfo).port}/runs/zh/?lang=zh#/run/one`);
    await page.waitForSelector('[data-state="static"]');
    await stepShown(page, "451 / 1,000");
    await page.waitForSelector(".chart canvas");
    await page.close();
  } finally {
    dumb.closeAllConnections();
    dumb.close();
    rmSync(output, { recursive: true });
  }
});

test("lines that cannot be read are counted, the others are shown", { skip }, async () => {
  const run = writeSyntheticRun(folder, { id: "torn", steps: 5 });
  appendFileSync(join(run, "events.jsonl"), "{not json}\n");
  appendFileSync(join(run, "events.jsonl"), '{"time":"2026-01-01T00:00:00.000Z","type":"later-version","step":3}\n');
  writeFileSync(join(run, "run.json"), JSON.stringify({ format: 1 }), { flag: "a" }); // no JSON any more: not listed
  const { page } = await open("");
  await page.getByText("第一次训练").waitFor();
  assert.equal(await page.getByText("torn").count(), 0);
  await page.close();
});
