/** A line chart over shared columns: uPlot, with what is drawn thinned out to the width in pixels. */
import { useCallback, useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { decimate, upperBound } from "./columns.ts";
import { drawNever, drawSoon } from "./draw-queue.ts";
import { formatCount, formatNumber, formatTime, type Language } from "./format.ts";
import { t } from "./settings.ts";

export interface ChartSeries {
  readonly label: string;
  /** A CSS variable's name. */
  readonly color: string;
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
  readonly series: readonly ChartSeries[];
  readonly markers?: readonly ChartMarker[];
  readonly log?: boolean;
  readonly xKind: "step" | "tokens" | "time";
  readonly language: Language;
  readonly theme: string;
  readonly hint?: string;
  readonly height?: number;
}

const syncKey = "cpm-live";
/** Between two drawings of a chart out of sight. */
const outOfSightMs = 3000;

/** What uPlot draws at a range of x: every series thinned out, on one common axis. */
function aligned(
  series: readonly ChartSeries[],
  range: readonly [number, number] | undefined,
  buckets: number,
): uPlot.AlignedData {
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
  const zoom = useRef<readonly [number, number] | undefined>(undefined);
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
    const { series } = latest.current;
    const data = aligned(series, zoom.current, Math.max(100, Math.floor(instance.bbox.width / devicePixelRatio)));
    // As a batch: drawn at once, so that the queue sees how long it takes.
    instance.batch(() => {
      instance.setData(data, zoom.current === undefined);
      if (zoom.current) instance.setScale("x", { min: zoom.current[0], max: zoom.current[1] });
    });
  }, []);

  const shape = `${props.series.map(({ label, color }) => label + color).join("|")}|${props.log}|${props.xKind}|${props.language}|${props.theme}`;
  useEffect(() => {
    const element = host.current!;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const { xKind, language } = latest.current;
    const grid = { stroke: color("--line"), width: 1 };
    const axis = { stroke: color("--muted"), grid, ticks: { show: false }, font: `12px ${style.fontFamily}`, gap: 6 };
    const formatX = (value: number) => (xKind === "time" ? formatTime(value, language) : formatCount(value, language));
    const instance = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: latest.current.height ?? 220,
        padding: [8, 12, 0, 0],
        cursor: { sync: { key: syncKey }, drag: { x: true, y: false }, focus: { prox: 24 } },
        legend: { show: latest.current.series.length > 1, live: true },
        scales: { x: { time: xKind === "time" }, y: { distr: latest.current.log ? 3 : 1 } },
        axes: [
          {
            ...axis,
            size: 28,
            ...(xKind === "time" ? {} : { values: (_, ticks) => ticks.map((tick) => formatCount(tick, language)) }),
          },
          { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : formatNumber(tick))) },
        ],
        series: [
          { label: t(xKind), value: (_, value) => (value === null ? "–" : formatX(value)) },
          ...latest.current.series.map(
            (each): uPlot.Series => ({
              label: each.label,
              stroke: color(each.color),
              width: each.width ?? 1.5,
              alpha: each.faint ? 0.35 : 1,
              spanGaps: true,
              points: { show: each.points ?? false, size: 5, fill: color(each.color) },
              value: (_, value) => (value === null ? "–" : formatNumber(value)),
            }),
          ),
        ],
        hooks: {
          setSelect: [
            (u) => {
              if (u.select.width < 4) return;
              zoom.current = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
              drawSoon(draw);
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
    instance.over.addEventListener("dblclick", () => {
      zoom.current = undefined;
      drawSoon(draw);
    });
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
  }, [props.series, props.markers]);

  return (
    <figure class="chart" aria-label={props.title}>
      <figcaption>
        <span class="chart-title">{props.title}</span>
        <span class="chart-value">
          {props.value}
          {props.unit && <small> {props.unit}</small>}
        </span>
      </figcaption>
      <div ref={host} class="plot" title={props.hint} />
    </figure>
  );
}
