/** The uPlot instance of a chart: axes, legend, markers; the pointer's place is that of all charts of the page. */
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatCount, formatDuration, formatNumber, formatTick, formatTime, type Language } from "./format.ts";
import { lineBackground } from "./line-styles.ts";
import { setQuery } from "./route.ts";
import { t } from "./settings.ts";
import { themeColor as color } from "./theme-colors.ts";
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

export const usualHeight = 220;

export function plotWidth(element: HTMLElement): number {
  return Math.max(200, element.clientWidth);
}

/** An empty chart inside `element`; what it needs to know later it asks `latest` for. */
export function createPlot(element: HTMLElement, latest: () => ChartProps): uPlot {
  const { fontFamily } = getComputedStyle(document.documentElement);
  const { xKind, language } = latest();
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
      width: plotWidth(element),
      height: latest().height ?? usualHeight,
      padding: [8, 22, 0, 0],
      cursor: {
        sync: { key: syncKey, filters: { pub: shared, sub: shared } },
        drag: { x: true, y: false, setScale: false },
        focus: { prox: 24 },
      },
      focus: { alpha: 0.3 },
      legend: {
        show: latest().series.length > 1,
        live: true,
        markers: {
          width: 0,
          fill: (_, i) => {
            const { color: name = "--fg", dash, faint } = latest().series[i - 1] ?? {};
            return lineBackground(faint ? `color-mix(in srgb, ${color(name)} 35%, transparent)` : color(name), dash);
          },
        },
      },
      scales: { x: { time: xKind === "time" }, y: { distr: latest().log ? 3 : 1 } },
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
            ticks.map((tick) => (tick === null ? "" : formatTick(tick, latest().log ? Number.NaN : step, language))),
        },
      ],
      series: [
        { label: t(xNames[xKind]), value: (_, value) => (value === null ? "–" : formatX(value)) },
        ...latest().series.map(
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
            for (const marker of latest().markers ?? []) {
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
    [[], ...latest().series.map(() => [])] as unknown as uPlot.AlignedData,
    element,
  );
  instance.over.addEventListener("dblclick", () => setQuery({ zoom: undefined }));
  return instance;
}
