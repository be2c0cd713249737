/** Messages of the options that every verb has which opens a model. */
import { defineMessages } from "./message.ts";

export const modelMessages = defineMessages({
  vocab: {
    zh: "词表文件；缺省为权重旁的 vocab.txt 或 ant.txt",
    en: "vocabulary file; by default vocab.txt or ant.txt beside the weights",
  },
  config: { zh: "模型的 config.json", en: "the model's config.json" },
  threads: { zh: "计算使用的线程数", en: "threads to compute with" },
  kvCache: {
    zh: "键值缓存的类型；float16 内存减半，int8 约为四分之一，误差见 docs/decoding.md",
    en: "type of the key/value cache; float16 takes half the memory and int8 about a quarter, their errors are in docs/decoding.md",
  },
  device: {
    zh: "在哪种设备上计算：webgpu 需要显卡驱动（Linux 上为 Vulkan），cuda 需要带 CUDA 的 ONNX Runtime",
    en: "what computes: webgpu needs a graphics driver (Vulkan on Linux), cuda an ONNX Runtime built with it",
  },
  deviceLayers: {
    zh: "只有这些层在 --device 上计算，如 0-23；其余在处理器上",
    en: "only these layers compute on --device, as 0-23; the others on the processor",
  },
  memory: {
    zh: "整个进程最多占用的内存；放不下的层留在磁盘上，轮到时再读（缺省为容器限额的 87%）",
    en: "what the process may keep in memory; layers that do not fit stay on disk and are read in their turn (default: 87 % of a container's limit)",
  },
  cache: {
    zh: "把编译好的程序与打包的权重留在磁盘上，下次直接映射（64 MiB 以上的模型）",
    en: "keep compiled programs with packed weights on disk and map them the next time (models of 64 MiB and more)",
  },
});
