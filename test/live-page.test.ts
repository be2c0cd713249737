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

/** The server looks for new runs every two seconds. */
const runsFound = () => new Promise((resolve) => setTimeout(resolve, 2100));
const hashOf = (page: Page) => page.evaluate(() => decodeURIComponent(location.hash));

test("a link shows what its sender saw: axis, smoothing, zoom, moment and speed", { skip }, async () => {
  const { page, faults } = await open("#/run/one");
  await page.waitForSelector(".chart canvas");
  await page.getByLabel("横轴").selectOption("tokens");
  await page.getByLabel("平滑").fill("0.5");
  await page.getByLabel("倍速").selectOption("600");
  await page.locator(".replay input[type=range]").fill("200");
  await stepShown(page, "200 / 1,000");
  const plot = (await page.locator(".u-over").first().boundingBox())!;
  await page.mouse.move(plot.x + 0.25 * plot.width, plot.y + 20);
  await page.mouse.down();
  await page.mouse.move(plot.x + 0.5 * plot.width, plot.y + 40, { steps: 5 });
  await page.mouse.up();
  await page.getByRole("button", { name: "还原" }).waitFor();
  await page.waitForFunction(() => location.hash.includes("zoom="));
  const hash = await hashOf(page);
  for (const part of ["x=tokens", "smooth=0.5", "speed=600", "at=200"])
    assert.ok(hash.includes(part), `${part}: ${hash}`);
  const [, from, to] = /zoom=([\d.]+)~([\d.]+)/.exec(hash)!.map(Number);
  assert.ok(Math.abs(from! / (0.25 * 200 * 2048) - 1) < 0.05 && Math.abs(to! / (0.5 * 200 * 2048) - 1) < 0.05, hash);

  const { page: other } = await open(hash);
  await stepShown(other, "200 / 1,000");
  assert.equal(await other.getByLabel("横轴").inputValue(), "tokens");
  assert.equal(await other.getByLabel("平滑").inputValue(), "0.5");
  assert.equal(await other.getByLabel("倍速").inputValue(), "600");
  // The same stretch of x in every chart that is in sight: both pages draw the same.
  const axis = async (shown: Page) => {
    await shown.waitForTimeout(500);
    return shown.evaluate(() => document.querySelector<HTMLCanvasElement>(".chart canvas")!.toDataURL());
  };
  await page.mouse.move(0, 0);
  assert.equal(await axis(other), await axis(page));
  await other.getByRole("button", { name: "还原" }).click();
  await other.waitForFunction(() => !location.hash.includes("zoom="));
  assert.deepEqual(faults, []);
  await page.close();
  await other.close();
});

test("cursor and zoom are those of all charts of a page", { skip }, async () => {
  const { page } = await open("#/run/one?zoom=100~300");
  await stepShown(page, "4"); // all is read
  await page.waitForFunction(() => {
    const charts = document.querySelectorAll(".chart").length;
    return charts >= 5 && document.querySelectorAll(".chart .u-over").length === charts;
  });
  const plot = (await page.locator(".u-over").first().boundingBox())!;
  // The vertical line of the pointer stands at the same share of the width of every chart that is in sight.
  await page.waitForFunction(
    ([x, y]) => {
      const over = document.querySelector(".u-over")!;
      for (const type of ["mouseenter", "mousemove"])
        over.dispatchEvent(new MouseEvent(type, { clientX: x!, clientY: y!, bubbles: true }));
      const places = [...document.querySelectorAll<HTMLElement>(".u-over")].map((each) => {
        const line = each.querySelector<HTMLElement>(".u-cursor-x")!;
        return new DOMMatrix(getComputedStyle(line).transform).m41 / each.clientWidth;
      });
      return places.slice(0, 3).every((place) => Math.abs(place - 0.5) < 0.02);
    },
    [plot.x + 0.5 * plot.width, plot.y + 20],
    { polling: 300 },
  );
  await page.close();
});

test("a run that is not there: the page says so and what to do, in both languages", { skip }, async () => {
  for (const [lang, heading, list] of [
    ["zh", "没有这个训练记录", "全部训练"],
    ["en", "No such run", "All runs"],
  ] as const) {
    const { page, faults } = await open("#/run/nobody", {}, lang);
    await page.getByRole("heading", { name: heading }).waitFor();
    await page.getByText("nobody").waitFor();
    await page.getByRole("link", { name: list }).last().click();
    await page.getByText("第一次训练").waitFor();
    assert.deepEqual(faults, []);
    await page.close();
  }
});

