/**
 * Running a compiled program: once, or again and again over the same memory.
 *
 * A run hands ONNX Runtime arrays of names and of OrtValues. A binding keeps these arrays, so that `runSync` is one
 * native call. An asynchronous run takes place on one of libuv's worker threads (four by default, so more runs than
 * that wait for one another) and marks what it uses until it ends.
 */
import { RuntimeError } from "../../util/error.ts";
import { dtypeOfOnnx } from "../dtype.ts";
import type { Binding, DeviceTensor, Port, Program, ProgramPages } from "../runtime.ts";
import { addressOf, type CArray, copyNative, outSlot, pointers } from "./native-memory.ts";
import { knownShape, type Sizes, tensorsOf } from "./ports.ts";
import type { Session } from "./session.ts";
import { check, errorOf } from "./status.ts";
import { allocateTensor, type Ledger, type NativeTensor } from "./tensor.ts";

export class NativeProgram implements Program {
  readonly name: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly pages: ProgramPages | undefined;
  readonly ledger: Ledger;
  readonly session: Session;
  readonly #programs: Set<NativeProgram>;
  #disposed = false;
  /** Asynchronous runs that have not ended. */
  runs = 0;

  constructor(ledger: Ledger, programs: Set<NativeProgram>, session: Session) {
    this.ledger = ledger;
    this.session = session;
    this.name = session.name;
    this.inputs = session.inputs;
    this.outputs = session.outputs;
    this.pages = session.pages;
    this.#programs = programs;
    programs.add(this);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  bind(inputs: Readonly<Record<string, DeviceTensor>>, outputs: Readonly<Record<string, DeviceTensor>>): NativeBinding {
    this.assertAlive("bind");
    const sizes: Sizes = new Map();
    const { name: program, ledger } = this;
    const given = tensorsOf({ program, kind: "input", ledger, sizes }, this.inputs, inputs, false);
    const taken = tensorsOf({ program, kind: "output", ledger, sizes }, this.outputs, outputs, false);
    return new NativeBinding(this, given as NativeTensor[], taken as NativeTensor[]);
  }

  async run(
    inputs: Readonly<Record<string, DeviceTensor>>,
    outputs: Readonly<Record<string, DeviceTensor>> = {},
  ): Promise<Record<string, DeviceTensor>> {
    this.assertAlive("run");
    const sizes: Sizes = new Map();
    const { name: program, ledger } = this;
    const given = tensorsOf({ program, kind: "input", ledger, sizes }, this.inputs, inputs, false) as NativeTensor[];
    const taken = tensorsOf({ program, kind: "output", ledger, sizes }, this.outputs, outputs, true);
    const made: NativeTensor[] = [];
    let values: CArray;
    try {
      this.outputs.forEach((port, index) => {
        const shape = taken[index] === undefined ? knownShape(port, sizes) : undefined;
        if (shape === undefined) return;
        const tensor = allocateTensor(ledger, port.dtype, shape);
        made.push(tensor);
        taken[index] = tensor;
      });
      values = pointers(taken.map((tensor) => tensor?.value ?? 0));
      const present = taken.filter((tensor) => tensor !== undefined);
      await runAsync(this, pointers(given.map((tensor) => tensor.value)), values, [...given, ...present]);
    } catch (error) {
      for (const tensor of made) tensor.dispose();
      throw error;
    }
    // The rest was allocated by ONNX Runtime: copied once into memory that we can free while views of it exist.
    const found = new BigUint64Array(values.keep[0]!, 0, taken.length);
    const results: Record<string, DeviceTensor> = {};
    try {
      this.outputs.forEach((port, index) => {
        let tensor = taken[index];
        if (tensor === undefined) {
          tensor = copyValue(ledger, Number(found[index]), this.name);
          made.push(tensor);
        }
        results[port.name] = tensor;
      });
    } catch (error) {
      for (const tensor of made) tensor.dispose();
      throw error;
    } finally {
      this.outputs.forEach((_, index) => {
        if (taken[index] === undefined) ledger.api.ReleaseValue(Number(found[index]));
      });
    }
    return results;
  }

  dispose(): void {
    this.assertAlive("dispose");
    if (this.runs > 0) {
      throw new RuntimeError("CPM_RUNTIME_IN_USE", "A program cannot be disposed while it runs.", {
        where: `program "${this.name}"`,
        hint: "Await the run first.",
      });
    }
    this.#disposed = true;
    this.#programs.delete(this);
    this.session.release();
  }

  [Symbol.dispose](): void {
    if (!this.#disposed) this.dispose();
  }

  assertAlive(action: string): void {
    if (!this.#disposed) return;
    throw new RuntimeError("CPM_RUNTIME_DISPOSED", `A program was used after it was disposed (${action}).`, {
      where: `program "${this.name}"`,
    });
  }
}

export class NativeBinding implements Binding {
  readonly #program: NativeProgram;
  readonly #tensors: readonly NativeTensor[];
  readonly #inputs: CArray;
  readonly #outputs: CArray;
  readonly #runNow: () => number;
  #state: "idle" | "running" | "disposed" = "idle";

  constructor(program: NativeProgram, inputs: readonly NativeTensor[], outputs: readonly NativeTensor[]) {
    this.#program = program;
    this.#tensors = [...new Set([...inputs, ...outputs])];
    this.#inputs = pointers(inputs.map((tensor) => tensor.value));
    this.#outputs = pointers(outputs.map((tensor) => tensor.value));
    const { pointer, inputNames, outputNames } = program.session;
    const { Run } = program.ledger.api;
    const given = this.#inputs.address;
    const taken = this.#outputs.address;
    this.#runNow = () =>
      Run(pointer, 0, inputNames.address, given, inputs.length, outputNames.address, outputs.length, taken);
  }

  async run(): Promise<void> {
    this.#assertReady();
    this.#state = "running";
    try {
      await runAsync(this.#program, this.#inputs, this.#outputs, this.#tensors);
    } finally {
      this.#state = "idle";
    }
  }

  runSync(): void {
    this.#assertReady();
    const status = this.#runNow();
    if (status !== 0) throw errorOf(this.#program.ledger.api, status, failedRun(this.#program.name));
  }

  dispose(): void {
    if (this.#state !== "idle") this.#refuse("dispose");
    this.#state = "disposed";
  }

  #assertReady(): void {
    if (this.#state !== "idle") this.#refuse("run");
    this.#program.assertAlive("run");
    for (const tensor of this.#tensors) tensor.assertAlive("run of a binding");
  }

  #refuse(action: string): never {
    const where = `program "${this.#program.name}"`;
    if (this.#state === "disposed") {
      throw new RuntimeError("CPM_RUNTIME_DISPOSED", `A binding was used after it was disposed (${action}).`, {
        where,
      });
    }
    throw new RuntimeError("CPM_RUNTIME_IN_USE", "This binding is still running.", {
      where,
      hint: "Await the run first; to run a program several times at once, bind it several times.",
    });
  }
}

function failedRun(program: string) {
  return { code: "CPM_RUNTIME_RUN", what: "A program failed while it ran.", program } as const;
}

/** Runs on a worker thread. The program and the tensors count the run until it has ended. */
function runAsync(
  program: NativeProgram,
  inputs: CArray,
  outputs: CArray,
  tensors: readonly NativeTensor[],
): Promise<void> {
  const { api } = program.ledger;
  const { session } = program;
  return new Promise((resolve, reject) => {
    const count = (by: 1 | -1) => {
      program.runs += by;
      for (const tensor of tensors) tensor.runs += by;
    };
    // The closure keeps the C arrays alive until the call has ended.
    const done = (error: unknown, status: number) => {
      count(-1);
      void inputs.keep;
      void outputs.keep;
      if (error !== null && error !== undefined) reject(error);
      else if (status !== 0) reject(errorOf(api, status, failedRun(program.name)));
      else resolve();
    };
    count(1);
    try {
      api.Run.async(
        session.pointer,
        0,
        session.inputNames.address,
        inputs.address,
        program.inputs.length,
        session.outputNames.address,
        program.outputs.length,
        outputs.address,
        done,
      );
    } catch (error) {
      count(-1);
      reject(tooManyRuns(error, program.name));
    }
  });
}

/** koffi refuses a call when its queue is full. */
function tooManyRuns(cause: unknown, program: string): RuntimeError {
  return new RuntimeError("CPM_RUNTIME_BUSY", "Too many runs wait at the same time.", {
    where: `program "${program}"`,
    got: cause instanceof Error ? cause.message : String(cause),
    hint: "Await runs before starting more.",
    cause,
  });
}

/** A tensor of our own with a copy of an OrtValue's elements. */
function copyValue(ledger: Ledger, value: number, program: string): NativeTensor {
  const { api } = ledger;
  const out = outSlot();
  const must = (status: number) =>
    check(api, status, { code: "CPM_RUNTIME_RUN", what: "An output cannot be read.", program });
  must(api.GetTensorTypeAndShape(value, out.address));
  const info = out.read();
  let dtypeNumber: number;
  let shape: number[];
  try {
    must(api.GetTensorElementType(info, out.address));
    dtypeNumber = out.read() & 0xffff; // the C enum is 32 bits wide; the slot's upper half is left over
    must(api.GetDimensionsCount(info, out.address));
    const rank = out.read();
    const sizes = new BigInt64Array(new ArrayBuffer(Math.max(8, rank * 8)), 0, rank);
    must(api.GetDimensions(info, addressOf(sizes.buffer), rank));
    shape = Array.from(sizes, Number);
  } finally {
    api.ReleaseTensorTypeAndShapeInfo(info);
  }
  const dtype = dtypeOfOnnx(dtypeNumber);
  if (dtype === undefined) {
    throw new RuntimeError("CPM_RUNTIME_RUN", "An output has a dtype that the runtime does not know.", {
      where: `program "${program}"`,
      got: `ONNX type ${dtypeNumber}`,
    });
  }
  const tensor = allocateTensor(ledger, dtype, shape);
  if (tensor.byteLength > 0) {
    must(api.GetTensorMutableData(value, out.address));
    copyNative(tensor.memory.address, out.read(), tensor.byteLength);
  }
  return tensor;
}
