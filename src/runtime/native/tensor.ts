/**
 * Tensors over host memory: who owns it, who still uses it, when it is freed.
 *
 * A `Memory` is counted by the tensors over it and freed with the last. A tensor is counted by what uses it (runs
 * that have not ended, programs whose constant it is) and cannot be disposed before them.
 */
import { RuntimeError, ShapeError, UnsupportedError } from "../../util/error.ts";
import { byteLength, type DType, elementCount, type HostArray, hostArray, newHostArray, onnxDType } from "../dtype.ts";
import type { DeviceTensor } from "../runtime.ts";
import type { Api } from "./api.ts";
import type { Environment } from "./environment.ts";
import { addressOf, allocateHost, copyNative, outSlot, pointers } from "./native-memory.ts";
import { check } from "./status.ts";

/** Memory that tensors lie in. */
export interface Memory {
  readonly address: number;
  readonly byteLength: number;
  /** The memory as the host sees it; absent for mapped files, whose views could not be ended. */
  readonly host?: { readonly buffer: ArrayBuffer; readonly byteOffset: number };
  /** Pages of a file: the CPU refuses to write there. */
  readonly readOnly: boolean;
  free(): void;
  tensors: number;
}

/** What all tensors of a runtime share: the C API and the accounts. */
export interface Ledger {
  readonly api: Api;
  readonly environment: Environment;
  readonly tensors: Set<NativeTensor>;
  tensorBytes: number;
  peakTensorBytes: number;
}

const out = outSlot();

export class NativeTensor implements DeviceTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly memory: Memory;
  readonly byteOffset: number;
  /** OrtValue; 0 after dispose. */
  value: number;
  /** Names of the programs that have it as a constant. */
  readonly constantOf: string[] = [];
  /** Asynchronous runs that have not ended. */
  runs = 0;
  readonly ledger: Ledger;

  constructor(ledger: Ledger, memory: Memory, byteOffset: number, dtype: DType, shape: readonly number[]) {
    this.ledger = ledger;
    this.memory = memory;
    this.byteOffset = byteOffset;
    this.dtype = dtype;
    this.shape = Object.freeze([...shape]);
    this.byteLength = byteLength(dtype, shape);
    const { api, environment } = ledger;
    const sizes = pointers(shape);
    const status = api.CreateTensorWithDataAsOrtValue(
      environment.hostMemory,
      memory.address + byteOffset,
      this.byteLength,
      sizes.address,
      shape.length,
      onnxDType(dtype),
      out.address,
    );
    check(api, status, { code: "CPM_RUNTIME_TENSOR", what: `A tensor ${describe(this)} cannot be made.` });
    this.value = out.read();
    if (memory.tensors++ === 0) {
      ledger.tensorBytes += memory.byteLength;
      ledger.peakTensorBytes = Math.max(ledger.peakTensorBytes, ledger.tensorBytes);
    }
    ledger.tensors.add(this);
  }

  get disposed(): boolean {
    return this.value === 0;
  }

  view(): HostArray {
    this.assertAlive("view");
    const { host } = this.memory;
    if (host === undefined) {
      throw new UnsupportedError("CPM_RUNTIME_UNSUPPORTED", "A tensor over a mapped file has no view.", {
        got: describe(this),
        hint: "Use download(), which copies.",
      });
    }
    return hostArray(this.dtype, host.buffer, host.byteOffset + this.byteOffset, this.byteLength);
  }

  alias(shape: readonly number[], byteOffset = 0, dtype: DType = this.dtype): NativeTensor {
    this.assertAlive("alias");
    checkShape(dtype, shape);
    const bytes = byteLength(dtype, shape);
    if (!Number.isInteger(byteOffset) || byteOffset < 0 || byteOffset + bytes > this.byteLength) {
      throw new ShapeError("CPM_RUNTIME_ALIAS", "An alias reaches outside of its tensor.", {
        got: `bytes ${byteOffset} to ${byteOffset + bytes} for ${dtype}[${shape.join(", ")}]`,
        expected: `within the ${this.byteLength} bytes of ${describe(this)}`,
      });
    }
    const start = this.byteOffset + byteOffset;
    const width = elementBytes(dtype);
    if ((this.memory.address + start) % width !== 0) {
      throw new ShapeError("CPM_RUNTIME_ALIAS", "An alias must begin at an element.", {
        got: `byte offset ${byteOffset}`,
        expected: `a multiple of ${width} for ${dtype}`,
      });
    }
    return new NativeTensor(this.ledger, this.memory, start, dtype, shape);
  }

  dispose(): void {
    this.#assertNotDisposed("dispose");
    if (this.runs > 0) {
      throw new RuntimeError("CPM_RUNTIME_IN_USE", "A tensor cannot be disposed while a run uses it.", {
        got: describe(this),
        hint: "Await the run first.",
      });
    }
    if (this.constantOf.length > 0) {
      throw new RuntimeError("CPM_RUNTIME_IN_USE", "A tensor cannot be disposed while it is a program's constant.", {
        where: `program "${this.constantOf[0]}"`,
        got: describe(this),
        hint: "Dispose the program first.",
      });
    }
    const { api, tensors } = this.ledger;
    tensors.delete(this);
    api.ReleaseValue(this.value);
    this.value = 0;
    if (--this.memory.tensors === 0) {
      this.ledger.tensorBytes -= this.memory.byteLength;
      this.memory.free();
    }
  }

  [Symbol.dispose](): void {
    if (!this.disposed) this.dispose();
  }

  /** The bytes: the memory itself where the host sees it, else a copy. */
  bytes(): Uint8Array {
    const { host } = this.memory;
    if (host !== undefined) return new Uint8Array(host.buffer, host.byteOffset + this.byteOffset, this.byteLength);
    const copy = this.copy();
    return new Uint8Array(copy.buffer, copy.byteOffset, copy.byteLength);
  }

  /** The elements in memory that is independent of this tensor. */
  copy(): HostArray {
    this.assertAlive("copy");
    const target = newHostArray(this.dtype, this.shape);
    if (this.byteLength > 0) {
      copyNative(addressOf(target.buffer as ArrayBuffer), this.memory.address + this.byteOffset, this.byteLength);
    }
    return target;
  }

  /** Throws where the tensor, or the memory under it, is gone. */
  assertAlive(action: string): void {
    this.#assertNotDisposed(action);
    if (!this.memory.host?.buffer.detached) return;
    throw new RuntimeError("CPM_RUNTIME_DETACHED", `A tensor's memory was transferred away (${action}).`, {
      got: describe(this),
      hint: "Copy a view before it is given to postMessage or structuredClone with a transfer list.",
    });
  }

  #assertNotDisposed(action: string): void {
    if (this.value !== 0) return;
    throw new RuntimeError("CPM_RUNTIME_DISPOSED", `A tensor was used after it was disposed (${action}).`, {
      got: describe(this),
    });
  }
}

