/** Collecting another process's garbage, over Node's inspector: it has to be started with `NODE_OPTIONS=--inspect=0`. */

export interface InspectedProcess {
  /** A full collection; resolves to the bytes that are live on the heap after it. */
  collectGarbage(): Promise<number>;
  close(): void;
}

/** Addresses of inspectors that a log tells of, in their order. */
export function inspectorUrls(log: string): string[] {
  return [...log.matchAll(/Debugger listening on (ws:\/\/\S+)/g)].map(([, url]) => url!);
}

export async function inspectProcess(url: string): Promise<InspectedProcess> {
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve, { once: true });
    socket.addEventListener("error", reject, { once: true });
  });
  const waiting = new Map<number, (result: unknown) => void>();
  let next = 1;
  socket.addEventListener("message", ({ data }) => {
    const { id, result } = JSON.parse(String(data)) as { id: number; result: unknown };
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  const call = (method: string) =>
    new Promise<unknown>((resolve) => {
      const id = next++;
      waiting.set(id, resolve);
      socket.send(JSON.stringify({ id, method }));
    });
  return {
    async collectGarbage() {
      await call("HeapProfiler.collectGarbage");
      const { usedSize } = (await call("Runtime.getHeapUsage")) as { usedSize: number };
      return usedSize;
    },
    close: () => socket.close(),
  };
}
