/**
 * Devices that one trains on, as their makers describe them: peak rates of dense products, memory, power. Peaks are never
 * reached and power is an upper bound; a plan or an option overrides each. What is `assumed` is a rule of thumb of ours.
 */
import type { Bilingual } from "./bilingual.ts";

/** The arithmetic of the products; sums are kept in float32 in each of them. */
export const arithmetics = ["float32", "tf32", "bfloat16", "float16"] as const;
export type Arithmetic = (typeof arithmetics)[number];

export interface Device {
  readonly name: string;
  /** How a device's own name is recognised; none: it is too general to be. The first that fits counts. */
  readonly pattern?: RegExp;
  /** Dense products, in FLOP/s; what is absent the device does not have. */
  readonly peak: Readonly<Partial<Record<Arithmetic, number>>>;
  readonly memoryBytes: number;
  /** Rated. */
  readonly watts: number;
  /** Share of the peak that a training step is taken to reach (MFU). */
  readonly utilisation: number;
  readonly source: Bilingual;
  readonly utilisationSource: Bilingual;
}

const gb = 1e9;
const gib = 2 ** 30;
const tera = 1e12;

/** What CPM-Ant's training reached on A100: about 1,220 tokens/s on each, by its published cost and time. */
const original = {
  utilisation: 0.22,
  utilisationSource: {
    zh: "假设：与 CPM-Ant 在 A100 上达到的相同",
    en: "assumed: what CPM-Ant's training reached on A100",
  },
} as const;

const sheet = (product: string, year: number): Bilingual => ({
  zh: `英伟达 ${product} 产品规格，${year} 年：稠密峰值、额定功率`,
  en: `NVIDIA's specification of the ${product}, ${year}: dense peaks, rated power`,
});

const peaks = (float32: number, rest: Partial<Record<Exclude<Arithmetic, "float32">, number>>) =>
  Object.fromEntries(Object.entries({ float32, ...rest }).map(([key, value]) => [key, value * tera])) as Device["peak"];

const ampere = peaks(19.5, { tf32: 156, bfloat16: 312, float16: 312 });
const hopper = peaks(66.9, { tf32: 494.7, bfloat16: 989.4, float16: 989.4 });

