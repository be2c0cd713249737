/**
 * The batches of each update, the next ones prepared while the step under way computes.
 *
 * A source that is read ahead has a position beyond what was trained on. Here the position, tokens and epoch are those after
 * the batches that were handed out: a checkpoint holds them, and what was prepared is drawn again after a resume.
 */
import type { BatchSource, SourceBatch } from "../data/index.ts";
import type { UpdateShape } from "./ramp.ts";

export interface BatchFeed {
  /** The batches of an update, fewer where the source ends, none after it. */
  next(shape: UpdateShape): Promise<readonly SourceBatch[]>;
  /**
   * Begins to draw the batches that `next` will be asked for, and hands them to `use` when they are there. Of another shape
   * they are put back.
   */
  prepare(shape: UpdateShape, use?: (batches: readonly SourceBatch[]) => void): void;
  /** The source's position, text tokens and passes after the batches handed out. */
  state(): unknown;
  readonly tokens: number;
  readonly epoch: number;
  restore(state: unknown): Promise<void>;
  /** Settles when nothing is being drawn: the source may be disposed. */
  idle(): Promise<void>;
}

interface Position {
  readonly state: unknown;
  readonly tokens: number;
  readonly epoch: number;
}

interface Drawn {
  readonly batches: readonly SourceBatch[];
  readonly after: Position;
}

export function createBatchFeed(source: BatchSource): BatchFeed {
  const here = (): Position => ({ state: source.state(), tokens: source.tokens, epoch: source.epoch });
  let position = here();
  let ahead: { readonly shape: string; readonly drawn: Promise<Drawn> } | undefined;

  async function draw({ rows, columns, accumulate }: UpdateShape): Promise<Drawn> {
    const batches: SourceBatch[] = [];
    while (batches.length < accumulate) {
      const batch = await source.next({ rows, columns });
      if (batch === undefined) break;
      batches.push(batch);
    }
    return { batches, after: here() };
  }

  async function idle(): Promise<void> {
    await ahead?.drawn.catch(() => {});
  }

  return {
    async next(shape) {
      let drawn: Drawn;
      if (ahead?.shape === JSON.stringify(shape)) {
        const { drawn: prepared } = ahead;
        drawn = await prepared.finally(() => {
          ahead = undefined;
        });
      } else {
        if (ahead !== undefined) {
          await idle();
          ahead = undefined;
          await source.restore(position.state);
        }
        drawn = await draw(shape);
      }
      position = drawn.after;
      return drawn.batches;
    },
    prepare(shape, use = () => {}) {
      if (ahead !== undefined) return;
      const drawn = draw(shape).then((found) => {
        use(found.batches);
        return found;
      });
      drawn.catch(() => {}); // told where it is awaited
      ahead = { shape: JSON.stringify(shape), drawn };
    },
    state: () => position.state,
    get tokens() {
      return position.tokens;
    },
    get epoch() {
      return position.epoch;
    },
    async restore(state) {
      await idle();
      ahead = undefined;
      await source.restore(state);
      position = here();
    },
    idle,
  };
}
