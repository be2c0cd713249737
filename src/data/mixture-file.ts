/**
 * What a mixture is made of, and the file that says it:
 *
 *     sources:
 *       - data: news            # a data set's folder, from this file
 *         weight: 2             # share of the tokens; by default as many as the source has, so that all is read evenly
 *         epochs: 4             # at most so many passes; without end where absent
 *         fillShare: 0.3        # of samples with the fill objective
 *       - data: books
 *         source: poems         # one source of the data set; all of them where absent
 *         fillShare: 0
 *         wholeShare: 1         # of the other samples: those in which every token is a target
 *
 * A run looks at its file whenever it prepares a batch, one step ahead: it may be changed while the run goes on.
 */
import { readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { parseDocument } from "yaml";
import { z } from "zod";
import { ConfigError, FileError } from "../util/error.ts";

const share = z.number().min(0).max(1);

export const mixtureSchema = z.strictObject({
  sources: z
    .array(
      z.strictObject({
        data: z.string().min(1),
        source: z.string().optional(),
        /** What labels begin with instead of the folder's name. */
        name: z.string().min(1).optional(),
        weight: z.number().positive().optional(),
        epochs: z.number().positive().optional(),
        fillShare: share.optional(),
        wholeShare: share.optional(),
      }),
    )
    .min(1),
});
export type Mixture = z.output<typeof mixtureSchema>;

/** A mixture is written by hand: anything larger is some other file. */
const maxFileBytes = 1024 * 1024;

/**
 * Reads a mixture; folders are made absolute.
 *
 * @throws FileError CPM_DATA_FILE, ConfigError CPM_DATA_MIXTURE
 */
export async function readMixture(path: string): Promise<Mixture> {
  const bad = (what: string, where: string, got?: string) =>
    new ConfigError("CPM_DATA_MIXTURE", what, { where, got, hint: "sources: a list of { data: FOLDER, weight: 1 }" });
  let text: string;
  try {
    const { size } = await stat(path);
    if (size > maxFileBytes) throw bad("A mixture is too long to be one", path, `${size} bytes`);
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new FileError("CPM_DATA_FILE", "A mixture cannot be read", { where: path, got: String(cause), cause });
  }
  const document = parseDocument(text, { prettyErrors: true, uniqueKeys: true });
  const [problem] = document.errors;
  if (problem !== undefined) {
    const at = problem.linePos?.[0];
    throw bad("A mixture is not YAML", at ? `${path}:${at.line}:${at.col}` : path, problem.message.split("\n")[0]);
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw bad("A mixture is not YAML", path, String(cause));
  }
  const parsed = mixtureSchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw bad("A mixture is not as it must be", path, `${issue?.path.join(".")}: ${issue?.message}`);
  }
  const folder = dirname(resolve(path));
  return { sources: parsed.data.sources.map((source) => ({ ...source, data: resolve(folder, source.data) })) };
}

/** What tells whether a file has been written again: cheap enough to ask before every batch. Empty where it is absent. */
export async function fileStamp(path: string): Promise<string> {
  try {
    const { mtimeNs, size, ino } = await stat(path, { bigint: true });
    return `${mtimeNs} ${size} ${ino}`;
  } catch {
    return "";
  }
}
