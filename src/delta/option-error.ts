/** The error of options that are well-formed but that a place, a model or another option cannot go with. */
import { ConfigError } from "../util/error.ts";

export function optionError(method: string, got: string, expected: string): ConfigError {
  return new ConfigError("CPM_DELTA_OPTIONS", `${method} cannot have these options`, { where: method, got, expected });
}
