/** The server of bench/live-viewers.ts, in a process of its own: prints its address, then its use of the machine on request. */
import { createInterface } from "node:readline";
import { startLiveServer } from "../src/live/server.ts";

const [runs, pages] = process.argv.slice(2) as [string, string];
const server = await startLiveServer({
  runs: [runs],
  pages,
  host: "127.0.0.1",
  port: 0,
  checkpoints: false,
  now: Date.now,
});
const say = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
say({ url: server.url });
for await (const _ of createInterface({ input: process.stdin })) {
  const { user, system } = process.cpuUsage();
  say({
    cpuMs: (user + system) / 1000,
    rssBytes: process.memoryUsage.rss(),
    peakBytes: process.resourceUsage().maxRSS * 1024,
    viewers: server.viewers,
  });
}
await server.close();
