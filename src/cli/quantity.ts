/**
 * Quantities with units: reading "4GiB" and "3m" from a command line or a recipe, and writing bytes, durations, counts
 * and rates for people. Binary prefixes (KiB, MiB, GiB: 1,024) and decimal ones (kB, MB, GB: 1,000) are kept apart; a
 * bare "4G" is refused because it does not say which.
 */
import { z } from "zod";

const byteUnits: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 60e3, min: 60e3, h: 3600e3, d: 86_400e3 };

/** Bytes of "4GiB", "1.5 GB", "4096"; undefined where the text is no such quantity. */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*$/.exec(text);
  const unit = match === null ? undefined : byteUnits[match[2] === "" ? "B" : match[2]!];
  if (match === null || unit === undefined) return undefined;
  const bytes = Math.round(Number(match[1]) * unit);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Milliseconds of "90s", "3m", "1h30m", "250ms"; undefined where the text is no such quantity or a unit is missing. */
export function parseDuration(text: string): number | undefined {
  const compact = text.replaceAll(/\s+/g, "");
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|min|m|h|d))+$/.test(compact)) return undefined;
  let milliseconds = 0;
  for (const [, amount, unit] of compact.matchAll(/(\d+(?:\.\d+)?)(ms|s|min|m|h|d)/g)) {
    milliseconds += Number(amount) * durationUnits[unit!]!;
  }
  return Number.isSafeInteger(Math.round(milliseconds)) ? milliseconds : undefined;
}

/** A schema of bytes: a number of bytes, or text as "4GiB" or "4GB". The parsed value is a whole number of bytes. */
export function bytesSchema() {
  return z
    .union([z.number().int().nonnegative(), z.string()])
    .transform((value, context) => {
      const bytes = typeof value === "number" ? value : parseBytes(value);
      if (bytes !== undefined) return bytes;
      context.addIssue({ code: "custom", message: "4GiB · 4GB · 4096", params: { expected: "bytes" } });
      return z.NEVER;
    })
    .meta({ unit: "bytes" });
}

/** A schema of durations: text with units as "3m", "90s", "1h30m". The parsed value is in milliseconds. */
export function durationSchema() {
  return z
    .string()
    .transform((value, context) => {
      const milliseconds = parseDuration(value);
      if (milliseconds !== undefined) return milliseconds;
      context.addIssue({ code: "custom", message: "3m · 90s · 1h30m", params: { expected: "duration" } });
      return z.NEVER;
    })
    .meta({ unit: "duration" });
}

/** Three significant digits without an exponent: 0.123, 1.23, 12.3, 1,234. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const magnitude = Math.abs(value);
  if (Number.isInteger(value) || magnitude >= 1000) return formatInteger(Math.round(value));
  if (magnitude < 1e-3) return value.toExponential(2);
  return value.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : magnitude >= 1 ? 2 : 3);
}

/** Groups of three digits: 9,391,624,192. */
export function formatInteger(value: number | bigint): string {
  return value.toString().replaceAll(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** Bytes with binary prefixes: "3.25 GiB". Below 1 KiB as they are. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let index = 0;
  while (Math.abs(value) >= 1023.95 && index < units.length - 1) {
    value /= 1024;
    index++;
  }
  return index === 0 ? `${value} B` : `${value.toFixed(Math.abs(value) >= 99.95 ? 0 : 1)} ${units[index]}`;
}

/** Milliseconds as "850 ms", "12.3 s", "4m05s", "3h07m", "2d04h": the two largest units. */
export function formatDuration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds)) return "?";
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${(milliseconds / 1e3).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1e3);
  const two = (value: number) => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${two(seconds % 60)}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}h${two(minutes % 60)}m`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)}d${two(hours % 24)}h`;
}

/** A share as a percentage with two significant digits below one: "12.5%", "0.067%", "<0.01%". */
export function formatPercent(share: number): string {
  const percent = share * 100;
  if (percent > 0 && percent < 0.01) return "<0.01%";
  if (percent !== 0 && Math.abs(percent) < 1) return `${Number(percent.toPrecision(2))}%`;
  return `${Number(percent.toFixed(1))}%`;
}
