/** What the memory gives: the rate of a plain sum over numbers that no cache holds. */
import { Worker } from "node:worker_threads";
import { median } from "./report.ts";

/** Gigabytes a second that so many threads read together from as many bytes, the median of some rounds. */
export async function readRate(bytes: number, threads: number): Promise<number> {
  const code = `
    const { parentPort, workerData } = require("node:worker_threads");
    const data = new Float64Array(workerData / 8).fill(1);
    parentPort.on("message", () => {
      const began = performance.now();
      let a = 0, b = 0, c = 0, d = 0;
      for (let i = 0; i < data.length; i += 32) { a += data[i]; b += data[i + 8]; c += data[i + 16]; d += data[i + 24]; }
      parentPort.postMessage({ ms: performance.now() - began, sum: a + b + c + d });
    });
    parentPort.postMessage("ready");`;
  const part = Math.floor(bytes / threads / 256) * 256;
  const workers = Array.from({ length: threads }, () => new Worker(code, { eval: true, workerData: part }));
  const message = (worker: Worker) => new Promise<{ ms: number }>((resolve) => worker.once("message", resolve));
  await Promise.all(workers.map(message));
  const rates: number[] = [];
  for (let round = 0; round < 7; round++) {
    const answers = workers.map(message);
    for (const worker of workers) worker.postMessage("go");
    const slowest = Math.max(...(await Promise.all(answers)).map(({ ms }) => ms));
    rates.push((threads * part) / slowest / 1e6);
  }
  for (const worker of workers) await worker.terminate();
  return median(rates);
}
