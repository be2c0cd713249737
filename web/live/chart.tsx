/** A line chart over shared columns: uPlot, with what is drawn thinned out to the width in pixels. */
import { useCallback, useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { decimate, upperBound } from "./columns.ts";
import { drawNever, drawSoon } from "./draw-queue.ts";
import { formatCount, formatDuration, formatNumber, formatTick, formatTime, type Language } from "./format.ts";
import { lineBackground } from "./line-styles.ts";
import { setQuery } from "./route.ts";
import { t } from "./settings.ts";
import { type XKind, xNames, type Zoom, zoomText } from "./view.ts";

export interface ChartSeries {
  readonly label: string;
  /** A CSS variable's name. */
  readonly color: string;
  readonly dash?: readonly number[];
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
  readonly length: number;
  readonly width?: number;
  readonly points?: boolean;
  readonly faint?: boolean;
}

export interface ChartMarker {
  readonly x: number;
  readonly color: string;
  readonly label: string;
}

export interface ChartProps {
  readonly title: string;
  readonly value?: string | undefined;
  readonly unit?: string | undefined;
  /** Of the axis, where it is another than the value's. */
  readonly axisUnit?: string | undefined;
  readonly series: readonly ChartSeries[];
  readonly markers?: readonly ChartMarker[];
  readonly log?: boolean;
  readonly xKind: XKind;
  /** What part of x all charts of the page show; undefined: all. A drag in any of them changes it, in the address. */
  readonly zoom: Zoom | undefined;
  /** What all there is of x goes over in the charts of the page. */
  readonly extent: Zoom | undefined;
  readonly language: Language;
  readonly theme: string;
  readonly height?: number;
}

const syncKey = "cpm-live";
/** Of the pointer only its place is shared: zooming goes through the address. */
const shared = (type: string) => type === "mousemove" || type === "mouseleave";
/** Between ticks of seconds: what people count time in. */
const durationSteps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200].concat(
  [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((days) => days * 86_400),
);
/** Between two drawings of a chart out of sight. */
const outOfSightMs = 3000;

/** What uPlot draws at a range of x: every series thinned out, on one common axis. */
function aligned(
  series: readonly ChartSeries[],
  range: readonly [number, number] | undefined,
  buckets: number,
): uPlot.AlignedData {
  if (series.length === 0) return [[]];
  const tables = series.map(({ x, y, length }): uPlot.AlignedData => {
    const from = range ? Math.max(0, upperBound(x, length, range[0]) - 2) : 0;
    const to = range ? Math.min(length, upperBound(x, length, range[1]) + 1) : length;
    const thin = decimate(x, y, from, to, buckets);
    return [thin.x, thin.y];
  });
  if (tables.length === 1) return tables[0]!;
  return uPlot.join(
    tables,
    tables.map(() => [0, 1]),
  );
}

export function Chart(props: ChartProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const latest = useRef(props);
  /** On the screen, or nearly: others are drawn when they come into sight, and now and then for print. */
  const inSight = useRef(false);
  const later = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const drawnAt = useRef(Number.NEGATIVE_INFINITY);
  latest.current = props;

  const draw = useCallback(() => {
    const instance = plot.current;
    if (instance === undefined) return;
    if (!inSight.current && drawnAt.current + outOfSightMs > performance.now()) {
      later.current ??= setTimeout(() => {
        later.current = undefined;
        drawSoon(draw);
      }, outOfSightMs);
      return;
    }
    clearTimeout(later.current);
    later.current = undefined;
    drawnAt.current = performance.now();
    const { series, zoom, extent } = latest.current;
    const range = zoom ?? (extent !== undefined && extent[1] > extent[0] ? extent : undefined);
    const data = aligned(series, zoom, Math.max(100, Math.floor(instance.bbox.width / devicePixelRatio)));
    // As a batch: drawn at once, so that the queue sees how long it takes.
    instance.batch(() => {
      instance.setData(data, range === undefined);
      if (range) instance.setScale("x", { min: range[0], max: range[1] });
    });
  }, []);

  const shape = `${props.series.map(({ label, color, dash = [] }) => `${label}${color}${dash}`).join("|")}|${props.log}|${props.xKind}|${props.language}|${props.theme}`;
  useEffect(() => {
    const element = host.current!;
    const { fontFamily } = getComputedStyle(element);
    // As the theme has it: a property itself may be an expression that a canvas does not know.
    const color = (name: string) => {
      element.style.color = `var(${name})`;
      return getComputedStyle(element).color;
    };
    const { xKind, language } = latest.current;
    const grid = { stroke: color("--line"), width: 1 };
    const axis = { stroke: color("--muted"), grid, ticks: { show: false }, font: `12px ${fontFamily}`, gap: 6 };
    const formatX = (value: number) =>
      xKind === "time"
        ? formatTime(value, language)
        : xKind === "elapsed"
          ? formatDuration(value, language)
          : formatCount(value, language);
    const instance = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: latest.current.height ?? 220,
        padding: [8, 22, 0, 0],
        cursor: {
          sync: { key: syncKey, filters: { pub: shared, sub: shared } },
          drag: { x: true, y: false, setScale: false },
          focus: { prox: 24 },
        },
        focus: { alpha: 0.3 },
        legend: {
          show: latest.current.series.length > 1,
          live: true,
          markers: {
            width: 0,
            fill: (_, i) => {
              const { color: name = "--fg", dash } = latest.current.series[i - 1] ?? {};
              return lineBackground(color(name), dash);
            },
          },
        },
        scales: { x: { time: xKind === "time" }, y: { distr: latest.current.log ? 3 : 1 } },
        axes: [
          {
            ...axis,
            size: 28,
            ...(xKind === "time" ? {} : { values: (_, ticks) => ticks.map(formatX) }),
            ...(xKind === "elapsed" && { incrs: durationSteps, space: 80 }),
          },
          {
            ...axis,
            size: 56,
            values: (_, ticks, _axis, _space, step) =>
              ticks.map((tick) =>
                tick === null ? "" : formatTick(tick, latest.current.log ? Number.NaN : step, language),
              ),
          },
        ],
        series: [
          { label: t(xNames[xKind]), value: (_, value) => (value === null ? "–" : formatX(value)) },
          ...latest.current.series.map(
            (each): uPlot.Series => ({
              label: each.label,
              stroke: color(each.color),
              width: each.width ?? 1.5,
              alpha: each.faint ? 0.35 : 1,
              dash: [...(each.dash ?? [])],
              spanGaps: true,
              points: { show: each.points ?? false, size: 5, fill: color(each.color) },
              value: (_, value) => (value === null ? "–" : formatNumber(value)),
            }),
          ),
        ],
        hooks: {
          setSelect: [
            (u) => {
              const { left, width } = u.select;
              if (width < 4) return;
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              setQuery({ zoom: zoomText([u.posToVal(left, "x"), u.posToVal(left + width, "x")]) });
            },
          ],
          drawClear: [
            (u) => {
              const { ctx } = u;
              for (const marker of latest.current.markers ?? []) {
                const left = u.valToPos(marker.x, "x", true);
                if (left < u.bbox.left || left > u.bbox.left + u.bbox.width) continue;
                ctx.save();
                ctx.strokeStyle = color(marker.color);
                ctx.setLineDash([3, 4]);
                ctx.lineWidth = devicePixelRatio;
                ctx.beginPath();
                ctx.moveTo(left, u.bbox.top);
                ctx.lineTo(left, u.bbox.top + u.bbox.height);
                ctx.stroke();
                ctx.restore();
              }
            },
          ],
        },
      },
      [[], ...latest.current.series.map(() => [])] as unknown as uPlot.AlignedData,
      element,
    );
    plot.current = instance;
    instance.over.addEventListener("dblclick", () => setQuery({ zoom: undefined }));
    element.style.color = "";
    drawSoon(draw);
    const resize = new ResizeObserver(() => {
      const width = Math.max(200, element.clientWidth);
      if (width === instance.width) return;
      instance.setSize({ width, height: latest.current.height ?? 220 });
      drawSoon(draw);
    });
    resize.observe(element);
    const sight = new IntersectionObserver(
      (entries) => {
        inSight.current = entries.at(-1)!.isIntersecting;
        if (inSight.current && later.current !== undefined) drawSoon(draw);
      },
      { rootMargin: "200px" },
    );
    sight.observe(element);
    return () => {
      resize.disconnect();
      sight.disconnect();
      drawNever(draw);
      clearTimeout(later.current);
      later.current = undefined;
      instance.destroy();
      plot.current = undefined;
    };
  }, [shape]);

  useEffect(() => {
    drawSoon(draw);
  }, [props.series, props.markers, props.zoom?.[0], props.zoom?.[1]]);

  return (
    <figure class="chart" aria-label={props.title}>
      <figcaption>
        <span class="chart-title">
          {props.title}
          {props.axisUnit && <small> {props.axisUnit}</small>}
        </span>
        <span class="chart-value">
          {props.value}
          {props.unit && <small> {props.unit}</small>}
        </span>
      </figcaption>
      <div ref={host} class="plot" />
    </figure>
  );
}
