/**
 * Where the reader is and what the view is set to, in the address behind #, so that a link shows what its sender saw:
 * `#/`, `#/run/ID?tab=…`, `#/compare?runs=A,B`. The parameters of views are in `view.ts`.
 */
import { signal } from "./signal.ts";

export interface Route {
  readonly page: "list" | "run" | "compare";
  readonly id: string;
  readonly query: URLSearchParams;
}

/** Browsers refuse more than some hundred changes of the address in half a minute. */
const writeMs = 400;

function parse(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, id] = path.split("/");
  const parameters = new URLSearchParams(query);
  if (page === "run" && id) return { page, id: decoded(id), query: parameters };
  if (page === "compare") return { page, id: "", query: parameters };
  return { page: "list", id: "", query: parameters };
}

/** A link that was cut off in the middle of an escape still leads somewhere. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const route = signal<Route>(parse());
let writing: ReturnType<typeof setTimeout> | undefined;

addEventListener("hashchange", () => {
  clearTimeout(writing);
  writing = undefined;
  route.set(parse());
});
addEventListener("pagehide", () => writing !== undefined && write());

function write(): void {
  clearTimeout(writing);
  writing = undefined;
  const [path] = location.hash.split("?");
  const text = route.get().query.toString();
  history.replaceState(null, "", `${path || "#/"}${text ? `?${text}` : ""}`);
}

/** Changes settings of the view in place, without a step in the history; the address follows a moment later. */
export function setQuery(changes: Readonly<Record<string, string | undefined>>): void {
  const { page, id, query } = route.get();
  const next = new URLSearchParams(query);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) next.delete(key);
    else next.set(key, value);
  }
  route.set({ page, id, query: next });
  writing ??= setTimeout(write, writeMs);
}
