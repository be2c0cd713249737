/** The theme's colours as a canvas takes them. */
import { scheme } from "./settings.ts";

const known = new Map<string, string>();

/**
 * A CSS variable's colour in the scheme that is on. The property itself may be an expression that only a style resolves,
 * which costs the browser a pass over the page: each is asked for once.
 */
export function themeColor(name: string): string {
  const key = `${scheme.get()} ${name}`;
  let color = known.get(key);
  if (color === undefined) {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    color = getComputedStyle(probe).color;
    probe.remove();
    known.set(key, color);
  }
  return color;
}
