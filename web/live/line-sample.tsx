/** A line as a legend shows it. */
import type { LineStyle } from "./line-styles.ts";

export function LineSample({ style: { color, dash } }: { readonly style: LineStyle }) {
  return (
    <svg class="line-sample" viewBox="0 0 28 8" width="28" height="8" aria-hidden="true">
      <line
        x1="1"
        y1="4"
        x2="27"
        y2="4"
        stroke={`var(${color})`}
        stroke-width="2.5"
        stroke-dasharray={dash.join(" ")}
      />
    </svg>
  );
}
