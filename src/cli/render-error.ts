/**
 * Errors as the reader sees them. A library error is English; in Chinese its headline and remedy come from the catalogue
 * by code (`messages/errors.ts`) and the original sentence follows as detail. An error that the command itself worded in
 * Chinese is shown as it is.
 */
import { CpmError } from "../util/error.ts";
import type { Locale } from "./locale.ts";
import { errorCatalogue } from "./messages/errors.ts";
import { frame } from "./messages/frame.ts";

const han = /\p{Script=Han}/u;

/** An error as a few lines without a trailing line break, for the terminal. */
export function renderError(error: unknown, locale: Locale): string {
  if (!(error instanceof CpmError)) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return `cpm: ${frame.errorLabel[locale]}${colon(locale)}${frame.internalError[locale]}\n${stack}`;
  }
  const entry = errorCatalogue[error.code];
  const ownWords = locale === "en" || han.test(error.what) || entry === undefined;
  const headline = ownWords ? error.what : entry.zh;
  const lines = [`cpm: ${frame.errorLabel[locale]} ${error.code}${colon(locale)}${headline}`];
  const add = (label: keyof typeof frame, value: string | undefined) => {
    if (value !== undefined && value !== "") {
      lines.push(`  ${frame[label][locale]}${colon(locale)}${value.replaceAll("\n", "\n    ")}`);
    }
  };
  if (!ownWords) add("detailLabel", error.what);
  add("whereLabel", error.where);
  add("gotLabel", error.got);
  add("expectedLabel", error.expected);
  if (locale === "zh" && entry !== undefined && (error.hint === undefined || !han.test(error.hint))) {
    add("hintLabel", entry.remedy.zh);
    add("hintLabel", error.hint);
  } else {
    add("hintLabel", error.hint ?? entry?.remedy.en);
  }
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    add("causeLabel", cause.message.split("\n")[0]);
  }
  return lines.join("\n");
}

/** The same as an object, for `--json`. */
export function errorAsJson(error: unknown): Record<string, unknown> {
  if (error instanceof CpmError) {
    const { code, what, where, got, expected, hint } = error;
    return { error: { code, message: what, where, got, expected, hint } };
  }
  return { error: { code: "internal", message: error instanceof Error ? error.message : String(error) } };
}

function colon(locale: Locale): string {
  return locale === "zh" ? "：" : ": ";
}
