/** Turns an OrtStatus into a RuntimeError that names the program and, where ONNX Runtime's message has it, the node. */
import { type ErrorCode, RuntimeError } from "../../util/error.ts";
import type { Api } from "./api.ts";

/** OrtErrorCode, in the header's order. */
const codeNames = [
  "OK",
  "FAIL",
  "INVALID_ARGUMENT",
  "NO_SUCHFILE",
  "NO_MODEL",
  "ENGINE_ERROR",
  "RUNTIME_EXCEPTION",
  "INVALID_PROTOBUF",
  "MODEL_LOADED",
  "NOT_IMPLEMENTED",
  "INVALID_GRAPH",
  "EP_FAIL",
  "MODEL_LOAD_CANCELED",
  "MODEL_REQUIRES_COMPILATION",
  "NOT_FOUND",
];

export interface FailedCall {
  readonly code: ErrorCode;
  /** One sentence: what could not be done. */
  readonly what: string;
  readonly program?: string | undefined;
  readonly hint?: string | undefined;
}

/** Throws if the status is not 0; releases it either way. */
export function check(api: Api, status: number, call: FailedCall): void {
  if (status !== 0) throw errorOf(api, status, call);
}

/** The error for a status that is not 0. Releases the status. */
export function errorOf(api: Api, status: number, call: FailedCall): RuntimeError {
  const number = api.GetErrorCode(status);
  const message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  const node = nodeOf(message);
  const places = [
    call.program === undefined ? undefined : `program "${call.program}"`,
    node === undefined ? undefined : `node ${node}`,
  ].filter((place) => place !== undefined);
  return new RuntimeError(call.code, call.what, {
    where: places.length === 0 ? undefined : places.join(", "),
    got: `${codeNames[number] ?? number}: ${message.trim()}`,
    hint: call.hint,
  });
}

/**
 * The node that a message speaks of: `"name" (Type)`. ONNX Runtime words this in several ways, one pattern each: while
 * running, while inferring shapes, while resolving the graph, while looking for kernels.
 */
export function nodeOf(message: string): string | undefined {
  const running = /running (?<type>\S+) node\. Name:'(?<name>[^']*)'/;
  const inferring = /Node \((?<name>[^)]*)\) Op \((?<type>[^)]*)\)/;
  const resolving = /In Node, \("(?<name>[^"]*)", (?<type>\w+),/;
  const implementing = /node with name '(?<name>[^']*)'/;
  for (const pattern of [running, inferring, resolving, implementing]) {
    const found = pattern.exec(message)?.groups;
    if (found !== undefined) return `"${found.name}"${found.type === undefined ? "" : ` (${found.type})`}`;
  }
  return undefined;
}
