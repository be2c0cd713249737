/** Language and theme of the reader, kept in the browser where it lets us. */

import type { Language } from "./format.ts";
import { signal } from "./signal.ts";
import { type TextKey, textOf } from "./text.ts";

export type Theme = "auto" | "light" | "dark";

function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // not kept
  }
}

const chosen = new URLSearchParams(location.search).get("lang") ?? stored("cpm-language");
const first: Language =
  chosen === "zh" || chosen === "en" ? chosen : (navigator.language ?? "zh").startsWith("zh") ? "zh" : "en";

export const language = signal<Language>(first);
export const theme = signal<Theme>((stored("cpm-theme") as Theme | null) ?? "auto");

const system = matchMedia("(prefers-color-scheme: dark)");
const schemeNow = () => {
  const chosenTheme = theme.get();
  return chosenTheme === "auto" ? (system.matches ? "dark" : "light") : chosenTheme;
};
/** What the theme comes to on this device. */
export const scheme = signal<"light" | "dark">(schemeNow());
const follow = () => {
  applySettings();
  scheme.set(schemeNow());
};
theme.subscribe(follow);
language.subscribe(applySettings);
system.addEventListener("change", follow);

export function setLanguage(value: Language): void {
  keep("cpm-language", value);
  language.set(value);
}

export function setTheme(value: Theme): void {
  keep("cpm-theme", value);
  theme.set(value);
}

export function applySettings(): void {
  const root = document.documentElement;
  root.lang = language.get() === "zh" ? "zh-Hans" : "en";
  if (theme.get() === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme.get();
}

export function t(key: TextKey): string {
  return textOf(key, language.get());
}
