/** Workers that share the texts of a build. With none, the work is done in this thread. */
import { Worker } from "node:worker_threads";
import { createTextWork, type WorkerResult, type WorkerSettings, type WorkerTask } from "./text-worker.ts";

export interface TextWorkers {
  run(task: WorkerTask): Promise<WorkerResult>;
  close(): Promise<void>;
}

/** `count` threads beside this one; 0 works in this one. */
export function startTextWorkers(count: number, settings: WorkerSettings): TextWorkers {
  if (count === 0) {
    const work = createTextWork(settings);
    return { run: async (task) => work(task), close: async () => {} };
  }
  const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  const file = new URL(`./text-worker${extension}`, import.meta.url);
  const waiting = new Map<number, { resolve: (result: WorkerResult) => void; reject: (error: unknown) => void }>();
  const loads = new Array<number>(count).fill(0);
  const owners = new Map<number, number>();
  let next = 0;
  let failure: unknown;
  const fail = (error: unknown) => {
    failure ??= error;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  const workers = Array.from({ length: count }, () => {
    const worker = new Worker(file, { workerData: { textWorker: true, settings } });
    worker.on("message", ({ id, result }: { id: number; result: WorkerResult }) => {
      loads[owners.get(id)!]!--;
      owners.delete(id);
      waiting.get(id)?.resolve(result);
      waiting.delete(id);
    });
    worker.on("error", fail);
    worker.on("exit", (code) => {
      if (code !== 0) fail(new Error(`internal: a worker of the build ended with ${code}`));
    });
    return worker;
  });
  return {
    run(task) {
      if (failure !== undefined) return Promise.reject(failure);
      const id = next++;
      const least = loads.indexOf(Math.min(...loads));
      loads[least]!++;
      owners.set(id, least);
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        workers[least]!.postMessage({ id, task });
      });
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}
