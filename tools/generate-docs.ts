/**
 * Writes the reference pages from their sources: `docs/cli.md` from the commands' schemas, `docs/errors.md` from the
 * catalogue of errors. `npm run docs` writes them; `test/generated-docs.test.ts` fails where a page is not what its
 * source says.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { CommandDefinition } from "../src/cli/command.ts";
import { exitCodes } from "../src/cli/exit-codes.ts";
import { type Field, fieldsOf } from "../src/cli/fields.ts";
import { fieldDescription, nestedSettings, usageLine } from "../src/cli/help.ts";
import { errorCatalogue } from "../src/cli/messages/errors.ts";
import { frame } from "../src/cli/messages/frame.ts";
import { verbs } from "../src/cli/registry.ts";

const root = new URL("../", import.meta.url);
const notice = "<!-- Written by `npm run docs`: change the source, not this page. -->";

/** Every generated page by its path from the repository's root. */
export async function generatedPages(): Promise<ReadonlyMap<string, string>> {
  const commands = await Promise.all(verbs.map(async (verb) => (await verb.load()).default));
  return new Map([
    ["docs/cli.md", cliPage(commands)],
    ["docs/errors.md", errorsPage()],
  ]);
}

/** The paths of pages that are missing or stale. */
export async function stalePages(): Promise<string[]> {
  const stale: string[] = [];
  for (const [path, text] of await generatedPages()) {
    let written = "";
    try {
      written = readFileSync(new URL(path, root), "utf8");
    } catch {
      // A missing page is a stale one.
    }
    if (written !== text) stale.push(path);
  }
  return stale;
}

function cliPage(commands: readonly CommandDefinition[]): string {
  const anchor = (name: string) => `cpm-${name.replaceAll(" ", "-")}`;
  const overview = commands.map(
    ({ name, summary }) => `| [\`cpm ${name}\`](#${anchor(name)}) | ${summary.zh} | ${summary.en} |`,
  );
  const codes = Object.values(exitCodes).map(({ code, zh, en }) => `| ${code} | ${zh} | ${en} |`);
  const common = [
    ["`-c, --recipe FILE`", frame.recipeOption],
    ["`--set KEY=VALUE`", frame.setOption],
    ["`--json`", frame.jsonOption],
    ["`--json-schema`", frame.schemaOption],
    ["`--lang zh\\|en`", frame.langOption],
    ["`-h, --help`", frame.helpOption],
  ] as const;
  return `${[
    "# 命令 · Commands",
    notice,
    `| 命令 · command | 作用 | purpose |\n|---|---|---|\n${overview.join("\n")}`,
    "## 选项从哪里来 · Where options come from",
    "优先级从低到高：缺省值、配方（`-c`）、`--set`、命令行选项。配方是 YAML，键名与下表“设置”一栏相同；不认识的键是错误。字节数写作 `4GiB`（1024 进）或 `4GB`（1000 进），时间写作 `90s`、`3m`、`1h30m`。",
    "From low to high: defaults, the recipe (`-c`), `--set`, flags. A recipe is YAML with the keys of the column “setting”; a key that is not known is an error. Bytes are written `4GiB` (powers of 1,024) or `4GB` (powers of 1,000), durations `90s`, `3m`, `1h30m`.",
    "| 通用选项 · common | 作用 | purpose |\n|---|---|---|\n" +
      common.map(([flag, text]) => `| ${flag} | ${cell(text.zh)} | ${cell(text.en)} |`).join("\n"),
    "`--json` 只属于读取信息的命令；失败时错误也写成 JSON（标准错误）。",
    "`--json` belongs to the commands that report something; with it errors are JSON too (on stderr).",
    "## 退出码 · Exit codes",
    `| 码 · code | 含义 | meaning |\n|---|---|---|\n${codes.join("\n")}`,
    ...commands.map((command) => commandSection(command)),
  ].join("\n\n")}\n`;
}

function commandSection(command: CommandDefinition): string {
  const fields = fieldsOf(command.schema);
  const rows = [
    ...fields
      .filter((field) => field.kind !== "object" && (field.flag !== undefined || field.positional))
      .map((field) => [flagCell(field), field.key, field] as const),
    ...nestedSettings(fields).map(([name, field]) => ["", name, field] as const),
  ].map(
    ([flag, key, field]) =>
      `| ${flag} | \`${key}\` | ${cell(fieldDescription(field, "zh"))} | ${cell(fieldDescription(field, "en"))} |`,
  );
  const parts = [
    `## cpm ${command.name}`,
    (command.description ?? command.summary).zh,
    (command.description ?? command.summary).en,
    `\`\`\`\ncpm ${command.name} ${usageLine(fields, "en")}\n\`\`\``,
  ];
  if (rows.length > 0) {
    parts.push(`| 选项 · flag | 设置 · setting | 作用 | purpose |\n|---|---|---|---|\n${rows.join("\n")}`);
  }
  if (command.json === true) parts.push("可加 · also: `--json`");
  for (const { line, zh, en } of command.examples ?? []) {
    parts.push(`${zh} · ${en}\n\n\`\`\`\ncpm ${line}\n\`\`\``);
  }
  return parts.join("\n\n");
}

function flagCell(field: Field): string {
  if (field.positional) return `\`<${field.placeholder}>\``;
  const long = field.defaultValue === true ? `--no-${field.flag}` : `--${field.flag}`;
  const value = field.kind === "boolean" ? "" : ` ${field.placeholder}`;
  return `\`${field.alias === undefined ? "" : `-${field.alias}, `}${long}${value}\``;
}

function errorsPage(): string {
  const sections = Object.entries(errorCatalogue)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, { zh, en, remedy }]) => `## ${code}\n\n${zh}${remedy.zh}\n\n${en} ${remedy.en}`);
  return `${[
    "# 错误代码 · Error codes",
    notice,
    "每个错误都有稳定的代码。库中的错误是 `CpmError`（`src/util/error.ts`），带有 `code`、`where`、`got`、`expected`、`hint`。",
    "Every error has a stable code. The library throws `CpmError`s (`src/util/error.ts`) with `code`, `where`, `got`, `expected` and `hint`.",
    ...sections,
  ].join("\n\n")}\n`;
}

/** A bar would end the cell. */
function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n", " ").replaceAll("<", "&lt;");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, text] of await generatedPages()) writeFileSync(new URL(path, root), text);
}
