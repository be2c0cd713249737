/** Messages of `cpm doctor`. */
import { defineMessages } from "./message.ts";

export const doctorMessages = defineMessages({
  summary: {
    zh: "检查环境：运行时、设备、内存，缺什么、怎么补",
    en: "check the environment: runtime, device, memory, what is missing and how to get it",
  },
  description: {
    zh: "查看这台机器和运行时，做一次小的矩阵乘法并核对结果。一切正常时退出码为 0，否则为 3，并说明缺什么、怎么补。",
    en: "Looks at this machine and at the runtime, multiplies two matrices and checks the result. Exits with 0 where all is well, else with 3, and says what is missing and how to get it.",
  },
  threads: { zh: "运行时使用的线程数", en: "threads for the runtime" },
  device: { zh: "在哪里计算", en: "where to compute" },
  machineTitle: { zh: "机器", en: "Machine" },
  runtimeTitle: { zh: "运行时", en: "Runtime" },
  checksTitle: { zh: "检查", en: "Checks" },
  platform: { zh: "平台", en: "platform" },
  cpu: { zh: "处理器", en: "processor" },
  instructions: { zh: "指令集", en: "instruction sets" },
  cores: { zh: "核心", en: "cores" },
  coresValue: { zh: "可用 {usable} 个，共 {all} 个", en: "{usable} usable of {all}" },
  memory: { zh: "内存", en: "memory" },
  memoryValue: { zh: "共 {all}，可用 {free}", en: "{all}, {free} free" },
  memoryLimit: { zh: "内存上限", en: "memory limit" },
  unknown: { zh: "未知", en: "unknown" },
  library: { zh: "运行库", en: "library" },
  providers: { zh: "执行后端", en: "providers" },
  provider: { zh: "所用后端", en: "in use" },
  threadCount: { zh: "线程", en: "threads" },
  speed: { zh: "矩阵乘法", en: "matrix product" },
  speedValue: { zh: "{gflops} GFLOP/s（fp32，{size}³）", en: "{gflops} GFLOP/s (fp32, {size}³)" },
  checkNode: { zh: "Node.js {version}", en: "Node.js {version}" },
  remedyNode: {
    zh: "升级到 Node.js 22.18 或更新版本；在项目目录中，npx cpm 会用自带的 Node。",
    en: "Upgrade to Node.js 22.18 or newer; inside the project, npx cpm uses the Node that comes with it.",
  },
  checkPlatform: { zh: "平台 {platform} 有预编译的运行库", en: "a prebuilt runtime exists for {platform}" },
  remedyPlatform: {
    zh: "支持 x64 与 arm64 上的 Linux（glibc）、macOS 和 Windows；Alpine 等 musl 系统请换用基于 glibc 的镜像。",
    en: "Linux (glibc), macOS and Windows on x64 and arm64 will do; on musl systems such as Alpine use an image with glibc.",
  },
  checkRuntime: { zh: "运行时可以启动", en: "the runtime starts" },
  remedyRuntime: {
    zh: "在项目目录中运行 npm ci；作为依赖使用时重新安装 cpm-live。",
    en: "Run npm ci inside the project; as a dependency, install cpm-live again.",
  },
  checkProduct: { zh: "在 {device} 上做矩阵乘法，结果正确", en: "a matrix product on {device} is right" },
  remedyDevice: {
    zh: "为这个设备安装驱动（WebGPU 需要 Vulkan、Metal 或 Direct3D 12；CUDA 需要 NVIDIA 驱动与 CUDA 运行库），或者使用 --device cpu。",
    en: "Install this device's driver (WebGPU needs Vulkan, Metal or Direct3D 12; CUDA needs NVIDIA's driver and the CUDA libraries), or use --device cpu.",
  },
  remedyProduct: {
    zh: "运行库算错了：请换一台机器验证，并连同 cpm doctor --json 的输出一起报告。",
    en: "The library computes wrongly: try another machine and report it with the output of cpm doctor --json.",
  },
  checkMemory: { zh: "至少有 {needed} 可用内存", en: "at least {needed} of memory is free" },
  remedyMemory: {
    zh: "关闭其他程序，或放宽容器的内存上限。",
    en: "Close other programs, or raise the container's memory limit.",
  },
  allWell: { zh: "一切正常。", en: "All is well." },
  notWell: { zh: "有 {count} 项不满足。", en: "Not met: {count}." },
});
