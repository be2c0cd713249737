/** Parameter dynamics: a heat map of one statistic, a row for each parameter, a column for each time it was taken. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatCount, formatNumber, type Language } from "./format.ts";
import type { ParameterPoint } from "./run-store.ts";
import { t } from "./settings.ts";
import type { TextKey } from "./text.ts";

const metrics = ["std", "gradStd", "mean", "min", "max"] as const;
type Metric = (typeof metrics)[number];
const metricNames = {
  std: "metricStd",
  gradStd: "metricGradStd",
  mean: "metricMean",
  min: "metricMin",
  max: "metricMax",
} as const satisfies Record<Metric, TextKey>;
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
    // A pixel for each value, then enlarged: thousands of columns cost what a picture costs.
    const picture = heatPicture(points, names, metric);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, 0, 0, element.width, element.height);
    for (let row = 1; row <= names.length; row++) {
      context.clearRect(0, (row * rowHeight - 1) * scale, element.width, scale);
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
              <option key={each} value={each}>
                {t(metricNames[each])}
              </option>
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
            ? `${names[hover.row]} · ${t("step")} ${formatCount(points[hover.column]!.step, language)} · ${t(metricNames[metric])} ${formatNumber(shown[metric])}`
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

/** Each row goes from its lowest value to its highest. */
function heatPicture(points: readonly ParameterPoint[], names: readonly string[], metric: Metric): HTMLCanvasElement {
  const picture = document.createElement("canvas");
  picture.width = points.length;
  picture.height = names.length;
  const context = picture.getContext("2d")!;
  const image = context.createImageData(picture.width, picture.height);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = palette();
  const values = new Float64Array(points.length);
  for (const [row, name] of names.entries()) {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const [column, point] of points.entries()) {
      const value = transform(point.values.get(name)?.[metric] ?? Number.NaN, metric);
      values[column] = value;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    for (const [column, value] of values.entries()) {
      if (!Number.isFinite(value)) continue;
      pixels[row * picture.width + column] =
        colours[high > low ? Math.round((255 * (value - low)) / (high - low)) : 128]!;
    }
  }
  context.putImageData(image, 0, 0);
  return picture;
}

/** 256 colours from dark blue over green to yellow, as pixels. */
function palette(): Uint32Array {
  const strip = document.createElement("canvas");
  strip.width = 256;
  strip.height = 1;
  const context = strip.getContext("2d", { willReadFrequently: true })!;
  for (let i = 0; i < 256; i++) {
    const share = i / 255;
    context.fillStyle = `oklch(${0.35 + 0.5 * share} 0.13 ${260 - 200 * share})`;
    context.fillRect(i, 0, 1, 1);
  }
  return new Uint32Array(context.getImageData(0, 0, 256, 1).data.buffer);
}

function short(name: string): string {
  return name
    .replace("encoder.layers.", "L")
    .replace(".self_att.self_attention.", ".")
    .replace(".self_att.", ".")
    .replace(".ffn.ffn.", ".ffn.")
    .replace(".weight", "");
}
