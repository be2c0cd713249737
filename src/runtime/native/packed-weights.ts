/**
 * Packed constants shared between programs.
 *
 * A GEMM kernel copies a constant matrix into its own layout when it is compiled. Programs that are given the same
 * constants (a prefill and a decoding step, say) keep one such copy in a container of ONNX Runtime's, which
 * recognises equal packed bytes. A container frees nothing before its own end, so each lives only as long as the programs
 * around one tensor: those whose largest constant it is.
 */
import { outSlot } from "./native-memory.ts";
import { check } from "./status.ts";
import type { Ledger, Memory, NativeTensor } from "./tensor.ts";

export interface PackedWeights {
  /** OrtPrepackedWeightsContainer. */
  readonly pointer: number;
  /** Call once, after the session that used it was released. */
  release(): void;
}

interface Container {
  readonly pointer: number;
  users: number;
}

const containers = new WeakMap<Memory, Map<number, Container>>();

/** The container of programs with these constants; undefined if there are none. */
export function acquirePackedWeights(ledger: Ledger, constants: Iterable<NativeTensor>): PackedWeights | undefined {
  let largest: NativeTensor | undefined;
  for (const tensor of constants) {
    if (largest === undefined || tensor.byteLength > largest.byteLength) largest = tensor;
  }
  if (largest === undefined) return undefined;
  const { memory, byteOffset } = largest;
  let inMemory = containers.get(memory);
  if (inMemory === undefined) {
    inMemory = new Map();
    containers.set(memory, inMemory);
  }
  const container = inMemory.get(byteOffset) ?? createContainer(ledger);
  inMemory.set(byteOffset, container);
  container.users++;
  return {
    pointer: container.pointer,
    release: () => {
      if (--container.users > 0) return;
      inMemory.delete(byteOffset);
      ledger.api.ReleasePrepackedWeightsContainer(container.pointer);
    },
  };
}

function createContainer({ api }: Ledger): Container {
  const out = outSlot();
  check(api, api.CreatePrepackedWeightsContainer(out.address), {
    code: "CPM_RUNTIME_COMPILE",
    what: "Packed weights cannot be shared.",
  });
  return { pointer: out.read(), users: 0 };
}
