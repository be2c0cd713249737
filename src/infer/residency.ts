/**
 * Which layers of a model stay in memory and which are read when their turn comes, under a limit.
 *
 * As BMInf does it: as many layers as fit beside two buffers stay, evenly spread, so that while some compute the next one
 * that does not stay is read ahead. Here layers may be of unequal size (pruned models), and a buffer is the pages of a
 * layer's mapped programs: asked for one such layer ahead, let go behind it.
 */
import type { Binding, DeviceTensor, Program, ProgramPages } from "../runtime/runtime.ts";
import { ConfigError } from "../util/error.ts";

export interface ResidencyPlan {
  /** By layer: whether it stays. */
  readonly resident: readonly boolean[];
  /** Bytes that all layers take at once, buffers included. */
  readonly peakBytes: number;
  /** Bytes that each pass over the model reads again. */
  readonly streamedBytes: number;
}

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20).toLocaleString("en")} MiB`;

/**
 * The plan that keeps most layers within `availableBytes`.
 *
 * @throws ConfigError `CPM_INFER_MEMORY` where not even two buffers fit
 */
export function planResidency(layerBytes: readonly number[], availableBytes: number): ResidencyPlan {
  const count = layerBytes.length;
  for (let kept = count; kept >= 0; kept--) {
    const resident = layerBytes.map((_, i) => Math.floor(((i + 1) * kept) / count) > Math.floor((i * kept) / count));
    const sum = (chosen: boolean) =>
      layerBytes.reduce((all, bytes, i) => all + (resident[i] === chosen ? bytes : 0), 0);
    const largest = Math.max(0, ...layerBytes.filter((_, i) => !resident[i]));
    const buffers = Math.min(2, count - kept) * largest;
    const peakBytes = sum(true) + buffers;
    if (peakBytes <= availableBytes) return { resident, peakBytes, streamedBytes: sum(false) };
  }
  const two = 2 * Math.max(...layerBytes);
  throw new ConfigError("CPM_INFER_MEMORY", "the memory limit leaves no room for two layers", {
    got: mebibytes(Math.max(0, availableBytes)),
    expected: `at least ${mebibytes(two)} beside keys, values and the rest`,
    hint: "Raise the limit, pack the weights into fewer bits (cpm quantize), or generate fewer tokens at once.",
  });
}

/** A layer's programs in the order in which they run, and the pages that they are mapped from. */
export interface StreamedLayer {
  readonly pages: readonly ProgramPages[];
}

/** The layers that do not stay, in a ring: the first is read ahead while the last computes. */
export function ringOf(layers: readonly StreamedLayer[]) {
  return {
    /** Before a layer runs: the next one is asked for. */
    enter(index: number): void {
      const next = layers[(index + 1) % layers.length]!;
      if (layers.length > 1) for (const pages of next.pages) pages.prefetch();
    },
    /** Behind a layer: it is let go, unless it is the only one. */
    leave(index: number): void {
      for (const pages of layers[index]!.pages) pages.evict();
    },
  };
}

/** A program that does something before and after each run. */
export function attended(program: Program, before: () => void, after: () => void): Program {
  const around = (binding: Binding): Binding => ({
    async run() {
      before();
      try {
        await binding.run();
      } finally {
        after();
      }
    },
    runSync() {
      before();
      try {
        binding.runSync();
      } finally {
        after();
      }
    },
    dispose: () => binding.dispose(),
  });
  return {
    name: program.name,
    inputs: program.inputs,
    outputs: program.outputs,
    pages: program.pages,
    get disposed() {
      return program.disposed;
    },
    bind: (inputs, outputs) => around(program.bind(inputs, outputs)),
    async run(inputs: Readonly<Record<string, DeviceTensor>>, outputs) {
      before();
      try {
        return await program.run(inputs, outputs);
      } finally {
        after();
      }
    },
    dispose: () => program.dispose(),
    [Symbol.dispose]: () => program.dispose(),
  };
}
