/**
 * A server among misbehaving clients at full size: nothing may leak, hang, or be refused without a type, and whatever is
 * answered must be right.
 *
 *     node bench/serve-faults.ts [--clients 200] [--bodies 2000] [--requests 10000]
 *
 * 1. clients of which a third vanish in the middle of their stream, some of the others read nothing for a while;
 * 2. bodies made from the OpenAPI document and spoiled, prompts that are far too long;
 * 3. the worker killed again and again under load;
 * 4. many requests, of which some leave: memory of server and worker over time, each time after a full collection of garbage
 *    (before it, what is resident says more about when V8 last collected than about what is held);
 * 5. SIGTERM under load.
 *
 * The model is a small random one: what is tested is what is around it. Ends with code 1 where anything is not as it must be.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";
import fc from "fast-check";
import { apiErrors } from "../src/serve/api-errors.ts";
import { inspectorUrls, inspectProcess } from "../test/support/inspected-process.ts";
import { bodiesFor } from "../test/support/request-bodies.ts";
import { residentBytes, startServeProcess } from "../test/support/serve-process.ts";
import { eventsOf } from "../test/support/served-model.ts";
import { writeSmallModel } from "../test/support/text-model.ts";
import { machine } from "./report.ts";

const { values } = parseArgs({
  options: {
    clients: { type: "string", default: "200" },
    bodies: { type: "string", default: "2000" },
    requests: { type: "string", default: "10000" },
  },
});
const [clients, bodies, requests] = [Number(values.clients), Number(values.bodies), Number(values.requests)];
const folder = mkdtempSync(join(tmpdir(), "cpm-serve-faults-"));
await writeSmallModel(folder);
const server = await startServeProcess(
  [
    `small=${folder}`,
    ...["--threads", "1", "--rows", "16", "--context", "128", "--max-waiting", String(Math.max(clients, 256))],
    ...["--drain", "60s"],
  ],
  { NODE_OPTIONS: "--inspect=0" },
);
/** More than this a request, resident or on the heap, over the last half of the requests is a leak. */
const leakBytes = 300;
const faults: string[] = [];
const expect = (is: boolean, what: string) => {
  if (is) return;
  faults.push(what);
  console.log(`  ✖ ${what}`);
};

function post(path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return fetch(server.url + path, { method: "POST", body: text, ...init });
}

/** The text of a stream, or the code of its refusal. */
async function readStream(response: Response): Promise<string> {
  const text = await response.text();
  if (response.status !== 200) return `refused ${(JSON.parse(text) as { error: { code: string } }).error.code}`;
  const events = eventsOf(text);
  const last = events.at(-1) as { error?: { code: string } } | string;
  if (typeof last === "object" && last.error) return `broken ${last.error.code}`;
  if (last !== "[DONE]") return "cut";
  return events
    .slice(0, -1)
    .map((event) => (event as { choices: { text: string }[] }).choices[0]!.text)
    .join("");
}

/** Of the line through points by least squares. */
function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (at: 0 | 1) => points.reduce((sum, point) => sum + point[at], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const products = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0);
  return products / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
}

const metrics = async () => (await fetch(`${server.url}/metrics`)).text();
const metric = (text: string, name: string) =>
  Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "m").exec(text)?.[1] ?? Number.NaN);

async function untilIdle(): Promise<boolean> {
  for (let i = 0; i < 600; i++) {
    const text = await metrics();
    if (metric(text, "cpm_serve_open") === 0 && metric(text, "cpm_serve_rows") === 0) return true;
    await wait(100);
  }
  return false;
}

const tally = (results: readonly string[]) => {
  const counts = new Map<string, number>();
  for (const result of results) counts.set(result, (counts.get(result) ?? 0) + 1);
  return [...counts].map(([result, count]) => `${count} ${result}`).join(", ");
};

