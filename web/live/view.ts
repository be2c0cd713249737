/**
 * Settings of a view as parameters of its address:
 *
 *     x       step, tokens, elapsed (seconds in training) or time
 *     smooth  weight of the running mean, 0 to 0.999
 *     log     1: values on a logarithmic scale
 *     zoom    FROM~TO in units of x
 *     at      step up to which a run is shown, while the reader goes back in time
 *     speed   of playing a run again, as a factor on time
 *     hide    runs of a comparison that are not drawn
 */
import type { TextKey } from "./text.ts";

export const xKinds = ["step", "tokens", "elapsed", "time"] as const;
export type XKind = (typeof xKinds)[number];
export const xNames = {
  step: "step",
  tokens: "tokens",
  elapsed: "elapsedAxis",
  time: "time",
} as const satisfies Record<XKind, TextKey>;
export type Zoom = readonly [from: number, to: number];

export interface View {
  readonly xKind: XKind;
  readonly smoothing: number;
  readonly log: boolean;
  readonly zoom: Zoom | undefined;
  readonly at: number | undefined;
  readonly speed: number | undefined;
}

export function viewOf(query: URLSearchParams, defaultSmoothing = 0.9): View {
  const smoothing = Number(query.get("smooth") ?? defaultSmoothing);
  const number = (key: string) => {
    const value = Number(query.get(key) ?? Number.NaN);
    return Number.isFinite(value) && value >= 0 ? value : undefined;
  };
  return {
    xKind: xKinds.find((kind) => kind === query.get("x")) ?? "step",
    smoothing: Number.isFinite(smoothing) ? Math.min(0.999, Math.max(0, smoothing)) : defaultSmoothing,
    log: query.get("log") === "1",
    zoom: parseZoom(query.get("zoom")),
    at: number("at"),
    speed: number("speed") || undefined,
  };
}

function parseZoom(text: string | null): Zoom | undefined {
  const [from, to, ...rest] = (text ?? "").split("~").map(Number);
  return rest.length === 0 && Number.isFinite(from) && Number.isFinite(to) && to! > from! ? [from!, to!] : undefined;
}

/** Short, and exact to a ten-thousandth of what is shown. */
export function zoomText(zoom: Zoom | undefined): string | undefined {
  if (zoom === undefined) return undefined;
  const [from, to] = zoom;
  const digits = Math.min(9, Math.max(0, Math.ceil(-Math.log10((to - from) / 1e4))));
  return `${Number(from.toFixed(digits))}~${Number(to.toFixed(digits))}`;
}
