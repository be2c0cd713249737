/** Numbers, sizes and times as readers of Chinese and of English write them. */
export type Language = "zh" | "en";

const locales = { zh: "zh-CN", en: "en-GB" } as const;

export function formatCount(value: number, language: Language): string {
  if (!Number.isFinite(value)) return "–";
  if (language === "zh") {
    if (value >= 1e8) return `${trim(value / 1e8)} 亿`;
    if (value >= 1e5) return `${trim(value / 1e4)} 万`;
  } else {
    if (value >= 1e9) return `${trim(value / 1e9)} B`;
    if (value >= 1e6) return `${trim(value / 1e6)} M`;
  }
  return Math.round(value).toLocaleString(locales[language]);
}

function trim(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(1).replace("e-", "e−").replace("e+", "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en-GB");
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4);
}

/** A number on an axis whose ticks are `step` apart: as many digits as they differ in. */
export function formatTick(value: number, step: number, language: Language): string {
  if (value === 0) return "0";
  if (!(step > 0))
    return formatNumber(value)
      .replace(/(\.\d*?)0+$/, "$1")
      .replace(/\.$/, "");
  if (step < 1e-4) return formatNumber(value);
  if (step >= 1000) return formatCount(value, language);
  let digits = 0;
  while (digits < 6 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let index = 0;
  let value = bytes;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index++;
  }
  return `${index === 0 ? value : trim(value)} ${units[index]}`;
}

export function formatEnergy(kWh: number): string {
  return kWh < 0.1 ? `${formatNumber(1000 * kWh)} Wh` : `${formatNumber(kWh)} kWh`;
}

export function formatMass(kg: number): string {
  return kg < 0.1 ? `${formatNumber(1000 * kg)} g` : `${formatNumber(kg)} kg`;
}

/** Seconds as the two largest units. */
export function formatDuration(seconds: number, language: Language): string {
  if (!Number.isFinite(seconds)) return "–";
  const units =
    language === "zh"
      ? ([
          ["天", 86400],
          ["小时", 3600],
          ["分", 60],
          ["秒", 1],
        ] as const)
      : ([
          ["d", 86400],
          ["h", 3600],
          ["min", 60],
          ["s", 1],
        ] as const);
  if (seconds > 0 && seconds < 10) return `${Number(seconds.toFixed(1))} ${units[3][0]}`;
  let rest = Math.max(0, Math.round(seconds));
  const parts: string[] = [];
  for (const [name, size] of units) {
    const count = Math.floor(rest / size);
    if (count === 0 && (parts.length === 0 ? size > 1 : true)) {
      if (parts.length > 0) break;
      continue;
    }
    rest -= count * size;
    parts.push(`${count} ${name}`);
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

export function formatTime(seconds: number, language: Language): string {
  if (!Number.isFinite(seconds)) return "–";
  return new Date(seconds * 1000).toLocaleString(locales[language], {
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
  });
}

export function formatPercent(share: number): string {
  return Number.isFinite(share) ? `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %` : "–";
}
