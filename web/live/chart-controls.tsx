/** What the charts of a page are drawn over, how smooth, and back from a zoom: kept in the address. */
import { setQuery } from "./route.ts";
import { t } from "./settings.ts";
import { type View, type XKind, xNames } from "./view.ts";

export function ChartControls({ view, kinds }: { readonly view: View; readonly kinds: readonly XKind[] }) {
  return (
    <div class="controls chart-controls">
      <label>
        {t("xAxis")}
        <select
          value={view.xKind}
          onChange={({ currentTarget: { value } }) =>
            // A zoom is in units of x.
            setQuery({ x: value === "step" ? undefined : value, zoom: undefined })
          }
        >
          {kinds.map((kind) => (
            <option key={kind} value={kind}>
              {t(xNames[kind])}
            </option>
          ))}
        </select>
      </label>
      <label>
        {t("smoothing")}
        <input
          type="range"
          min={0}
          max={0.99}
          step={0.01}
          value={view.smoothing}
          onInput={(event) => setQuery({ smooth: event.currentTarget.value })}
        />
        <output class="tabular">{view.smoothing.toFixed(2)}</output>
      </label>
      <label>
        <input type="checkbox" checked={view.log} onChange={() => setQuery({ log: view.log ? undefined : "1" })} />
        {t("logScale")}
      </label>
      {view.zoom ? (
        <button type="button" onClick={() => setQuery({ zoom: undefined })}>
          {t("resetZoom")}
        </button>
      ) : (
        <span class="hint">{t("dragHint")}</span>
      )}
    </div>
  );
}