const text = (seed: number, more = {}) => ({ prompt: "春天来了", max_tokens: 60, min_tokens: 60, seed, ...more });
const expected = new Map<number, string>();
for (const seed of [0, 1, 2, 3, 4]) {
  const { choices } = (await (await post("/v1/completions", text(seed))).json()) as { choices: { text: string }[] };
  expected.set(seed, choices[0]!.text);
}

console.log(machine());
console.log(`1. ${clients} clients, a third of which vanish, a tenth of which read nothing for a while`);
{
  const startMs = performance.now();
  const client = async (index: number): Promise<string> => {
    const leaving = new AbortController();
    try {
      const response = await post("/v1/completions", text(index % 5, { stream: true }), { signal: leaving.signal });
      if (index % 3 === 0) {
        await response.body!.getReader().read();
        leaving.abort();
        return "left";
      }
      if (index % 10 === 1) await wait(3000);
      const got = await readStream(response);
      return got === expected.get(index % 5) ? "right" : got.startsWith("refused") ? got : `wrong: ${got}`;
    } catch (error) {
      return leaving.signal.aborted ? "left" : `failed: ${error}`;
    }
  };
  const results = await Promise.all(Array.from({ length: clients }, (_, index) => client(index)));
  console.log(`  ${tally(results)} in ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  expect(
    results.every((result) => result === "right" || result === "left"),
    "every stream that stayed is right",
  );
  expect(await untilIdle(), "idle afterwards");
}

console.log(`2. ${bodies} bodies, good, spoiled and nonsense; prompts that are far too long`);
{
  const document = await (await fetch(`${server.url}/openapi.json`)).json();
  const paths = bodiesFor(document);
  const codes: string[] = [];
  for (const { path, bodies: made } of paths) {
    const sample = fc.sample(made, { numRuns: Math.ceil(bodies / paths.length), seed: 11 });
    for (let at = 0; at < sample.length; at += 8) {
      await Promise.all(
        sample.slice(at, at + 8).map(async (body) => {
          const response = await post(path, body);
          const answer = await response.text();
          if (response.status === 200) return codes.push("ok");
          const { code } = (JSON.parse(answer) as { error: { code: keyof typeof apiErrors } }).error;
          expect(apiErrors[code]?.status === response.status, `${path}: ${response.status} ${answer.slice(0, 200)}`);
          return codes.push(code);
        }),
      );
    }
  }
  for (const length of [200, 2_000, 20_000, 200_000, 2_000_000]) {
    const response = await post("/v1/completions", { prompt: "春".repeat(length) });
    codes.push(((await response.json()) as { error: { code: string } }).error.code);
  }
  console.log(`  ${tally(codes)}`);
  expect(!codes.includes("internal_error") && !codes.includes("model_failure"), "no failure inside");
  expect(await untilIdle(), "idle afterwards");
}

console.log("3. the worker killed five times under load");
{
  const children = () =>
    readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, "utf8")
      .trim()
      .split(" ")
      .filter(Boolean)
      .map(Number);
  const results: string[] = [];
  let killed = 0;
  for (let i = 0; i < 5; i++) {
    const running = Promise.all(
      Array.from({ length: 12 }, async (_, seed) => {
        const got = await readStream(await post("/v1/completions", text(seed % 5, { stream: true })));
        return got === expected.get(seed % 5)
          ? "right"
          : got.startsWith("refused") || got.startsWith("broken")
            ? got
            : "wrong";
      }),
    );
    await wait(100);
    for (const pid of children()) {
      process.kill(pid, "SIGKILL");
      killed++;
    }
    results.push(...(await running));
  }
  console.log(`  ${killed} kills: ${tally(results)}`);
  expect(killed === 5, "there was a worker to kill each time");
  expect(
    results.every((result) => result === "right"),
    "every stream went on to its end",
  );
  expect(await untilIdle(), "idle afterwards");
}

console.log(`4. ${requests} requests, one in ten leaves`);
{
  let next = 0;
  const results = new Map<string, number>();
  // The server's own, which is told of first, and that of the worker that was started last.
  const urls = inspectorUrls(server.log());
  const processes = await Promise.all([urls[0]!, urls.at(-1)!].map(inspectProcess));
  const client = async (end: number) => {
    while (next < end) {
      const index = next++;
      const leaving = new AbortController();
      const kind = index % 10;
      let result: string;
      try {
        const small = { prompt: "夏天", max_tokens: 6, seed: index };
        const response =
          kind === 0
            ? await post(
                "/v1/completions",
                { ...small, max_tokens: 60, min_tokens: 60, stream: true },
                { signal: leaving.signal },
              )
            : kind === 1
              ? await post("/v1/embeddings", { input: ["春天", "夏天"] })
              : kind === 2
                ? await post("/score", { text: "春天来了" })
                : kind === 3
                  ? await post("/v1/completions", { prompt: 3 })
                  : await post("/v1/completions", { ...small, stream: kind % 2 === 0, n: kind === 4 ? 2 : 1 });
        if (kind === 0) {
          await response.body!.getReader().read();
          leaving.abort();
          result = "left";
        } else {
          await response.text();
          result = String(response.status);
        }
      } catch (error) {
        result = leaving.signal.aborted ? "left" : String(error);
      }
      results.set(result, (results.get(result) ?? 0) + 1);
    }
  };
  const startMs = performance.now();
  const portions = 20;
  const memory: { readonly requests: number; readonly bytes: Readonly<Record<string, number>> }[] = [];
  for (let portion = 1; portion <= portions; portion++) {
    const end = Math.round((portion * requests) / portions);
    await Promise.all(Array.from({ length: 32 }, () => client(end)));
    expect(await untilIdle(), "idle in between");
    const [ownHeap, workerHeap] = await Promise.all(processes.map((each) => each.collectGarbage()));
    const { own, children } = residentBytes(server.pid);
    const bytes = { server: own, worker: children, "server's heap": ownHeap!, "worker's heap": workerHeap! };
    memory.push({ requests: end, bytes });
  }
  for (const each of processes) each.close();
  const seconds = (performance.now() - startMs) / 1000;
  console.log(`  ${[...results].map(([result, count]) => `${count} ${result}`).join(", ")} in ${seconds.toFixed(0)} s`);
  for (const part of Object.keys(memory[0]!.bytes)) {
    const settled = memory.slice(portions / 2);
    const grown = slope(settled.map((each) => [each.requests, each.bytes[part]!]));
    const mebibytes = memory.map(({ bytes }) => (bytes[part]! / 2 ** 20).toFixed(1));
    console.log(`  MiB of the ${part}: ${mebibytes.join(" ")}; ${grown.toFixed(0)} bytes a request over the last half`);
    expect(grown < leakBytes, `${part}: less than ${leakBytes} bytes a request`);
  }
  expect(
    [...results.keys()].every((result) => ["200", "400", "left"].includes(result)),
    "answers and typed refusals only",
  );
  expect(await untilIdle(), "idle afterwards");
}

console.log("5. SIGTERM under load");
{
  const running = Promise.all(
    Array.from({ length: 40 }, async (_, seed) => {
      const got = await readStream(await post("/v1/completions", text(seed % 5, { stream: true }))).catch(String);
      return got === expected.get(seed % 5) ? "right" : got;
    }),
  );
  // Requests that have not arrived yet would be refused, and rightly so.
  for (let i = 0; i < 300 && metric(await metrics(), "cpm_serve_open") < 40; i++) await wait(20);
  server.kill("SIGTERM");
  const startMs = performance.now();
  const results = await running;
  const code = await Promise.race([server.ended, wait(90_000, "hangs")]);
  console.log(`  ${tally(results)}; ended with ${code} after ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  expect(
    results.every((result) => result === "right"),
    "what was under way was finished",
  );
  expect(code === 0, "it ended by itself");
}
server.kill("SIGKILL");
rmSync(folder, { recursive: true });
console.log(faults.length === 0 ? "all as it must be" : `${faults.length} faults`);
process.exitCode = faults.length === 0 ? 0 : 1;
