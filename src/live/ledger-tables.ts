/**
 * Figures that cost and carbon are reckoned with where nothing is measured: how dirty a grid is, what a device costs, what
 * a core draws (device-table.ts has what devices draw). Few, well known, each with its source and date. None of them is
 * exact: what is `assumed` is a rule of thumb of ours. A recipe or an option overrides every one.
 */
import type { Bilingual } from "./bilingual.ts";

export interface GridIntensity {
  readonly name: string;
  readonly kgCo2ePerKwh: number;
  /** Who published it, for which year. */
  readonly source: Bilingual;
}

const ember = (zh: string, en: string): Bilingual => ({
  zh: `${zh}，2023 年平均：Ember《年度电力数据》`,
  en: `${en}, mean of 2023: Ember, Yearly Electricity Data`,
});

/** Yearly means. Those of a ministry count CO2 at the power station; Ember's count all gases over the life of the fuel. */
export const gridIntensities: readonly GridIntensity[] = [
  {
    name: "cn-2022",
    kgCo2ePerKwh: 0.5366,
    source: {
      zh: "中国，2022 年全国平均：生态环境部、国家统计局 2024-12-20 公告",
      en: "China, national mean of 2022: Ministry of Ecology and Environment and NBS, notice of 2024-12-20",
    },
  },
  {
    name: "cn-2021",
    kgCo2ePerKwh: 0.5568,
    source: {
      zh: "中国，2021 年全国平均：生态环境部、国家统计局 2024 年第 12 号公告",
      en: "China, national mean of 2021: Ministry of Ecology and Environment and NBS, notice no. 12 of 2024",
    },
  },
  { name: "world-2023", kgCo2ePerKwh: 0.481, source: ember("世界", "World") },
  { name: "de-2023", kgCo2ePerKwh: 0.381, source: ember("德国", "Germany") },
  { name: "fr-2023", kgCo2ePerKwh: 0.056, source: ember("法国", "France") },
  {
    name: "mlco2-default",
    kgCo2ePerKwh: 0.432,
    source: {
      zh: "ML CO2 Impact 计算器的默认值（经合组织 2014 年平均）",
      en: "Default of the ML CO2 Impact calculator (mean of the OECD, 2014)",
    },
  },
];

/** Of a busy processor's core with its share of memory and mainboard. */
export const wattsPerCore = 10;
export const wattsPerCoreSource = (cores: number): Bilingual => ({
  zh: `假设：每个忙碌的核连同内存与主板的份额 10 W，共 ${cores} 核`,
  en: `assumed: 10 W for a busy core with its share of memory and mainboard, ${cores} cores`,
});

export interface DevicePrice {
  readonly name: string;
  readonly pattern: RegExp;
  /** Of one device. */
  readonly pricePerHour: number;
  readonly currency: string;
  readonly source: Bilingual;
}

/** What renting one device costs. Prices move: take them as an order of magnitude and give your own. */
export const devicePrices: readonly DevicePrice[] = [
  {
    name: "a100-cn-2022",
    pattern: /\bA100\b/i,
    pricePerHour: 9.5,
    currency: "CNY",
    source: {
      zh: "CPM-Ant 2022 年预训练所付，由每日日志推算（cpm cost --preset cpm-ant-10b）",
      en: "What CPM-Ant's pretraining paid in 2022, derived from its daily logs (cpm cost --preset cpm-ant-10b)",
    },
  },
  {
    name: "a100-aws-2024",
    pattern: /\bA100\b/i,
    pricePerHour: 32.77 / 8,
    currency: "USD",
    source: {
      zh: "AWS p4d.24xlarge 按需，us-east-1，2024 年：8 张每小时 32.77 美元",
      en: "AWS p4d.24xlarge on demand, us-east-1, 2024: 32.77 USD an hour for 8",
    },
  },
  {
    name: "h100-aws-2024",
    pattern: /\bH100\b/i,
    pricePerHour: 98.32 / 8,
    currency: "USD",
    source: {
      zh: "AWS p5.48xlarge 按需，us-east-1，2024 年：8 张每小时 98.32 美元",
      en: "AWS p5.48xlarge on demand, us-east-1, 2024: 98.32 USD an hour for 8",
    },
  },
];
