/** Going back in time inside the page: a slider over the run's steps, and playing them again at any speed. */
import { useEffect, useRef, useState } from "preact/hooks";
import { upperBound } from "./columns.ts";
import { formatTime, type Language } from "./format.ts";
import { setQuery } from "./route.ts";
import type { RunStore } from "./run-store.ts";
import { t } from "./settings.ts";

const speeds = [10, 60, 600, 3600, 36_000, 360_000, 3_600_000];

export interface ReplayProps {
  readonly store: RunStore;
  /** Steps shown; undefined: all there are, as they come. */
  readonly cursor: number | undefined;
  readonly onCursor: (cursor: number | undefined) => void;
  /** Factor on time; undefined: one that fits the run. */
  readonly speed: number | undefined;
  readonly language: Language;
}

export function Replay({ store, cursor, onCursor, speed, language }: ReplayProps) {
  const [playing, setPlaying] = useState(false);
  const times = store.columns.time.values;
  const span = store.length > 1 ? times[store.length - 1]! - times[0]! : 0;
  // About half a minute for the whole run.
  const fitting = speeds.findLast((each) => each <= Math.max(10, span / 15)) ?? speeds[0]!;
  const shownSpeed = speed ?? fitting;
  const offered = speeds.includes(shownSpeed) ? speeds : [...speeds, shownSpeed].toSorted((a, b) => a - b);
  const at = useRef(0);
  const position = useRef(cursor);
  position.current = cursor;

  useEffect(() => {
    if (!playing) return;
    let frame = 0;
    let last = performance.now();
    const start = position.current ?? 0;
    at.current = times[Math.min(start, store.length - 1)] ?? 0;
    if (position.current === undefined) onCursor(1);
    const advance = (now: number) => {
      at.current += ((now - last) / 1000) * shownSpeed;
      last = now;
      const next = upperBound(store.columns.time.values, store.length, at.current);
      if (next >= store.length) {
        setPlaying(false);
        onCursor(undefined);
        return;
      }
      if (next !== position.current) onCursor(Math.max(1, next));
      frame = requestAnimationFrame(advance);
    };
    frame = requestAnimationFrame(advance);
    return () => cancelAnimationFrame(frame);
  }, [playing, shownSpeed]);

  const shown = cursor ?? store.length;
  return (
    <fieldset class="replay" aria-label={t("replay")}>
      <button type="button" onClick={() => setPlaying(!playing)}>
        {playing ? t("pause") : t("play")}
      </button>
      <input
        type="range"
        min={1}
        max={Math.max(1, store.length)}
        value={shown}
        aria-label={t("replay")}
        aria-valuetext={formatTime(times[shown - 1] ?? Number.NaN, language)}
        onInput={(event) => {
          setPlaying(false);
          const value = Number(event.currentTarget.value);
          onCursor(value >= store.length ? undefined : value);
        }}
      />
      <label>
        {t("speed")}
        <select value={shownSpeed} onChange={(event) => setQuery({ speed: event.currentTarget.value })}>
          {offered.map((each) => (
            <option key={each} value={each}>
              {each.toLocaleString()} ×
            </option>
          ))}
        </select>
      </label>
      {cursor !== undefined && (
        <button
          type="button"
          onClick={() => {
            setPlaying(false);
            onCursor(undefined);
          }}
        >
          {t("toLive")}
        </button>
      )}
    </fieldset>
  );
}
