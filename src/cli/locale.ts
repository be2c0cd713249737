/**
 * Which language the command speaks. Chinese first: it is English only where the reader asks for it (`--lang en`,
 * `CPM_LANG=en`) or where the system's locale names a language other than Chinese. "C", "POSIX" and an absent locale,
 * as containers and CI have them, name no language.
 */
import { ConfigError } from "../util/error.ts";

export type Locale = "zh" | "en";

/** The locale for an environment and the value of `--lang`, if one was given. */
export function resolveLocale(flag: string | undefined, env: Readonly<Record<string, string | undefined>>): Locale {
  const asked = flag ?? (env.CPM_LANG || undefined);
  if (asked !== undefined) {
    if (asked === "zh" || asked === "en") return asked;
    throw new ConfigError("CPM_CLI_LANGUAGE", "There is no such language.", {
      where: flag === undefined ? "CPM_LANG" : "--lang",
      got: asked,
      expected: "zh · en",
    });
  }
  const system = env.LC_ALL || env.LC_MESSAGES || env.LANG || "";
  const language = system.split(/[._@]/)[0]!.toLowerCase();
  return language === "" || language === "c" || language === "posix" || language === "zh" ? "zh" : "en";
}
