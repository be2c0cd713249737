/**
 * Every error code of the kit: its headline in Chinese, its meaning in English and the remedy in both. The English
 * headline is the error's own sentence. `docs/errors.md` is written from this table, and a test demands an entry for
 * every code in the sources.
 */
import type { Bilingual } from "./message.ts";

export interface ErrorEntry extends Bilingual {
  readonly remedy: Bilingual;
}

export const errorCatalogue: Readonly<Record<string, ErrorEntry>> = {
  CPM_CLI_USAGE: {
    zh: "命令行有误。",
    en: "The command line is wrong: an unknown command or option, or a value is missing.",
    remedy: { zh: "运行 cpm <命令> --help 查看用法。", en: "Run cpm <command> --help for the usage." },
  },
};
