/** Errors of the command line itself. */
import type { ErrorEntries } from "./error-entry.ts";

const seeHelp = { zh: "运行 cpm <命令> --help 查看用法。", en: "Run cpm <command> --help for the usage." };

export const cliErrors: ErrorEntries = {
  CPM_CANCELLED: {
    zh: "已按要求中断。",
    en: "The work was stopped on request (Ctrl-C, SIGTERM or an abort signal).",
    remedy: { zh: "需要时重新运行。", en: "Run it again when needed." },
  },
  CPM_CLI_FILE: {
    zh: "读不到文件。",
    en: "A file that the command line names cannot be read.",
    remedy: { zh: "检查路径和权限。", en: "Check the path and its permissions." },
  },
  CPM_CLI_LANGUAGE: {
    zh: "没有这种界面语言。",
    en: "The value of --lang or CPM_LANG is no language of the messages.",
    remedy: { zh: "使用 zh 或 en。", en: "Use zh or en." },
  },
  CPM_CLI_MISSING: {
    zh: "缺少必填的选项或参数。",
    en: "A required option or argument is missing from flags, --set and the recipe.",
    remedy: seeHelp,
  },
  CPM_CLI_NO_TEXT: {
    zh: "语料中没有文本。",
    en: "The files that were given hold no text that could be read.",
    remedy: { zh: "检查路径、格式和字段名。", en: "Check the paths, the format and the name of the field." },
  },
  CPM_CLI_OPTION: {
    zh: "选项的值有误。",
    en: "An option has a value of the wrong type or outside its range.",
    remedy: seeHelp,
  },
  CPM_CLI_RECIPE: {
    zh: "配方文件的内容有误。",
    en: "A recipe is not a YAML map: its syntax is wrong, it is too large, or a key stands twice.",
    remedy: { zh: "修改配方中指出的位置。", en: "Mend the recipe at the place that is named." },
  },
  CPM_CLI_RECIPE_READ: {
    zh: "读不到配方文件。",
    en: "The recipe given with -c cannot be read.",
    remedy: { zh: "检查路径和权限。", en: "Check the path and its permissions." },
  },
  CPM_CLI_TEXT: {
    zh: "文本输入中有不能用的一行。",
    en: "A line of the text input is not UTF-8, is too long, or has no text in its JSON.",
    remedy: { zh: "修改指出的那一行。", en: "Mend the line that is named." },
  },
  CPM_CLI_UNKNOWN_KEY: {
    zh: "配方或 --set 中有不存在的设置项。",
    en: "A recipe or --set names a setting that the command does not have.",
    remedy: {
      zh: "检查拼写；cpm <命令> --json-schema 列出所有设置。",
      en: "Check the spelling; cpm <command> --json-schema lists all settings.",
    },
  },
  CPM_CLI_USAGE: {
    zh: "命令行有误。",
    en: "The command line is wrong: an unknown command or option, a missing value or an argument too many.",
    remedy: seeHelp,
  },
  CPM_NODE_TOO_OLD: {
    zh: "Node.js 版本太旧。",
    en: "This Node.js is older than 22.18.",
    remedy: {
      zh: "升级 Node.js，或在项目目录中用 npx cpm 运行。",
      en: "Upgrade Node.js, or run npx cpm inside the project.",
    },
  },
};