/** A new tensor over zeroed memory of its own. */
export function allocateTensor(ledger: Ledger, dtype: DType, shape: readonly number[]): NativeTensor {
  checkShape(dtype, shape);
  const bytes = byteLength(dtype, shape);
  let block: ReturnType<typeof allocateHost>;
  try {
    block = allocateHost(bytes);
  } catch (cause) {
    throw new RuntimeError("CPM_RUNTIME_MEMORY", "There is not enough memory for a tensor.", {
      got: `${dtype}[${shape.join(", ")}], ${bytes} bytes`,
      hint: "Use a smaller batch or model, or dispose tensors that are no longer needed.",
      cause,
    });
  }
  const { buffer, byteOffset, address } = block;
  const memory: Memory = {
    address,
    byteLength: bytes,
    host: { buffer, byteOffset },
    readOnly: false,
    free: () => {
      if (!buffer.detached) buffer.transfer(0);
    },
    tensors: 0,
  };
  return new NativeTensor(ledger, memory, 0, dtype, shape);
}

/** Bytes that an element's address must be a multiple of; packed 4-bit elements begin at any byte. */
export function elementBytes(dtype: DType): number {
  return byteLength(dtype, [1]);
}

export function checkShape(dtype: DType, shape: readonly number[]): void {
  for (const size of shape) {
    if (!Number.isInteger(size) || size < 0) {
      throw new ShapeError("CPM_RUNTIME_SHAPE", "A shape has a size that is no whole number.", {
        got: `${dtype}[${shape.join(", ")}]`,
        expected: "sizes of 0 or more",
      });
    }
  }
  if (!Number.isSafeInteger(elementCount(shape) * 8)) {
    throw new ShapeError("CPM_RUNTIME_SHAPE", "A shape is too large.", { got: `${dtype}[${shape.join(", ")}]` });
  }
}

/** Such as `float32[2, 3]`. */
export function describe(tensor: { readonly dtype: string; readonly shape: readonly (number | string)[] }): string {
  return `${tensor.dtype}[${tensor.shape.join(", ")}]`;
}
