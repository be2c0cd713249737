/** What the server counts, in Prometheus' text format (exposition format 0.0.4). */

type Labels = Readonly<Record<string, string>>;

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  lines(): string[];
}

export interface Counter {
  add(labels?: Labels, amount?: number): void;
}

export interface Histogram {
  observe(value: number, labels?: Labels): void;
}

export interface MetricsRegistry {
  counter(name: string, help: string): Counter;
  /** `read` is called when the metrics are asked for. */
  gauge(name: string, help: string, read: () => readonly { readonly labels?: Labels; readonly value: number }[]): void;
  histogram(name: string, help: string, bounds: readonly number[]): Histogram;
  text(): string;
}

function labelText(labels: Labels): string {
  const escaped = (value: string) => value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

export function createMetrics(): MetricsRegistry {
  const metrics: Metric[] = [];
  return {
    counter(name, help) {
      const values = new Map<string, number>();
      const lines = () => [...values].map(([labels, value]) => `${name}${labels} ${value}`);
      metrics.push({ name, help, type: "counter", lines });
      return {
        add(labels = {}, amount = 1) {
          const key = labelText(labels);
          values.set(key, (values.get(key) ?? 0) + amount);
        },
      };
    },
    gauge(name, help, read) {
      const lines = () => read().map(({ labels = {}, value }) => `${name}${labelText(labels)} ${value}`);
      metrics.push({ name, help, type: "gauge", lines });
    },
    histogram(name, help, bounds) {
      const series = new Map<string, { labels: Labels; counts: number[]; sum: number; count: number }>();
      const lines = () =>
        [...series.values()].flatMap(({ labels, counts, sum, count }) => [
          ...bounds.map((bound, at) => `${name}_bucket${labelText({ ...labels, le: String(bound) })} ${counts[at]}`),
          `${name}_bucket${labelText({ ...labels, le: "+Inf" })} ${count}`,
          `${name}_sum${labelText(labels)} ${sum}`,
          `${name}_count${labelText(labels)} ${count}`,
        ]);
      metrics.push({ name, help, type: "histogram", lines });
      return {
        observe(value, labels = {}) {
          const key = labelText(labels);
          let entry = series.get(key);
          if (entry === undefined) {
            entry = { labels, counts: bounds.map(() => 0), sum: 0, count: 0 };
            series.set(key, entry);
          }
          // Cumulative, as the format wants it.
          bounds.forEach((bound, at) => {
            if (value <= bound) entry.counts[at]!++;
          });
          entry.sum += value;
          entry.count++;
        },
      };
    },
    text() {
      const parts = metrics.map(({ name, help, type, lines }) =>
        [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines()].join("\n"),
      );
      return `${parts.join("\n")}\n`;
    },
  };
}
