/**
 * A viewer of a run's event stream as a browser's EventSource is one: a message counts when it is whole, and after a lost or
 * refused connection the viewer comes back with the id of the last message. It can also read slowly, and leave.
 */
import { type ClientRequest, get, type IncomingMessage } from "node:http";

export interface EventViewer {
  /** The last message's id. */
  readonly position: number;
  /** Times the viewer left, and times that the connection was lost or refused. */
  readonly drops: number;
  readonly losses: number;
  /** Stops or goes on reading; the system's buffers fill up meanwhile. */
  pause(): void;
  resume(): void;
  /** Cuts the connection wherever it is and comes back at once. */
  drop(): void;
  close(): void;
}

/** `stream` is the stream's address without a question mark. Lines of one message come together. */
export function openEventViewer(
  stream: string,
  from: number,
  onLine: (line: string) => void,
  retryMs = 100,
): EventViewer {
  let position = from;
  let drops = 0;
  let losses = 0;
  let paused = false;
  let closed = false;
  let request: ClientRequest;
  let response: IncomingMessage | undefined;
  let retry: NodeJS.Timeout | undefined;

  const take = (message: string) => {
    const lines: string[] = [];
    let id = position;
    for (const line of message.split("\n")) {
      if (line.startsWith("id: ")) id = Number(line.slice(4));
      else if (line.startsWith("data: ")) lines.push(line.slice(6));
    }
    for (const line of lines) onLine(line);
    position = id;
  };

  function connect(): void {
    const own = get(`${stream}?from=${from}`, { headers: { "Last-Event-ID": String(position) }, agent: false });
    request = own;
    response = undefined;
    let rest = "";
    const lose = () => {
      if (own !== request || closed || retry !== undefined) return;
      losses++;
      retry = setTimeout(() => {
        retry = undefined;
        connect();
      }, retryMs);
    };
    own.on("response", (incoming) => {
      if (own !== request || closed) return void own.destroy();
      if (incoming.statusCode !== 200) {
        incoming.resume();
        return lose();
      }
      response = incoming;
      if (paused) incoming.pause();
      incoming.setEncoding("utf8").on("data", (chunk: string) => {
        if (own !== request || closed) return; // cut off: what is under way is as if it had never come
        const messages = (rest + chunk).split("\n\n");
        rest = messages.pop()!;
        for (const message of messages) take(message);
      });
      incoming.on("end", lose).on("error", lose).on("close", lose);
    });
    own.on("error", lose);
  }
  connect();
  return {
    get position() {
      return position;
    },
    get drops() {
      return drops;
    },
    get losses() {
      return losses;
    },
    pause() {
      paused = true;
      response?.pause();
    },
    resume() {
      paused = false;
      response?.resume();
    },
    drop() {
      if (closed) return;
      drops++;
      clearTimeout(retry);
      retry = undefined;
      const old = request;
      connect();
      old.destroy();
    },
    close() {
      closed = true;
      clearTimeout(retry);
      request.destroy();
    },
  };
}
