/** The exit codes of `cpm`: a small stable set that scripts can branch on. `docs/cli.md` lists them from this table. */
import {
  CancelledError,
  CheckpointError,
  ConfigError,
  DataError,
  FileError,
  RuntimeError,
  UnsupportedError,
} from "../util/error.ts";

export const exitCodes = {
  ok: { code: 0, zh: "成功", en: "success" },
  failure: { code: 1, zh: "运行失败，或程序自身有错", en: "the work failed, or the program has a bug" },
  usage: { code: 2, zh: "命令行、配方或配置有误", en: "a wrong command line, recipe or configuration" },
  environment: {
    code: 3,
    zh: "环境不满足：平台、设备、Node 版本或运行时",
    en: "the environment will not do: platform, device, Node version or runtime",
  },
  input: {
    code: 4,
    zh: "输入文件或数据有误：读不到、损坏或格式不符",
    en: "a bad input file or bad data: unreadable, damaged or of another format",
  },
  interrupted: { code: 130, zh: "被 Ctrl-C 中断", en: "interrupted by Ctrl-C" },
  pipeClosed: {
    code: 141,
    zh: "输出的读者提前关闭了管道",
    en: "the reader of the output closed the pipe early",
  },
  terminated: { code: 143, zh: "被 SIGTERM 终止", en: "ended by SIGTERM" },
} as const;

/** The exit code for what a command threw, by the class of the error. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof ConfigError) return exitCodes.usage.code;
  if (error instanceof UnsupportedError || error instanceof RuntimeError) return exitCodes.environment.code;
  if (error instanceof CheckpointError || error instanceof DataError || error instanceof FileError) {
    return exitCodes.input.code;
  }
  if (error instanceof CancelledError) return exitCodes.interrupted.code;
  return exitCodes.failure.code;
}
