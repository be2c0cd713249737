/** Parameter dynamics: a heat map of one statistic, a row for each parameter, a column for each time it was taken. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatCount, formatNumber, type Language } from "./format.ts";
import type { ParameterPoint } from "./run-store.ts";
import { t } from "./settings.ts";

const metrics = ["std", "gradStd", "mean", "min", "max"] as const;
type Metric = (typeof metrics)[number];
const rowHeight = 14;

export function Dynamics({
  points,
  language,
  theme,
}: {
  readonly points: readonly ParameterPoint[];
  readonly language: Language;
  readonly theme: string;
}) {
  const [metric, setMetric] = useState<Metric>("std");
  const [search, setSearch] = useState("");
  const [hover, setHover] = useState<{ row: number; column: number }>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const names = useMemo(() => {
    const all = [...(points.at(-1)?.values.keys() ?? [])];
    return all.filter((name) => name.toLowerCase().includes(search.toLowerCase()));
  }, [points.length, search]);

  useEffect(() => {
    const element = canvas.current;
    if (!element || names.length === 0) return;
    const width = Math.max(100, element.clientWidth);
    const scale = devicePixelRatio;
    element.width = width * scale;
    element.height = names.length * rowHeight * scale;
    const context = element.getContext("2d")!;
    context.scale(scale, scale);
    const cell = width / points.length;
    for (const [row, name] of names.entries()) {
      const values = points.map((point) => transform(point.values.get(name)?.[metric] ?? Number.NaN, metric));
      const finite = values.filter(Number.isFinite);
      const low = Math.min(...finite);
      const high = Math.max(...finite);
      for (const [column, value] of values.entries()) {
        if (!Number.isFinite(value)) continue;
        context.fillStyle = colour(high > low ? (value - low) / (high - low) : 0.5);
        context.fillRect(column * cell, row * rowHeight, Math.ceil(cell), rowHeight - 1);
      }
    }
  }, [points.length, names, metric, theme]);

  if (points.length === 0) return <p class="empty">{t("noDynamics")}</p>;
  const shown =
    hover && points[hover.column] && names[hover.row] ? points[hover.column]!.values.get(names[hover.row]!) : undefined;
  const onMove = (event: PointerEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * points.length);
    setHover({ row: Math.floor((event.clientY - box.top) / rowHeight), column });
  };
  return (
    <section class="card">
      <div class="controls">
        <label>
          {t("metric")}
          <select value={metric} onChange={(event) => setMetric(event.currentTarget.value as Metric)}>
            {metrics.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <input
          type="search"
          placeholder={t("search")}
          aria-label={t("search")}
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
        <span class="meta tabular">
          {shown && hover
            ? `${names[hover.row]} · ${t("step")} ${formatCount(points[hover.column]!.step, language)} · ${metric} ${formatNumber(shown[metric])}`
            : `${t("step")} ${formatCount(points[0]!.step, language)} – ${formatCount(points.at(-1)!.step, language)}`}
        </span>
      </div>
      <div class="heat">
        <ol aria-hidden="true">
          {names.map((name) => (
            <li key={name} title={name}>
              {short(name)}
            </li>
          ))}
        </ol>
        <canvas
          ref={canvas}
          style={{ height: `${names.length * rowHeight}px` }}
          onPointerMove={onMove}
          onPointerLeave={() => setHover(undefined)}
          role="img"
          aria-label={t("dynamics")}
        />
      </div>
    </section>
  );
}

/** Deviations span magnitudes. */
function transform(value: number, metric: Metric): number {
  return metric === "std" || metric === "gradStd" ? Math.log(Math.max(value, 1e-30)) : value;
}

/** Dark blue over green to yellow. */
function colour(share: number): string {
  const hue = 260 - 200 * share;
  return `oklch(${0.35 + 0.5 * share} 0.13 ${hue})`;
}

function short(name: string): string {
  return name
    .replace("encoder.layers.", "L")
    .replace(".self_att.self_attention.", ".")
    .replace(".self_att.", ".")
    .replace(".ffn.ffn.", ".ffn.")
    .replace(".weight", "");
}
