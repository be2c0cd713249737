/**
 * Server-sent events to one client. The headers go out with the first event, so that a refusal before it is an ordinary
 * answer with its status. A client that reads too slowly is buffered for up to a limit and then given up; one that reads
 * nothing for too long as well.
 */
import type { ServerResponse } from "node:http";

export interface EventWriter {
  /** Headers have been sent: a refusal must be an event now. */
  readonly begun: boolean;
  send(data: unknown): void;
  /** Ends the stream; with `done` after OpenAI's last event. */
  end(done: boolean): void;
}

export interface EventWriterOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly maxBufferedBytes?: number | undefined;
  readonly stallMs?: number | undefined;
  /** A client that waits longer than this for its first event gets the headers and a comment, and again each time. */
  readonly heartbeatMs?: number | undefined;
  readonly onSlow: () => void;
}

export function createEventWriter(outgoing: ServerResponse, options: EventWriterOptions): EventWriter {
  const { headers, maxBufferedBytes = 4 * 2 ** 20, stallMs = 120_000, heartbeatMs = 10_000, onSlow } = options;
  let begun = false;
  let ended = false;

  const giveUp = () => {
    onSlow();
    outgoing.destroy();
  };

  function begin(): void {
    begun = true;
    outgoing.writeHead(200, {
      ...headers,
      "Content-Type": "text/event-stream; charset=utf-8",
      "Cache-Control": "no-store",
      "X-Accel-Buffering": "no",
    });
    outgoing.setTimeout(stallMs, giveUp);
  }

  function write(text: string): void {
    if (ended || outgoing.destroyed) return;
    if (!begun) begin();
    outgoing.write(text);
    if (outgoing.writableLength > maxBufferedBytes) giveUp();
  }

  const heartbeat = setInterval(() => write(": \n\n"), heartbeatMs);
  outgoing.once("close", () => clearInterval(heartbeat));

  return {
    get begun() {
      return begun;
    },
    // JSON has no line breaks of its own, so one line is one event.
    send: (data) => write(`data: ${JSON.stringify(data)}\n\n`),
    end(done) {
      clearInterval(heartbeat);
      if (!begun) return;
      if (done) write("data: [DONE]\n\n");
      ended = true;
      outgoing.end();
    },
  };
}
