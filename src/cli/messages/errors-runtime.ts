/** Errors of graphs and runtimes. */
import type { ErrorEntries } from "./error-entry.ts";

const correctCall = {
  zh: "调用方式有误：按提示改正程序。",
  en: "The call is wrong: correct the program as the hint says.",
};

export const runtimeErrors: ErrorEntries = {
  CPM_DTYPE_MISMATCH: {
    zh: "算子的输入类型不符。",
    en: "The inputs of an operator have dtypes that do not fit.",
    remedy: { zh: "用 cast() 转换类型。", en: "Convert with cast()." },
  },
  CPM_GRADIENT_NOT_SCALAR: {
    zh: "只能对标量求梯度。",
    en: "A gradient was asked of something that is no scalar.",
    remedy: { zh: "先求和或求平均。", en: "Sum or average it first." },
  },
  CPM_GRADIENT_UNSUPPORTED: {
    zh: "算子不可求导。",
    en: "A gradient was asked through an operator that has none.",
    remedy: {
      zh: "训练的部分改用其他算子，或对其结果使用 stopGradient()。",
      en: "Use other operators in what is trained, or stopGradient() on its result.",
    },
  },
  CPM_SHAPE_MISMATCH: {
    zh: "算子的输入形状不符。",
    en: "The inputs of an operator have shapes that do not fit.",
    remedy: { zh: "检查指出的那一行代码中的形状。", en: "Check the shapes at the line that is named." },
  },
  CPM_RUNTIME_ALIAS: {
    zh: "张量的别名超出原张量。",
    en: "An alias reaches outside of its tensor or begins between elements.",
    remedy: correctCall,
  },
  CPM_RUNTIME_BUSY: {
    zh: "同时等待的运行太多。",
    en: "Too many runs wait at the same time.",
    remedy: { zh: "等前面的运行结束后再开始新的。", en: "Await runs before starting more." },
  },
  CPM_RUNTIME_COMPILE: {
    zh: "程序无法编译。",
    en: "ONNX Runtime refused a program.",
    remedy: {
      zh: "运行 cpm doctor；换用 --device cpu；如仍出错请报告。",
      en: "Run cpm doctor; try --device cpu; report it if it stays.",
    },
  },
  CPM_RUNTIME_DETACHED: {
    zh: "张量的内存已被转移。",
    en: "A tensor's memory was transferred away with a transfer list.",
    remedy: {
      zh: "先复制，再交给 postMessage 或 structuredClone。",
      en: "Copy a view before giving it to postMessage or structuredClone.",
    },
  },
  CPM_RUNTIME_DEVICE: {
    zh: "没有这种设备。",
    en: "There is no such device.",
    remedy: { zh: "使用 cpu、webgpu 或 cuda。", en: "Use cpu, webgpu or cuda." },
  },
  CPM_RUNTIME_DISPOSED: {
    zh: "对象释放之后又被使用。",
    en: "A tensor, program, binding or runtime was used or disposed after its end.",
    remedy: correctCall,
  },
  CPM_RUNTIME_DTYPE: {
    zh: "张量的数据类型不符。",
    en: "A tensor or host array has another element type than the program or tensor.",
    remedy: correctCall,
  },
  CPM_RUNTIME_FOREIGN: {
    zh: "张量属于另一个运行时。",
    en: "A tensor belongs to another runtime.",
    remedy: correctCall,
  },
  CPM_RUNTIME_IN_USE: {
    zh: "仍在运行时不能释放。",
    en: "Something was disposed or started again while it runs.",
    remedy: { zh: "等运行结束。", en: "Await the run first." },
  },
  CPM_RUNTIME_LIBRARY: {
    zh: "找不到或无法载入 ONNX Runtime 运行库。",
    en: "The ONNX Runtime library is missing, too old or cannot be loaded.",
    remedy: {
      zh: "在项目目录中运行 npm ci；Linux 需要 glibc 2.28 或更新版本。",
      en: "Run npm ci inside the project; Linux needs glibc 2.28 or newer.",
    },
  },
  CPM_RUNTIME_MAP: {
    zh: "文件无法映射到内存。",
    en: "A file cannot be mapped into memory.",
    remedy: { zh: "检查文件是否完整、可读。", en: "Check that the file is whole and readable." },
  },
  CPM_RUNTIME_MEMORY: {
    zh: "内存不足。",
    en: "There is not enough memory for a tensor.",
    remedy: { zh: "减小批次或模型，或关闭其他程序。", en: "Use a smaller batch or model, or close other programs." },
  },
  CPM_RUNTIME_PORT: {
    zh: "程序没有这个输入或输出，或没有给出它。",
    en: "A program has no such input or output, or was not given one.",
    remedy: correctCall,
  },
  CPM_RUNTIME_PREPACKED: {
    zh: "编译后的程序无法保存为缓存。",
    en: "The compiled program cannot be saved in its cache.",
    remedy: { zh: "给出一个可写且空间足够的文件夹。", en: "Give a writable folder with enough space." },
  },
  CPM_RUNTIME_PROFILE: {
    zh: "性能分析文件无法写完。",
    en: "A profile cannot be completed.",
    remedy: { zh: "检查文件夹是否可写、空间是否足够。", en: "Check that the folder is writable and has space." },
  },
  CPM_RUNTIME_READ_ONLY: {
    zh: "映射文件上的张量不能写入。",
    en: "A tensor over a mapped file cannot be written.",
    remedy: correctCall,
  },
  CPM_RUNTIME_RUN: {
    zh: "程序运行时出错。",
    en: "A program failed while it ran.",
    remedy: {
      zh: "查看指出的程序和节点；内存不足时减小批次。",
      en: "Look at the program and node that are named; with too little memory use a smaller batch.",
    },
  },
  CPM_RUNTIME_SHAPE: {
    zh: "张量的形状与程序不符。",
    en: "A tensor's shape does not fit the program, or there is too little data for it.",
    remedy: correctCall,
  },
  CPM_RUNTIME_START: {
    zh: "ONNX Runtime 无法启动。",
    en: "ONNX Runtime cannot be started.",
    remedy: { zh: "运行 cpm doctor。", en: "Run cpm doctor." },
  },
  CPM_RUNTIME_TENSOR: {
    zh: "无法创建张量。",
    en: "A tensor cannot be made.",
    remedy: { zh: "检查形状和可用内存。", en: "Check its shape and the free memory." },
  },
  CPM_RUNTIME_THREADS: {
    zh: "线程数有误，或与已打开的运行时不一致。",
    en: "The number of threads is out of range or differs from a runtime that is open.",
    remedy: {
      zh: "使用 1 到 1024 之间的线程数；同一进程中的运行时共用线程池。",
      en: "Use 1 to 1024 threads; runtimes of one process share a pool.",
    },
  },
  CPM_RUNTIME_UNSUPPORTED: {
    zh: "这个运行时或设备做不到。",
    en: "This runtime or device cannot do what was asked.",
    remedy: {
      zh: "换用 --device cpu，或运行 cpm doctor 查看可用的后端。",
      en: "Use --device cpu, or run cpm doctor for the providers that exist.",
    },
  },
};
