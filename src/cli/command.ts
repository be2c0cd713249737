/**
 * Commands. One zod schema per command is the only statement of its options: from it come the types, the flags, the
 * help, the YAML recipe's checks, the JSON Schema and the reference page.
 *
 *     export default defineCommand({
 *       name: "tokenize",
 *       summary: { zh: "…", en: "…" },
 *       json: true,
 *       schema: z.object({
 *         text: z.array(z.string()).default([]).describe("texts").meta({ zh: "文本", positional: true }),
 *         vocab: z.string().describe("vocabulary file").meta({ zh: "词表文件", placeholder: "FILE" }),
 *         keepUnknown: z.boolean().default(false).describe("…").meta({ zh: "…" }),   // --keep-unknown
 *       }),
 *       async run(options, context) { … return 0; },
 *     });
 *
 * A field's English text is `.describe(…)`, the Chinese one `.meta({ zh })`; the other keys of `.meta` are those of
 * `FieldMeta`. A nested object has no flag: it is set in a recipe or with `--set a.b=value`.
 */
import type { z } from "zod";
import type { CommandContext } from "./context.ts";
import type { Bilingual } from "./messages/message.ts";

/** What `.meta()` of an option's schema may say, besides `description`. */
export interface FieldMeta {
  readonly description?: string;
  readonly zh?: string;
  /** "bytes" and "duration" are read with units; any other unit is only shown. */
  readonly unit?: string;
  /** The flag's name without dashes, where it is not the key in kebab-case; `false`: no flag, recipes and --set only. */
  readonly flag?: string | false;
  /** One letter. */
  readonly alias?: string;
  /** An argument without a flag; several are taken in the order of the schema. An array takes the rest. */
  readonly positional?: boolean;
  /** What stands for the value in the help: FILE, PATH, N. */
  readonly placeholder?: string;
}

export interface CommandExample extends Bilingual {
  /** The command line, without the leading `cpm`. */
  readonly line: string;
}

export interface CommandDefinition<S extends z.ZodObject = z.ZodObject> {
  /** One or two words, as "tokenizer train". */
  readonly name: string;
  readonly summary: Bilingual;
  /** A paragraph for the help and the reference page. */
  readonly description?: Bilingual;
  readonly examples?: readonly CommandExample[];
  /** The command reads, and can write its findings as JSON: gives it `--json`. */
  readonly json?: boolean;
  readonly schema: S;
  /** Returns the exit code; nothing means 0. Throws `CpmError`s. */
  run(options: z.output<S>, context: CommandContext): Promise<number | undefined> | Promise<void>;
}

/** Declares a command. The schema's type flows into `run`. */
export function defineCommand<S extends z.ZodObject>(definition: CommandDefinition<S>): CommandDefinition<S> {
  return definition;
}
