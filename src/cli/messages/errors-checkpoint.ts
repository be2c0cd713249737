/** Errors of weights files: their formats, layouts and contents. */
import type { ErrorEntries } from "./error-entry.ts";

const soundFile = {
  zh: "不要使用来历不明的文件；请向发布者索取完好的文件，最好是 safetensors。",
  en: "Do not use files of unknown origin; ask the publisher for a sound one, best as safetensors.",
};
const copyAgain = { zh: "重新复制或下载这个文件。", en: "Copy or download the file again." };
const rightConfig = {
  zh: "给出属于这些权重的 config.json，或不给，由权重推断。",
  en: "Give the config.json that belongs to these weights, or none to have it inferred.",
};

export const checkpointErrors: ErrorEntries = {
  CPM_CHECKPOINT_AMBIGUOUS: {
    zh: "文件夹中有多个权重文件，无法判断用哪一个。",
    en: "A folder holds several weights files and nothing says which is meant.",
    remedy: { zh: "直接给出文件的路径。", en: "Name the file itself." },
  },
  CPM_CHECKPOINT_ARCHITECTURE: {
    zh: "这是另一种架构的模型。",
    en: "The weights are of another architecture, such as CPM-Bee.",
    remedy: { zh: "使用 CPM-Ant 家族的权重。", en: "Use weights of the CPM-Ant family." },
  },
  CPM_CHECKPOINT_DELTA: {
    zh: "这是微调的增量，或尚未合并的增量，不是完整的模型。",
    en: "The file is a delta, or holds a delta that is not merged, and not a whole model.",
    remedy: { zh: "给出基座模型，或先把增量合并。", en: "Give its base model, or merge the delta first." },
  },
  CPM_CHECKPOINT_DTYPE: {
    zh: "参数的数据类型不是浮点数。",
    en: "A parameter is stored in something other than floating-point numbers.",
    remedy: { zh: "使用 float32、float16 或 bfloat16 的权重。", en: "Use weights in float32, float16 or bfloat16." },
  },
  CPM_CHECKPOINT_DTYPE_UNSUPPORTED: {
    zh: "不支持这种数据类型。",
    en: "A tensor's dtype is known to its format but nothing here computes with it.",
    remedy: { zh: "把张量转换成支持的类型后重新保存。", en: "Save the tensor again in a supported dtype." },
  },
  CPM_CHECKPOINT_FLOAT16_RANGE: {
    zh: "有的权重超出 float16 的范围。",
    en: "A weight is too large for float16.",
    remedy: { zh: "保存为 bfloat16 或 float32。", en: "Save in bfloat16 or float32." },
  },
  CPM_CHECKPOINT_FORMAT: {
    zh: "这个文件不是能识别的权重格式。",
    en: "The file is of no weights format that is read here; a Git LFS pointer is a frequent cause.",
    remedy: {
      zh: "使用 safetensors 或 PyTorch 的状态字典；如果是 Git LFS 指针，先运行 git lfs pull。",
      en: "Use safetensors or a PyTorch state dict; for a Git LFS pointer run git lfs pull first.",
    },
  },
  CPM_CHECKPOINT_INDEX: { zh: "分片索引有误。", en: "The index of a sharded checkpoint is wrong.", remedy: copyAgain },
  CPM_CHECKPOINT_INFER: {
    zh: "无法从权重推断配置。",
    en: "The config cannot be inferred from names and shapes.",
    remedy: { zh: "给出模型的 config.json。", en: "Give the model's config.json." },
  },
  CPM_CHECKPOINT_JSON: {
    zh: "模型文件夹中的 JSON 文件有误。",
    en: "A JSON file of the model is not valid, too large or has a key twice.",
    remedy: copyAgain,
  },
  CPM_CHECKPOINT_LAYOUT: {
    zh: "张量的名称不属于 CPM-Ant 模型。",
    en: "The names in the file are not those of a CPM-Ant model.",
    remedy: { zh: "确认这是 CPM-Ant 的权重。", en: "Make sure that these are weights of CPM-Ant." },
  },
  CPM_CHECKPOINT_MISSING: {
    zh: "缺少配置所要求的参数。",
    en: "Parameters that the config asks for are missing.",
    remedy: rightConfig,
  },
  CPM_CHECKPOINT_NAME: {
    zh: "张量的名称不可接受。",
    en: "A tensor's name is empty, too long or not printable.",
    remedy: soundFile,
  },
  CPM_CHECKPOINT_NOT_FOUND: {
    zh: "文件夹中没有权重。",
    en: "A folder holds no weights file.",
    remedy: { zh: "给出含有权重的文件夹，或直接给出文件。", en: "Give a folder with weights, or the file itself." },
  },
  CPM_CHECKPOINT_SHAPE: {
    zh: "参数的形状与配置不符。",
    en: "A parameter has another shape than the config says.",
    remedy: rightConfig,
  },
  CPM_CHECKPOINT_SHAPE_INVALID: {
    zh: "张量的形状无效。",
    en: "A tensor's shape is not a list of sensible sizes.",
    remedy: soundFile,
  },
  CPM_CHECKPOINT_TOO_LARGE: {
    zh: "张量太大，内存中放不下。",
    en: "A tensor does not fit into one piece of memory.",
    remedy: { zh: "在内存更大的机器上进行。", en: "Work on a machine with more memory." },
  },
  CPM_CHECKPOINT_TRUNCATED: {
    zh: "文件比它声明的短。",
    en: "A file is shorter than what it announces.",
    remedy: copyAgain,
  },
  CPM_CHECKPOINT_UNKNOWN: {
    zh: "有的张量不是配置中的参数。",
    en: "A tensor is no parameter of the config.",
    remedy: { zh: "去掉它，或改正配置。", en: "Leave it out, or correct the config." },
  },
  CPM_CHECKPOINT_UNTIED: {
    zh: "输出头与词嵌入不同，而 CPM-Ant 中二者是同一张表。",
    en: "The head differs from the token table, which CPM-Ant ties.",
    remedy: { zh: "使用没有单独训练输出头的权重。", en: "Use weights whose head was not trained apart." },
  },
  CPM_SAFETENSORS_DTYPE: {
    zh: "safetensors 中有未知的数据类型。",
    en: "A tensor of a safetensors file has an unknown dtype.",
    remedy: copyAgain,
  },
  CPM_SAFETENSORS_ENTRY: {
    zh: "safetensors 文件头中有一项不合规范。",
    en: "An entry in the header of a safetensors file is not as the format says.",
    remedy: soundFile,
  },
  CPM_SAFETENSORS_HEADER: {
    zh: "safetensors 的文件头无效。",
    en: "The header of a safetensors file is too long, too short or no JSON object.",
    remedy: copyAgain,
  },
  CPM_SAFETENSORS_HOLE: {
    zh: "safetensors 中有不属于任何张量的字节。",
    en: "A safetensors file has bytes that belong to no tensor.",
    remedy: soundFile,
  },
  CPM_SAFETENSORS_OFFSETS: {
    zh: "safetensors 中张量的位置无效。",
    en: "A tensor's offsets leave the file or do not fit its shape.",
    remedy: copyAgain,
  },
  CPM_SAFETENSORS_OVERLAP: {
    zh: "safetensors 中两个张量重叠。",
    en: "Two tensors of a safetensors file share bytes.",
    remedy: soundFile,
  },
  CPM_TORCH_BYTE_ORDER: {
    zh: "PyTorch 文件中的张量不是小端序。",
    en: "The tensors of a PyTorch file are not little-endian.",
    remedy: { zh: "在小端机器上重新保存。", en: "Save it again on a little-endian machine." },
  },
  CPM_TORCH_LEGACY: {
    zh: "这是 PyTorch 1.6 之前的格式，或只是一个 pickle。",
    en: "The file is in PyTorch's format before 1.6, or a bare pickle.",
    remedy: {
      zh: "用 PyTorch 读入后以 torch.save 重新保存。",
      en: "Load it with PyTorch and save it again with torch.save.",
    },
  },
  CPM_TORCH_LIMIT: {
    zh: "PyTorch 文件超出限制。",
    en: "A PyTorch file exceeds the limits that keep memory bounded.",
    remedy: soundFile,
  },
  CPM_TORCH_MALFORMED: {
    zh: "压缩包中没有状态字典。",
    en: "The archive holds no state dict.",
    remedy: {
      zh: "用 torch.save(model.state_dict(), …) 重新保存。",
      en: "Save it again with torch.save(model.state_dict(), …).",
    },
  },
  CPM_TORCH_SCRIPT: {
    zh: "这是 TorchScript 程序，不是状态字典。",
    en: "The archive is a TorchScript program, not a state dict.",
    remedy: {
      zh: "用 torch.save(model.state_dict(), …) 重新保存。",
      en: "Save it again with torch.save(model.state_dict(), …).",
    },
  },
  CPM_TORCH_STORAGE: {
    zh: "PyTorch 文件中的张量存储缺失或大小不符。",
    en: "A tensor's storage is missing or has another size than announced.",
    remedy: copyAgain,
  },
  CPM_TORCH_STRIDE: {
    zh: "PyTorch 文件中张量的偏移或步幅无效。",
    en: "A tensor's offset or strides lead out of its storage.",
    remedy: soundFile,
  },
  CPM_PICKLE_CALL: {
    zh: "pickle 要求调用与张量无关的东西，已拒绝。",
    en: "A pickle calls something that tensors do not need; nothing was executed.",
    remedy: soundFile,
  },
  CPM_PICKLE_GLOBAL: {
    zh: "pickle 引用了与张量无关的名称，已拒绝。",
    en: "A pickle names something that tensors do not need; nothing was executed.",
    remedy: soundFile,
  },
  CPM_PICKLE_LIMIT: {
    zh: "pickle 超出限制。",
    en: "A pickle exceeds the limits that keep memory and time bounded.",
    remedy: soundFile,
  },
  CPM_PICKLE_MALFORMED: { zh: "pickle 已损坏。", en: "A pickle is damaged.", remedy: copyAgain },
  CPM_PICKLE_OPCODE: {
    zh: "pickle 含有与张量无关的指令，已拒绝。",
    en: "A pickle has an instruction that tensors do not need; nothing was executed.",
    remedy: soundFile,
  },
  CPM_ZIP_CHECKSUM: {
    zh: "压缩包中的内容与校验和不符。",
    en: "An entry's bytes do not match their checksum.",
    remedy: copyAgain,
  },
  CPM_ZIP_COMPRESSED: {
    zh: "压缩包中的条目经过压缩，而权重应原样存放。",
    en: "An entry is compressed, while torch.save stores entries as they are.",
    remedy: { zh: "解包后用 torch.save 重新保存。", en: "Unpack it, or save it again with torch.save." },
  },
  CPM_ZIP_DUPLICATE: { zh: "压缩包中有同名的条目。", en: "An archive has two entries of one name.", remedy: soundFile },
  CPM_ZIP_ENCRYPTED: {
    zh: "压缩包中的条目已加密。",
    en: "An entry of the archive is encrypted.",
    remedy: { zh: "先解密，再重新打包。", en: "Decrypt it first." },
  },
  CPM_ZIP_LIMIT: {
    zh: "压缩包超出限制。",
    en: "An archive exceeds the limits that keep memory bounded.",
    remedy: soundFile,
  },
  CPM_ZIP_MALFORMED: {
    zh: "压缩包已损坏，或不是 ZIP。",
    en: "The archive is damaged, cut short or no ZIP.",
    remedy: copyAgain,
  },
  CPM_ZIP_NAME: {
    zh: "压缩包中条目的名称不可接受。",
    en: "An entry's name is not valid or could lead out of the archive.",
    remedy: soundFile,
  },
  CPM_ZIP_OVERLAP: { zh: "压缩包中的条目重叠。", en: "Two entries of an archive share bytes.", remedy: soundFile },
};
