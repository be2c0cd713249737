/** Errors of configs, text, files, generation and training. */
import type { ErrorEntries } from "./error-entry.ts";

const correctConfig = {
  zh: "把 config.json 中指出的项改正，或从预设的配置开始。",
  en: "Correct the key that is named in config.json, or start from a preset's config.",
};
const correctCall = {
  zh: "调用方式有误：按提示改正程序。",
  en: "The call is wrong: correct the program as the hint says.",
};

export const dataErrors: ErrorEntries = {
  CPM_CONFIG_ARCHITECTURE: {
    zh: "这是另一种架构的配置。",
    en: "A config describes another architecture.",
    remedy: { zh: "使用 CPM-Ant 的配置。", en: "Use a config of CPM-Ant." },
  },
  CPM_CONFIG_INCONSISTENT: {
    zh: "配置中的数值互相矛盾。",
    en: "Values of a config contradict each other.",
    remedy: correctConfig,
  },
  CPM_CONFIG_JSON: {
    zh: "模型配置应当是一个 JSON 对象。",
    en: "A model's config must be a JSON object.",
    remedy: correctConfig,
  },
  CPM_CONFIG_MISSING_KEY: {
    zh: "模型配置缺少一项。",
    en: "A key is missing from a model's config; sizes have no defaults.",
    remedy: correctConfig,
  },
  CPM_CONFIG_PRESET: {
    zh: "没有这个预设。",
    en: "There is no preset of this name.",
    remedy: { zh: "使用列出的预设之一。", en: "Use one of the presets that are listed." },
  },
  CPM_CONFIG_UNKNOWN_KEY: {
    zh: "模型配置中有不认识的项。",
    en: "A model's config has a key that nothing reads.",
    remedy: { zh: "检查拼写，或删去这一项。", en: "Check the spelling, or remove the key." },
  },
  CPM_CONFIG_VALUE: {
    zh: "模型配置中有超出范围的值。",
    en: "A value of a model's config is out of range.",
    remedy: correctConfig,
  },
  CPM_DATA_BATCH: {
    zh: "批次与模型不符。",
    en: "A batch does not fit the model.",
    remedy: {
      zh: "确认数据是用这个模型的词表和提示长度构造的。",
      en: "Check that the data was built with this model's vocabulary and prompt length.",
    },
  },
  CPM_DATA_BATCH_OPTIONS: {
    zh: "构造批次的选项有误。",
    en: "An option of the batches is out of range.",
    remedy: { zh: "按提示改正选项。", en: "Correct the option as the error says." },
  },
  CPM_DATA_CORPUS_OPTIONS: {
    zh: "语料的选项有误。",
    en: "An option of the corpus is out of range.",
    remedy: { zh: "按提示改正选项。", en: "Correct the option as the error says." },
  },
  CPM_DATA_EMPTY: {
    zh: "没有可用于训练的文本。",
    en: "There is no text, or too little, to train on.",
    remedy: { zh: "给出更多文本，或减小最小长度。", en: "Give more text, or a smaller minimum length." },
  },
  CPM_DATA_FILE: {
    zh: "文本文件找不到或读不了。",
    en: "A text file does not exist or cannot be read.",
    remedy: {
      zh: "检查路径和拼写；通配符要加引号。",
      en: "Check the path and its spelling; put quotes around a pattern.",
    },
  },
  CPM_DATA_LINE: {
    zh: "文本中有不能用的一行。",
    en: "A line of the text cannot be used.",
    remedy: {
      zh: "修改指出的那一行，或不用严格模式，略过并计数。",
      en: "Mend the line, or read without strict mode to leave such lines out and count them.",
    },
  },
  CPM_DATA_STATE: {
    zh: "保存的数据位置与现在的语料或选项不符。",
    en: "A saved position in the data does not belong to this corpus and these options.",
    remedy: { zh: "用同样的文本、词表和选项继续。", en: "Resume with the same text, vocabulary and options." },
  },
  CPM_DATA_ZSTD: {
    zh: "这个 Node.js 不能读 zstd。",
    en: "This Node.js cannot read zstd.",
    remedy: { zh: "升级到 Node.js 22.18 或更新版本。", en: "Upgrade to Node.js 22.18 or newer." },
  },
  CPM_FILE_EXISTS: {
    zh: "要写的位置已经有内容。",
    en: "What should be written is already there.",
    remedy: { zh: "换一个新的路径，或允许覆盖。", en: "Give a new path, or allow overwriting." },
  },
  CPM_FILE_KIND: {
    zh: "这个路径上是别的东西（文件夹或文件）。",
    en: "A folder stands where a file is expected, or the reverse.",
    remedy: { zh: "检查路径。", en: "Check the path." },
  },
  CPM_FILE_NOT_FOUND: {
    zh: "没有这个文件或文件夹。",
    en: "There is no such file or folder.",
    remedy: { zh: "检查路径和拼写。", en: "Check the path and its spelling." },
  },
  CPM_FILE_NO_SPACE: {
    zh: "磁盘空间不足，或超出文件大小限制。",
    en: "There is no room for a file.",
    remedy: { zh: "腾出空间，或放宽限制。", en: "Free some space or raise the limit." },
  },
  CPM_FILE_PERMISSION: {
    zh: "没有读写这个文件的权限。",
    en: "The file may not be read or written.",
    remedy: { zh: "检查权限。", en: "Check the permissions." },
  },
  CPM_FILE_READ: {
    zh: "读文件时出错。",
    en: "A file could not be read.",
    remedy: { zh: "检查磁盘和路径。", en: "Check the disk and the path." },
  },
  CPM_FILE_WRITE: {
    zh: "写文件时出错。",
    en: "A file could not be written.",
    remedy: { zh: "检查磁盘和路径。", en: "Check the disk and the path." },
  },
  CPM_FORWARD_INPUT: {
    zh: "输入文件缺少张量，或张量的类型、形状、数值不对。",
    en: "The input file lacks a tensor, or one has another dtype, shape or value than it must have.",
    remedy: { zh: "按指出的张量改正输入文件。", en: "Correct the tensor that is named." },
  },
  CPM_FORWARD_NAN: {
    zh: "结果中有非有限的数值。",
    en: "A result has a value that is not finite.",
    remedy: {
      zh: "检查权重中有没有 NaN 或无穷大，配置与权重是否相配。",
      en: "Check the weights for NaN and infinity, and that the config belongs to them.",
    },
  },
  CPM_FORWARD_TARGET: {
    zh: "没有目标，求不出梯度。",
    en: "Gradients were asked for, but the batch has no target.",
    remedy: { zh: "在 batch.target 中给出目标。", en: "Give targets in batch.target." },
  },
  CPM_INFER_CAPACITY: {
    zh: "提示太长，没有留下生成的余地。",
    en: "A prompt leaves no room to generate.",
    remedy: { zh: "缩短提示，或增大容量。", en: "Shorten the prompt or open the session with a larger capacity." },
  },
  CPM_INFER_DRAFT: {
    zh: "起草模型的词表与主模型不同。",
    en: "A draft model has another vocabulary than the model that it drafts for.",
    remedy: {
      zh: "使用以同一词表训练的较小模型。",
      en: "Use a smaller model that was trained with the same vocabulary.",
    },
  },
  CPM_INFER_GRAMMAR: {
    zh: "文法或正则表达式有误，或用了不支持的写法。",
    en: "A grammar or regular expression is wrong or uses what is not supported.",
    remedy: { zh: "改正指出之处。", en: "Correct the place that is named." },
  },
  CPM_INFER_MEMORY: {
    zh: "内存容不下这么大的键值缓存。",
    en: "The key/value cache of a batch does not fit into memory.",
    remedy: {
      zh: "少生成一些 token，一次少写几篇，或缩短开头。",
      en: "Generate fewer tokens or fewer texts at once, or shorten the prompts.",
    },
  },
  CPM_INFER_NAN: {
    zh: "模型给出了非有限的数值。",
    en: "The model gave a logit that is not finite.",
    remedy: {
      zh: "检查权重中有没有 NaN 或无穷大，或用更宽的类型计算。",
      en: "Check the weights for NaN or infinity, or compute in a wider type.",
    },
  },
  CPM_INFER_NO_TOKEN: {
    zh: "所有 token 都被禁止，无从选择。",
    en: "Every token is forbidden, so none can be chosen.",
    remedy: { zh: "少禁止一些 token，或减小最小长度。", en: "Forbid fewer tokens, or lower the minimum length." },
  },
  CPM_INFER_OPTIONS: {
    zh: "生成的选项有误。",
    en: "Generation settings are wrong.",
    remedy: { zh: "按提示改正选项。", en: "Correct the setting that is named." },
  },
  CPM_INFER_PROMPT: {
    zh: "提示为空，或含有词表之外的编号。",
    en: "A prompt is missing, empty or has an id outside of the vocabulary.",
    remedy: { zh: "给出提示，并使用模型的词表。", en: "Give a prompt, cut with the model's vocabulary." },
  },
  CPM_INFER_SCHEMA: {
    zh: "JSON Schema 有误，或用了不支持的关键字。",
    en: "A JSON Schema is wrong or uses a keyword that is not supported.",
    remedy: {
      zh: "去掉指出的关键字，生成后另行检查。",
      en: "Leave out the keyword that is named, and check the value afterwards.",
    },
  },
  CPM_INFER_SEGMENT: {
    zh: "模型没有这个分段，或文本不能用它。",
    en: "The text cannot be of this segment.",
    remedy: { zh: "使用列出范围内的分段。", en: "Use a segment of the range that is named." },
  },
  CPM_INFER_TASK: {
    zh: "模型没有这个任务的软提示。",
    en: "The model has no soft prompt of this task.",
    remedy: { zh: "使用列出范围内的任务。", en: "Use a task of the range that is named." },
  },
  CPM_INFER_UNSPELLABLE: {
    zh: "所要求的格式，词表一个文本也拼不出。",
    en: "The vocabulary cannot spell any text of the format that is asked for.",
    remedy: {
      zh: "换用词表中的字符，或使用词表含全部 256 个字节的模型。",
      en: "Ask for other characters, or use a model whose vocabulary has all 256 bytes.",
    },
  },
  CPM_INFER_VOCABULARY: {
    zh: "模型旁没有词表。",
    en: "There is no vocabulary beside a model.",
    remedy: {
      zh: "用 --vocab 指明训练模型时的词表，或把它复制到权重旁，命名为 vocab.txt。",
      en: "Name the vocabulary that the model was trained with, or copy it beside the weights as vocab.txt.",
    },
  },
  CPM_INFER_VOCABULARY_SIZE: {
    zh: "词表不是这个模型的：大小不同。",
    en: "A vocabulary has another size than the model's embedding.",
    remedy: { zh: "使用训练模型时的词表。", en: "Give the vocabulary that the model was trained with." },
  },
  CPM_JIEBA_DATA: {
    zh: "结巴的词典文件已损坏。",
    en: "jieba's dictionary file is damaged.",
    remedy: { zh: "重新安装。", en: "Install the package again." },
  },
  CPM_RANDOM_RANGE: {
    zh: "随机整数的范围有误。",
    en: "A random integer was asked for from an impossible range.",
    remedy: correctCall,
  },
  CPM_RANDOM_SEED: {
    zh: "随机种子有误。",
    en: "The seed is not a whole number in range.",
    remedy: { zh: "使用 0 到 2^53 - 1 的整数。", en: "Use a whole number from 0 to 2^53 - 1." },
  },
  CPM_RANDOM_STATE: {
    zh: "保存的随机数状态无效。",
    en: "A saved state of the random generator is not valid.",
    remedy: { zh: "使用完好的检查点。", en: "Use a sound checkpoint." },
  },
  CPM_RANDOM_STREAM: {
    zh: "随机数的流编号有误。",
    en: "The stream of a random generator is out of range.",
    remedy: correctCall,
  },
  CPM_TOKEN_ID: {
    zh: "没有这个编号的 token。",
    en: "There is no token of this id.",
    remedy: { zh: "确认词表与模型配套。", en: "Check that the vocabulary is the one that the model was trained with." },
  },
  CPM_TRAIN_GROUP: {
    zh: "优化器的一个参数组没有参数。",
    en: "A group of the optimizer has no parameters.",
    remedy: {
      zh: "改正 optimizer.groups 中的 match，或删去这一组；cpm inspect 列出参数名。",
      en: "Correct its match in optimizer.groups, or remove the group; cpm inspect lists the parameters' names.",
    },
  },
  CPM_TRAIN_SCHEDULE: {
    zh: "学习率计划有误。",
    en: "A learning-rate schedule is not valid.",
    remedy: { zh: "按提示改正设置。", en: "Correct the setting that is named." },
  },
  CPM_VOCABULARY_DUPLICATE: {
    zh: "词表中有重复的 token。",
    en: "A vocabulary has a token twice.",
    remedy: { zh: "删去其中一个。", en: "Remove one of the two." },
  },
  CPM_VOCABULARY_ENCODING: {
    zh: "词表不是 UTF-8 文本。",
    en: "A vocabulary is not UTF-8 text.",
    remedy: {
      zh: "转换编码，例如 iconv -f GB18030 -t UTF-8。",
      en: "Convert it, for example with iconv -f GB18030 -t UTF-8.",
    },
  },
  CPM_VOCABULARY_SIZE: {
    zh: "词表为空，或太大，或根本不是词表。",
    en: "A vocabulary is empty or too large, or no vocabulary at all.",
    remedy: { zh: "给出词表的文本文件，每行一个 token。", en: "Give the vocabulary's text file, one token a line." },
  },
  CPM_VOCABULARY_SPECIALS: {
    zh: "词表缺少模型需要的特殊 token。",
    en: "A vocabulary lacks a special token that the model needs.",
    remedy: {
      zh: "使用 CPM-Ant 的词表，或 cpm tokenizer train 得到的词表。",
      en: "Give CPM-Ant's vocabulary or one of cpm tokenizer train.",
    },
  },
  CPM_VOCABULARY_TRAINING: {
    zh: "训练词表的选项有误，或大小不足。",
    en: "Options of vocabulary training make no sense, or the characters do not fit.",
    remedy: { zh: "增大词表，或使用 byte 方式。", en: "Raise the size, or use the byte fallback." },
  },
  CPM_TRAIN_DIVERGED: {
    zh: "训练发散：损失或梯度不再是有限的数。",
    en: "Training diverged: the loss or the gradient is no finite number.",
    remedy: {
      zh: "降低学习率（schedule.peak），延长预热，或检查语料中的坏文本。",
      en: "Lower the learning rate (schedule.peak), lengthen the warm-up, or look for broken text in the corpus.",
    },
  },
  CPM_TRAIN_OUTPUT: {
    zh: "输出文件夹已存在。",
    en: "The output folder exists already.",
    remedy: { zh: "换一个 --output，或先移走它。", en: "Give another --output, or move it away first." },
  },
  CPM_QUANTIZE_GROUP: {
    zh: "共用一个缩放系数的输入数不对。",
    en: "The size of a group is wrong.",
    remedy: { zh: "使用 16、32、64、128 或 256。", en: "Use 16, 32, 64, 128 or 256." },
  },
};
