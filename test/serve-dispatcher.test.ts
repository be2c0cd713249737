/** What happens to requests when workers end, hang or refuse; on processes without a model. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { TokenEvent } from "../src/infer/generated-row.ts";
import { parseGenerateOptions } from "../src/infer/options.ts";
import { type Dispatcher, type DispatcherOptions, startDispatcher } from "../src/serve/dispatcher.ts";
import type { GenerateTask } from "../src/serve/worker-protocol.ts";

const entry = fileURLToPath(new URL("support/fake-worker.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "cpm-dispatcher-"));
after(() => rmSync(folder, { recursive: true }));

interface Setting extends Partial<DispatcherOptions> {
  readonly rows?: number;
}

async function withDispatcher(
  use: (dispatcher: Dispatcher, log: { event: string; [key: string]: unknown }[]) => Promise<void>,
  { rows = 4, ...options }: Setting = {},
): Promise<void> {
  const log: { event: string; [key: string]: unknown }[] = [];
  const path = mkdtempSync(join(folder, "model-"));
  const dispatcher = startDispatcher({
    open: {
      type: "open",
      path,
      contextTokens: 100,
      rows,
      prefillTokens: 10,
      promptCacheBytes: 0,
      cacheType: "float32",
    },
    workers: 1,
    entry,
    restartMs: { first: 20, most: 200 },
    maxWaiting: 50,
    maxWaitingPerUser: 40,
    clock: () => performance.now(),
    onLog: (event, fields) => log.push({ event, ...fields }),
    ...options,
  });
  await dispatcher.pool.started;
  try {
    await use(dispatcher, log);
  } finally {
    await dispatcher.drain(0);
  }
  assert.equal(dispatcher.open, 0);
  for (const { pid } of dispatcher.pool.states) assert.equal(pid, undefined);
}

function task(kind: number, options: { maxTokens?: number; samples?: number; seed?: number } = {}): GenerateTask {
  return { kind: "generate", owner: "", prompt: [kind], settings: parseGenerateOptions({ maxTokens: 8, ...options }) };
}

function ask(dispatcher: Dispatcher, asked: GenerateTask, user = "a", deadlineMs = 20_000, signal?: AbortSignal) {
  const events: TokenEvent[] = [];
  const onEvent = (event: TokenEvent) => events.push(event);
  return { events, outcome: dispatcher.run({ task: asked, user, deadlineMs, onEvent, signal }) };
}

const shown = (events: readonly TokenEvent[], sample = 0) =>
  events
    .filter((event) => event.sample === sample)
    .map(({ text }) => text)
    .join("");

suite("dispatcher", { timeout: 120_000 }, () => {
  test("a request goes to a worker and comes back", async () => {
    await withDispatcher(async (dispatcher) => {
      const { events, outcome } = ask(dispatcher, task(1, { samples: 2, seed: 3 }));
      const { answer, work, queueMs } = await outcome;
      assert.deepEqual(
        answer.texts.map(({ text }) => text),
        [shown(events, 0), shown(events, 1)],
      );
      assert.equal(work.generatedTokens, 16);
      assert.ok(queueMs >= 0);
      await assert.rejects(ask(dispatcher, task(103)).outcome, { code: "context_length_exceeded" });
    });
  });

  test("when a worker ends, requests go on in another without a token twice; one that ends workers is alone given up", async () => {
    await withDispatcher(async (dispatcher, log) => {
      const whole = shown((await settled(ask(dispatcher, task(1, { maxTokens: 60, seed: 7 })))).events);
      const innocent = [104, 104, 104].map((kind) => ask(dispatcher, task(kind, { maxTokens: 60, seed: 7 })));
      await wait(100);
      const guilty = ask(dispatcher, task(100));
      await assert.rejects(guilty.outcome, { code: "worker_lost" });
      for (const each of innocent) {
        await each.outcome;
        assert.equal(shown(each.events), whole);
      }
      assert.equal(shown(guilty.events), "0,1,2,", "what it said before is said once");
      assert.equal(log.filter(({ event }) => event === "worker_ended").length, 3);
      assert.ok(dispatcher.pool.restarts >= 2);
    });
  });

  test("a request that was only unlucky is done; one that cannot be continued is not continued wrongly", async () => {
    await withDispatcher(async (dispatcher) => {
      const unlucky = ask(dispatcher, task(101));
      await unlucky.outcome;
      assert.equal(shown(unlucky.events), "0,1,2,3,4,5,6,7,");
      const changed = ask(dispatcher, task(105));
      await assert.rejects(changed.outcome, { code: "worker_lost" });
      assert.equal(shown(changed.events), "0,1,2,");
    });
  });

  test("a worker that hangs is ended", async () => {
    await withDispatcher(
      async (dispatcher, log) => {
        await assert.rejects(ask(dispatcher, task(102)).outcome, { code: "worker_lost" });
        assert.equal(log.filter(({ event }) => event === "worker_hangs").length, 3);
        await ask(dispatcher, task(1)).outcome;
      },
      { hangMs: 300 },
    );
  });

  test("deadlines and clients that leave: waiting or at work, and the rows are free again", async () => {
    await withDispatcher(
      async (dispatcher) => {
        const slow = ask(dispatcher, task(104, { maxTokens: 1000 }), "a", 150);
        const waits = ask(dispatcher, task(1), "a", 50);
        await assert.rejects(waits.outcome, { code: "deadline_exceeded" });
        assert.equal(waits.events.length, 0);
        await assert.rejects(slow.outcome, { code: "deadline_exceeded" });
        const left = new AbortController();
        const leaving = ask(dispatcher, task(104, { maxTokens: 1000 }), "a", 20_000, left.signal);
        const alsoLeaving = ask(dispatcher, task(104), "a", 20_000, left.signal);
        await wait(100);
        left.abort(new Error("gone"));
        await assert.rejects(leaving.outcome, /gone/);
        await assert.rejects(alsoLeaving.outcome, /gone/);
        const many = leaving.events.length;
        await ask(dispatcher, task(1)).outcome;
        assert.equal(leaving.events.length, many, "nobody is told anything any more");
        await assert.rejects(
          ask(dispatcher, task(1), "a", 1000, AbortSignal.abort(new Error("never"))).outcome,
          /never/,
        );
      },
      { rows: 1 },
    );
  });

  test("the queue is bounded, for all and for each", async () => {
    await withDispatcher(
      async (dispatcher) => {
        const first = ask(dispatcher, task(104, { maxTokens: 30 }));
        const waiting = [ask(dispatcher, task(1)), ask(dispatcher, task(1))];
        const refused = { code: "queue_full", status: 429 };
        await assert.rejects(ask(dispatcher, task(1)).outcome, refused);
        waiting.push(ask(dispatcher, task(1), "b"));
        await assert.rejects(ask(dispatcher, task(1), "c").outcome, refused);
        assert.throws(
          () => dispatcher.checkRoom("b", 1),
          (error: { details: { retryAfterSeconds: number } }) => {
            const { retryAfterSeconds } = error.details;
            return Number.isInteger(retryAfterSeconds) && retryAfterSeconds >= 1 && retryAfterSeconds <= 60;
          },
        );
        for (const each of [first, ...waiting]) await each.outcome;
        dispatcher.checkRoom("a", 2);
      },
      { rows: 1, maxWaiting: 3, maxWaitingPerUser: 2 },
    );
  });

  test("whoever asks for little does not wait for whoever asks for much", async () => {
    await withDispatcher(
      async (dispatcher) => {
        const done: string[] = [];
        const follow = async (name: string, asked: ReturnType<typeof ask>) => {
          await asked.outcome;
          done.push(name);
        };
        const greedy = Array.from({ length: 6 }, (_, i) =>
          follow(`greedy ${i}`, ask(dispatcher, task(104, { maxTokens: 10 }), "greedy")),
        );
        await wait(20);
        const modest = follow("modest", ask(dispatcher, task(104, { maxTokens: 2 }), "modest"));
        await Promise.all([...greedy, modest]);
        assert.ok(done.indexOf("modest") <= 2, done.join(", "));
      },
      { rows: 1 },
    );
  });

  test("draining: what is under way is finished, what comes is refused, what takes too long is cut off", async () => {
    await withDispatcher(async (dispatcher) => {
      const open = ask(dispatcher, task(104, { maxTokens: 10 }));
      const long = ask(dispatcher, task(104, { maxTokens: 1000 }));
      const cutOff = assert.rejects(long.outcome, { code: "shutting_down" });
      await wait(50);
      const drained = dispatcher.drain(600);
      await assert.rejects(ask(dispatcher, task(1)).outcome, { code: "shutting_down", status: 503 });
      assert.equal((await open.outcome).answer.texts[0]!.ids.length, 10);
      await cutOff;
      await drained;
    });
  });

  test("a model that cannot be opened is told at the start", async () => {
    const dispatcher = startDispatcher({
      open: {
        type: "open",
        path: "unusable",
        contextTokens: 100,
        rows: 1,
        prefillTokens: 10,
        promptCacheBytes: 0,
        cacheType: "float32",
      },
      workers: 2,
      entry,
      maxWaiting: 1,
      maxWaitingPerUser: 1,
      clock: () => performance.now(),
      onLog: () => {},
    });
    await assert.rejects(dispatcher.pool.started, { code: "CPM_X", message: "the weights are damaged" });
    await dispatcher.drain(0);
  });

  test("two workers share the work", async () => {
    await withDispatcher(
      async (dispatcher) => {
        const asked = Array.from({ length: 4 }, () => ask(dispatcher, task(104, { maxTokens: 5 })));
        await wait(30);
        assert.deepEqual(
          dispatcher.pool.states.map(({ rows }) => rows),
          [2, 2],
        );
        for (const each of asked) await each.outcome;
      },
      { workers: 2, rows: 2 },
    );
  });
});

async function settled(asked: ReturnType<typeof ask>) {
  await asked.outcome;
  return asked;
}
