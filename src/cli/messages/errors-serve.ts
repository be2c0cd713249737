/** Errors of starting a server and of its keys. What the API answers is in `serve/api-errors.ts`. */
import type { ErrorEntries } from "./error-entry.ts";

export const serveErrors: ErrorEntries = {
  CPM_SERVE_KEYS: {
    zh: "API 密钥文件有误。",
    en: "The file of API keys cannot be read or is not as it must be.",
    remedy: {
      zh: "按提示改正，或删去后用 cpm serve keys add 重建。",
      en: "Mend what the error says, or remove the file and add the keys anew with cpm serve keys add.",
    },
  },
  CPM_SERVE_KEY_UNKNOWN: {
    zh: "没有这个 API 密钥。",
    en: "No API key has this id or name.",
    remedy: { zh: "用 cpm serve keys list 查看。", en: "cpm serve keys list shows them." },
  },
  CPM_SERVE_MODEL: {
    zh: "子进程打不开模型。",
    en: "A worker process could not open the model.",
    remedy: { zh: "按其说明改正后再启动。", en: "Mend what it says and start again." },
  },
  CPM_SERVE_OPEN: {
    zh: "没有 API 密钥，不在本机以外的地址上监听。",
    en: "Without API keys the server does not listen beyond this machine.",
    remedy: {
      zh: "建密钥并给出 --keys，或用 --open 明确允许。",
      en: "Make keys and give --keys, or say --open.",
    },
  },
  CPM_SERVE_PORT: {
    zh: "端口已被占用。",
    en: "The port for the server is taken.",
    remedy: { zh: "换一个 --port，或用 --port 0。", en: "Give another --port, or --port 0." },
  },
};
