/**
 * The thread that writes checkpoints: files, checksums and flushing cost the training's own thread nothing. Tensors come in
 * shared memory, which the training leaves alone until the answer.
 */
import { parentPort, workerData } from "node:worker_threads";
import { CpmError } from "../util/error.ts";
import { type CheckpointContent, writeCheckpoint } from "./checkpoint.ts";

export interface WriteRequest {
  readonly folder: string;
  readonly content: CheckpointContent;
}

/** An error as it crosses threads: those of ours keep what a reader can act on. */
export interface SentError {
  readonly message: string;
  readonly ours?: Pick<CpmError, "name" | "code" | "what" | "where" | "got" | "expected" | "hint">;
}

export type WriteAnswer = { readonly path: string; readonly bytes: number } | { readonly error: SentError };

function sent(error: unknown): SentError {
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof CpmError)) return { message };
  const { name, code, what, where, got, expected, hint } = error;
  return { message, ours: { name, code, what, where, got, expected, hint } };
}

if (parentPort && (workerData as { checkpointWorker?: unknown } | null)?.checkpointWorker === true) {
  const port = parentPort;
  port.on("message", ({ folder, content }: WriteRequest) => {
    writeCheckpoint(folder, content).then(
      (written) => port.postMessage(written satisfies WriteAnswer),
      (error: unknown) => port.postMessage({ error: sent(error) } satisfies WriteAnswer),
    );
  });
}
