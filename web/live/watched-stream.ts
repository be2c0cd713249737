/** An EventSource whose silence is noticed: it may have died without telling. */
import { beatEvent, silenceMs } from "../../src/live/stream-beat.ts";

/** Between two looks; a page that was asleep looks when it wakes. */
const lookMs = 5000;

export interface WatchedStream {
  readonly source: EventSource;
  /** Something came. */
  onMessage(): void;
  close(): void;
}

/** Opens a stream; `onSilent` is called once where nothing has come for too long, the stream being closed then. */
export function openWatchedStream(address: string, onSilent: () => void): WatchedStream {
  const source = new EventSource(address);
  // The clock of the day: others may stand still while a machine sleeps.
  let heardMs = Date.now();
  const hear = () => {
    heardMs = Date.now();
  };
  const look = setInterval(() => {
    // While it connects, the browser itself waits and tries again.
    if (source.readyState !== EventSource.OPEN) return hear();
    if (Date.now() - heardMs < silenceMs) return;
    close();
    onSilent();
  }, lookMs);
  function close(): void {
    clearInterval(look);
    source.close();
  }
  source.addEventListener("open", hear);
  source.addEventListener(beatEvent, hear);
  return { source, onMessage: hear, close };
}
