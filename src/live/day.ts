/**
 * Days of a run's record. The original's day ended at 16:00 in Beijing and was named for the date of its end; a day that
 * begins at midnight is the plain date. The zone is a fixed offset from UTC.
 */
import { ConfigError } from "../util/error.ts";

export interface DayRule {
  /** Of the local clock against UTC: 480 in Beijing. */
  readonly utcOffsetMinutes: number;
  /** Local time at which a day begins and ends, in minutes after midnight: 960 is 16:00. */
  readonly boundaryMinutes: number;
}

/** As CPM-Ant's logs had it: 16:00, Beijing time. */
export const beijingAfternoon: DayRule = { utcOffsetMinutes: 480, boundaryMinutes: 960 };

const minuteMs = 60_000;
const dayMs = 86_400_000;

/**
 * A rule out of "16:00+08:00" or "00:00Z".
 *
 * @throws ConfigError CPM_LOG_DAY
 */
export function parseDayRule(text: string): DayRule {
  const match = /^(\d{2}):(\d{2})(?:(Z)|([+-])(\d{2}):(\d{2}))$/.exec(text);
  const [, hour, minute, , sign, offsetHour = "0", offsetMinute = "0"] = match ?? [];
  const boundaryMinutes = Number(hour) * 60 + Number(minute);
  const offset = Number(offsetHour) * 60 + Number(offsetMinute);
  if (match === null || boundaryMinutes >= 1440 || Number(minute) > 59 || Number(offsetMinute) > 59 || offset > 840) {
    throw new ConfigError("CPM_LOG_DAY", "The time at which a day ends is not as it must be", {
      got: text,
      expected: "a time with its offset from UTC, as 16:00+08:00 or 00:00Z",
    });
  }
  return { boundaryMinutes, utcOffsetMinutes: sign === "-" ? -offset : offset };
}

/** "16:00+08:00" of a rule. */
export function formatDayRule({ boundaryMinutes, utcOffsetMinutes }: DayRule): string {
  const clock = (minutes: number) =>
    `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
  return `${clock(boundaryMinutes)}${utcOffsetMinutes < 0 ? "-" : "+"}${clock(Math.abs(utcOffsetMinutes))}`;
}

/** The name of the day that a moment belongs to: YYYY-MM-DD. The boundary itself ends a day: it belongs to the day before. */
export function dayOf(atMs: number, rule: DayRule): string {
  const sinceBoundary = atMs - 1 + (rule.utcOffsetMinutes - rule.boundaryMinutes) * minuteMs;
  return new Date(sinceBoundary + (rule.boundaryMinutes > 0 ? dayMs : 0)).toISOString().slice(0, 10);
}

/** When the day of a moment ends. */
export function dayEnd(atMs: number, rule: DayRule): number {
  const shift = (rule.utcOffsetMinutes - rule.boundaryMinutes) * minuteMs;
  return Math.ceil((atMs + shift) / dayMs) * dayMs - shift;
}

/** When a day of this name ends. */
export function endOfDay(day: string, rule: DayRule): number {
  const midnight = Date.parse(`${day}T00:00:00Z`) - rule.utcOffsetMinutes * minuteMs;
  return midnight + (rule.boundaryMinutes > 0 ? rule.boundaryMinutes * minuteMs : dayMs);
}
