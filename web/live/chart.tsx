/** A line chart over shared columns: uPlot, with what is drawn thinned out to the width in pixels. */
import { useCallback, useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { type ChartProps, type ChartSeries, createPlot, plotWidth, usualHeight } from "./chart-plot.ts";
import { decimate, upperBound } from "./columns.ts";
import { drawNever, drawSoon } from "./draw-queue.ts";

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
    // A bucket of two pixels: with more the line looks the same and takes longer to fill in.
    const buckets = Math.max(100, Math.floor(instance.bbox.width / devicePixelRatio / 2));
    const data = aligned(series, zoom, buckets);
    // As a batch: drawn at once, so that the queue sees how long it takes.
    instance.batch(() => {
      instance.setData(data, range === undefined);
      if (range) instance.setScale("x", { min: range[0], max: range[1] });
    });
  }, []);

  const shape = `${props.series.map(({ label, color, dash = [] }) => `${label}${color}${dash}`).join("|")}|${props.log}|${props.xKind}|${props.language}|${props.theme}`;
  useEffect(() => {
    const element = host.current!;
    // Making a chart takes as long as drawing it: each waits for its turn.
    const create = () => {
      plot.current = createPlot(element, () => latest.current);
      drawSoon(draw);
    };
    drawSoon(create);
    const resize = new ResizeObserver(() => {
      const instance = plot.current;
      const width = plotWidth(element);
      if (instance === undefined || width === instance.width) return;
      instance.setSize({ width, height: instance.height });
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
      drawNever(create);
      drawNever(draw);
      clearTimeout(later.current);
      later.current = undefined;
      plot.current?.destroy();
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
      <div ref={host} class="plot" style={{ minHeight: `${props.height ?? usualHeight}px` }} />
    </figure>
  );
}