test("the plan is a page: parts of memory as bars, figures, sources; what is not on record is left out", {
  skip,
}, async () => {
  const run = writeSyntheticRun(folder, { id: "planned", steps: 50 });
  const file = join(run, "run.json");
  const description = JSON.parse(readFileSync(file, "utf8"));
  description.recipe = { rows: 4, optimizer: { beta1: 0.9 }, hostile };
  description.plan = {
    memory: {
      parameters: 2_369_856,
      totalBytes: 300 * 2 ** 20,
      bytes: { weights: 100 * 2 ** 20, moments: 200 * 2 ** 20, odd: hostile },
    },
    availableBytes: 2 ** 30,
    verdict: "fits",
    tokens: 500_000,
    steps: 500,
    sources: [{ label: "zh/poems", tokens: 1000, read: 500_000, epochs: 500 }],
    rate: { tokensPerSecond: 2000, source: "estimated", utilisation: 0.75 },
    run: { tokensPerSecond: 2000, hours: 2, energyKwh: 0.25, kgCo2e: 0.12, cost: 3 },
    assumptions: { currency: "CNY" },
    checkpoints: { kept: 3, bytes: 2 ** 28 },
  };
  writeFileSync(file, JSON.stringify(description));
  await runsFound();
  const { page, faults } = await open("#/run/planned?tab=plan");
  const text = async () => (await page.locator(".plan").textContent())!.replaceAll(/\s+/g, " ");
  await page.getByText("内存构成").waitFor();
  const shown = await text();
  for (const expected of [
    "优化器动量200 MiB 67 %",
    "放得下",
    "2 小时",
    "0.2500 kWh",
    "3.000 CNY",
    "500.00",
    "2,000 token/秒",
  ])
    assert.ok(shown.includes(expected), `${expected}: ${shown}`);
  assert.ok(!shown.includes('{"'), shown);
  const widths = await page.locator(".bar").evaluateAll((bars) => bars.map((bar) => (bar as HTMLElement).offsetWidth));
  assert.equal(widths.length, 2);
  assert.ok(Math.abs(widths[1]! / widths[0]! - 0.5) < 0.02, String(widths));
  await page.getByText("配方", { exact: true }).click();
  await page.getByText("optimizer.beta1").waitFor();
  await page.getByRole("button", { name: "English" }).click();
  await page.getByText("Optimizer moments").waitFor();
  await page.evaluate(() => {
    location.hash = "#/run/one?tab=plan";
  });
  await page.getByText("This run has no plan on record.").waitFor();
  assert.equal(await page.evaluate(() => (window as unknown as { hacked?: number }).hacked), undefined);
  assert.deepEqual(faults, []);
  await page.close();
});

test("a dozen runs: lines that differ, one stream for all, what differs in their recipes", {
  skip,
  timeout: 60_000,
}, async () => {
  const ids = Array.from({ length: 12 }, (_, i) => `many-${i}`);
  for (const [i, id] of ids.entries()) {
    const run = writeSyntheticRun(folder, { id, steps: 30 + i, msPerStep: 1000 + 100 * i });
    const file = join(run, "run.json");
    const description = JSON.parse(readFileSync(file, "utf8"));
    description.recipe = { preset: "tiny", rows: 4 + (i % 2), run: `/runs/${id}`, schedule: { peak: 0.01 } };
    writeFileSync(file, JSON.stringify(description));
  }
  await runsFound();
  const { page, faults } = await open(`#/compare?runs=${ids.join(",")}&x=elapsed`);
  const streams: string[] = [];
  page.on("request", (request) => request.url().includes("stream") && streams.push(request.url()));
  await page.waitForFunction(() => document.querySelectorAll(".compared tbody tr").length === 12);
  await page.waitForFunction(
    () => [...document.querySelectorAll(".compared tbody tr td:nth-child(2)")].at(-1)?.textContent === "41",
  );
  const samples = await page
    .locator(".compared .line-sample line")
    .evaluateAll((lines) =>
      lines.map((line) => `${line.getAttribute("stroke")} ${line.getAttribute("stroke-dasharray")}`),
    );
  assert.equal(new Set(samples).size, 12);
  assert.equal(await page.locator(".differences tbody tr").count(), 1);
  assert.match((await page.locator(".differences tbody").textContent())!, /^rows/);
  appendFileSync(join(folder, "many-11", "events.jsonl"), `${stepLine(42, {})}\n`);
  appendFileSync(join(folder, "many-0", "events.jsonl"), `${stepLine(31, {})}\n`);
  for (const [row, step] of [
    ["many-11", "42"],
    ["many-0", "31"],
  ] as const) {
    await page.waitForFunction(
      ([name, value]) =>
        [...document.querySelectorAll(".compared tbody tr")].some(
          (each) => each.textContent!.startsWith(name!) && each.querySelector("td")!.textContent === value,
        ),
      [row, step],
    );
  }
  assert.ok(streams.length <= 2, streams.join());
  await page.getByLabel("显示 many-3", { exact: true }).uncheck();
  await page.waitForFunction(() => location.hash.includes("hide=many-3"));
  assert.equal(await page.locator(".chart").first().locator(".u-series").count(), 12); // x and eleven runs
  assert.deepEqual(faults, []);
  await page.close();
});

test("two runs are compared in one chart", { skip }, async () => {
  const { page, faults } = await open("#/compare?runs=one,evil");
  await page.getByText("第一次训练").first().waitFor();
  await page.waitForSelector(".chart canvas");
  assert.equal(await page.locator(".compared tbody tr").count(), 2);
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