/** By the name that options take. More special patterns stand first. */
export const deviceTable = {
  "a100-80": {
    name: "NVIDIA A100 SXM 80 GB",
    pattern: /\bA100.*SXM/i,
    peak: ampere,
    memoryBytes: 80 * gib,
    watts: 400,
    source: sheet("A100 SXM 80 GB", 2021),
    ...original,
  },
  "a100-40": {
    name: "NVIDIA A100 PCIe 40 GB",
    pattern: /\bA100\b/i,
    peak: ampere,
    memoryBytes: 40 * gib,
    watts: 250,
    source: sheet("A100 PCIe 40 GB", 2020),
    ...original,
  },
  h200: {
    name: "NVIDIA H200 SXM 141 GB",
    pattern: /\bH200\b/i,
    peak: hopper,
    memoryBytes: 141 * gb,
    watts: 700,
    source: sheet("H200 SXM", 2024),
    ...original,
  },
  "h100-pcie": {
    name: "NVIDIA H100 PCIe 80 GB",
    pattern: /\bH100.*PCIe/i,
    peak: peaks(51.2, { tf32: 378, bfloat16: 756, float16: 756 }),
    memoryBytes: 80 * gib,
    watts: 350,
    source: sheet("H100 PCIe", 2023),
    ...original,
  },
  h100: {
    name: "NVIDIA H100 SXM 80 GB",
    pattern: /\bH100\b/i,
    peak: hopper,
    memoryBytes: 80 * gib,
    watts: 700,
    source: sheet("H100 SXM", 2023),
    ...original,
  },
  l40s: {
    name: "NVIDIA L40S 48 GB",
    pattern: /\bL40S\b/i,
    peak: peaks(91.6, { tf32: 183, bfloat16: 362, float16: 362 }),
    memoryBytes: 48 * gib,
    watts: 350,
    source: sheet("L40S", 2023),
    ...original,
  },
  "rtx-4090": {
    name: "NVIDIA GeForce RTX 4090 24 GB",
    pattern: /\b4090\b/,
    peak: peaks(82.6, { tf32: 82.6, bfloat16: 165.2, float16: 165.2 }),
    memoryBytes: 24 * gib,
    watts: 450,
    source: sheet("GeForce RTX 4090", 2022),
    ...original,
  },
  "rtx-3090": {
    name: "NVIDIA GeForce RTX 3090 24 GB",
    pattern: /\b3090\b/,
    peak: peaks(35.6, { tf32: 35.6, bfloat16: 71, float16: 71 }),
    memoryBytes: 24 * gib,
    watts: 350,
    source: sheet("GeForce RTX 3090", 2020),
    ...original,
  },
  v100: {
    name: "NVIDIA V100 SXM2 32 GB",
    pattern: /\bV100.*SXM/i,
    peak: peaks(15.7, { float16: 125 }),
    memoryBytes: 32 * gib,
    watts: 300,
    source: sheet("V100 SXM2", 2018),
    ...original,
  },
  "v100-pcie": {
    name: "NVIDIA V100 PCIe 32 GB",
    pattern: /\bV100\b/i,
    peak: peaks(14, { float16: 112 }),
    memoryBytes: 32 * gib,
    watts: 250,
    source: sheet("V100 PCIe", 2018),
    ...original,
  },
  t4: {
    name: "NVIDIA T4 16 GB",
    pattern: /\bTesla T4\b|\bNVIDIA T4\b/i,
    peak: peaks(8.1, { float16: 65 }),
    memoryBytes: 16 * gib,
    watts: 70,
    source: sheet("T4", 2018),
    ...original,
  },
  "m1-max": {
    name: "Apple M1 Max 64 GB",
    pattern: /\bApple M1 Max\b/i,
    peak: peaks(10.4, {}),
    memoryBytes: 64 * gib,
    watts: 115,
    source: {
      zh: "苹果 2021-10-18 新闻稿：GPU 10.4 TFLOPS；苹果支持 102027：Mac Studio 整机最大 115 W（含电源损耗）",
      en: "Apple's press release of 2021-10-18: 10.4 TFLOPS of the GPU; Apple Support 102027: 115 W at most for the whole Mac Studio, at the wall",
    },
    ...original,
  },
  m2: {
    name: "Apple M2 24 GB",
    pattern: /\bApple M2$/i,
    peak: peaks(3.6, {}),
    memoryBytes: 24 * gib,
    watts: 50,
    source: {
      zh: "苹果 2022-06-06 新闻稿：GPU 3.6 TFLOPS；功率：苹果支持，Mac mini（2023）整机最大 50 W",
      en: "Apple's press release of 2022-06-06: 3.6 TFLOPS of the GPU; Apple Support: 50 W at most for the whole Mac mini of 2023",
    },
    ...original,
  },
  "laptop-cpu": {
    name: "AMD Ryzen 7 7840U",
    pattern: /\b7840U\b/,
    // 8 cores, each two 256-bit fused multiply-adds a cycle, at the base clock of 3.3 GHz
    peak: { float32: 8 * 32 * 3.3e9 },
    memoryBytes: 16 * gib,
    watts: 28,
    source: {
      zh: "一台笔记本：AMD 产品页，2023 年：8 核，基础频率 3.3 GHz，默认 TDP 28 W（不含屏幕等）；16 GB 内存为假设",
      en: "A laptop: AMD's product page, 2023: 8 cores, base clock 3.3 GHz, default TDP 28 W (without screen and the rest); 16 GB of memory are assumed",
    },
    utilisation: 0.5,
    utilisationSource: {
      zh: "假设：峰值的一半（矩阵乘法约七成，训练再取其七成半）",
      en: "assumed: half of the peak (products reach some 70 %, training three quarters of that)",
    },
  },
} as const satisfies Record<string, Device>;
export type DeviceName = keyof typeof deviceTable;

/** The device of a name as the machine itself tells it. */
export function deviceNamed(name: string): Device | undefined {
  return Object.values<Device>(deviceTable).find(({ pattern }) => pattern?.test(name));
}

/** The arithmetic in which a device's products are fastest; among equals the one with the wider range. */
export function fastestArithmetic({ peak }: Pick<Device, "peak">): Arithmetic {
  return arithmetics.reduce((best, each) => ((peak[each] ?? 0) > (peak[best] ?? 0) ? each : best), "float32");
}
