/** Messages of `cpm serve` and `cpm serve keys`. */
import { defineMessages } from "./message.ts";

export const serveMessages = defineMessages({
  summary: { zh: "以 OpenAI 兼容的 HTTP 接口提供模型", en: "serve models over an OpenAI-compatible HTTP API" },
  description: {
    zh: "续写、对话、填空、向量、打分与分词；流式输出，连续批处理，各密钥公平排队。模型在子进程中运行，进程崩溃不影响服务。收到 SIGTERM 后不再接新请求，等已接的做完再退出。接口说明在 /openapi.json，用法见 docs/serving.md。",
    en: "Completions, chats, blanks, vectors, scores and tokens; streaming, continuous batching, queues that are fair between keys. Models run in processes of their own, whose crashes the service survives. On SIGTERM it takes nothing new and ends when what it has is done. The API is described at /openapi.json, its use in docs/serving.md.",
  },
  models: {
    zh: "模型的文件夹或权重文件，可写作“名称=路径”",
    en: "folders or weights files of models, also as NAME=PATH",
  },
  delta: {
    zh: "模型上的增量，可写作“NAME=文件夹”；请求中写 MODEL:NAME 选用",
    en: "deltas on the model, also as NAME=FOLDER; requests choose one as MODEL:NAME",
  },
  deltaOfWhich: {
    zh: "增量只能加在唯一的模型上；现在给了 {count} 个模型。",
    en: "Deltas need one model to be on; {count} were given.",
  },
  mix: {
    zh: "各 LoRA 增量与模型同在一个进程、一批里；请求可写 MODEL:A+0.5*B 给各增量加权",
    en: "LoRA deltas share the model's processes and batches; requests may weigh them as MODEL:A+0.5*B",
  },
  draft: {
    zh: "只有一路在生成时，用这个词表相同的小模型预猜词元；文字不变",
    en: "a smaller model with the same vocabulary guesses ahead while one text is alone; texts stay the same",
  },
  lookup: {
    zh: "只有一路在生成时，从前文中查找来预猜词元；文字不变",
    en: "guess ahead by looking up what came before, while one text is alone; texts stay the same",
  },
  bothDrafts: { zh: "--draft 与 --lookup 只能选一个。", en: "Choose --draft or --lookup, not both." },
  memory: {
    zh: "服务与所有子进程合计最多占用的内存；放不下的层留在磁盘上，用时再读",
    en: "memory that the server and its processes may keep together: layers that do not fit stay on disk and are read when their turn comes",
  },
  promptCache: {
    zh: "每个子进程为再次出现的输入保留的字节数；只供同一密钥使用，0 为不保留",
    en: "bytes that each process keeps for prompts that come again, for the same key only; 0 keeps none",
  },
  exampleDelta: { zh: "一个模型和它的两个增量", en: "a model with two deltas on it" },
  host: { zh: "监听的地址；缺省只限本机", en: "address to listen on; by default this machine alone" },
  port: { zh: "端口；0 为任意空闲端口", en: "port; 0: any free one" },
  keys: { zh: "API 密钥文件（cpm serve keys 管理）", en: "file of API keys, kept by cpm serve keys" },
  open: {
    zh: "没有密钥文件时也在本机以外的地址上监听：谁都能用",
    en: "listen beyond this machine without a file of keys: whoever reaches it may use it",
  },
  cors: {
    zh: "允许哪些网站的网页调用（来源，* 为所有）",
    en: "origins whose pages may call the API; * for all",
  },
  workers: { zh: "每个模型的子进程数", en: "processes for each model" },
  rows: { zh: "每个子进程同时生成的篇数", en: "texts that a process generates at once" },
  context: {
    zh: "每篇最长的词元数，输入与生成合计",
    en: "longest text in tokens, prompt and generated together",
  },
  prefill: {
    zh: "两步生成之间读入的输入词元数",
    en: "prompt tokens that are read between two steps of generation",
  },
  threads: { zh: "每个子进程的线程数", en: "threads of each process" },
  cache: {
    zh: "把大模型编译好的程序存在缓存文件夹，重启更快",
    en: "keep compiled programs of large models in the cache folder: restarts are faster",
  },
  maxWaiting: { zh: "每个模型最多排队的请求数", en: "requests that may wait for a model" },
  deadline: { zh: "一个请求最长的时间", en: "longest time for a request" },
  maxBody: { zh: "请求体的最大字节数", en: "largest body of a request" },
  drain: { zh: "停止时等待未完成请求的时间", en: "time that open requests get when the server is stopped" },
  logTexts: {
    zh: "把输入与输出写进日志（缺省不写）",
    en: "write prompts and texts into the log, which has none by default",
  },
  quiet: { zh: "不写日志", en: "write no log" },
  ledger: {
    zh: "算费用与能耗的假设，同 cpm cost",
    en: "assumptions for cost and energy, as in cpm cost",
  },
  noCache: {
    zh: "缓存文件夹 {folder} 不可写：每次启动都要重新编译，--memory 也不能用（可用 CPM_LIVE_CACHE 另指一处）。",
    en: "The cache folder {folder} cannot be written: models are compiled at every start, and --memory cannot be used (CPM_LIVE_CACHE names another).",
  },
  loading: { zh: "正在打开 {models}……", en: "Opening {models} …" },
  serving: {
    zh: "{models} 已就绪：{url}/v1（Ctrl-C 结束）",
    en: "{models} at {url}/v1 (Ctrl-C ends)",
  },
  withoutKeys: {
    zh: "没有 API 密钥：能连上的人都能用。",
    en: "Without API keys: whoever can connect may use it.",
  },
  draining: { zh: "正在等未完成的请求……", en: "Waiting for open requests …" },
  sameName: { zh: "两个模型同名。", en: "Two models have the same name." },
  nameThem: { zh: "写作“名称=路径”来区分。", en: "Write NAME=PATH to tell them apart." },
  openRefused: {
    zh: "没有 API 密钥就不在本机以外的地址上监听。",
    en: "Without API keys the server does not listen beyond this machine.",
  },
  openHint: {
    zh: "用 cpm serve keys add 建密钥并给出 --keys，或用 --open 明确允许。",
    en: "Make keys with cpm serve keys add and give --keys, or say --open.",
  },
  portTaken: { zh: "端口 {port} 已被占用。", en: "Port {port} is taken." },
  exampleOne: { zh: "在本机提供一个模型", en: "one model, on this machine" },
  exampleKeys: { zh: "对外提供，凭密钥使用", en: "for others, with keys" },
  keysSummary: { zh: "管理 API 密钥：add、list、revoke", en: "API keys: add, list, revoke" },
  keysDescription: {
    zh: "密钥有 256 位随机数，文件中只存其 SHA-256，原文只在添加时显示一次。运行中的服务在一秒内认得改动。",
    en: "A key is 256 random bits, of which the file holds the SHA-256; the key itself is shown once, when it is added. A running server follows within a second.",
  },
  keysAction: { zh: "add 添加，list 列出，revoke 撤销", en: "add, list or revoke" },
  keysTarget: { zh: "revoke：密钥的编号或名称", en: "revoke: id or name of the key" },
  keysFile: { zh: "密钥文件", en: "file of the keys" },
  keysName: { zh: "add：密钥的名称", en: "add: name of the key" },
  keysScopes: {
    zh: "add：允许做的事：generate 生成与填空，embed 向量，score 打分",
    en: "add: what it allows: generate (also blanks), embed, score",
  },
  requestsPerMinute: { zh: "add：每分钟的请求数上限", en: "add: requests a minute at most" },
  tokensPerMinute: {
    zh: "add：每分钟的词元数上限，读写合计",
    en: "add: tokens a minute at most, read and generated",
  },
  keysNeedName: { zh: "请用 --name 给密钥一个名称。", en: "Give the key a name with --name." },
  keysNeedTarget: { zh: "请给出要撤销的编号或名称。", en: "Give the id or the name of the key to revoke." },
  keyAdded: {
    zh: "已添加 {name}（{id}）。密钥只显示这一次：",
    en: "Added {name} ({id}). The key is shown this once:",
  },
  keysRevoked: { zh: "已撤销 {count} 个密钥。", en: "{count} keys were revoked." },
  keyRevoked: { zh: "已撤销", en: "revoked" },
  keyGood: { zh: "有效", en: "good" },
  columnId: { zh: "编号", en: "id" },
  columnName: { zh: "名称", en: "name" },
  columnScopes: { zh: "权限", en: "scopes" },
  columnLimits: { zh: "每分钟请求/词元", en: "requests/tokens a minute" },
  columnState: { zh: "状态", en: "state" },
  columnCreated: { zh: "添加于", en: "created" },
  exampleAdd: { zh: "添加一个有上限的密钥", en: "a key with limits" },
  exampleRevoke: { zh: "撤销", en: "revoke it" },
});
