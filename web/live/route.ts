/** Where the reader is, in the address behind #, so that every view has a link: `#/`, `#/run/ID?tab=…`, `#/compare?runs=A,B`. */
import { signal } from "./signal.ts";

export interface Route {
  readonly page: "list" | "run" | "compare";
  readonly id: string;
  readonly query: URLSearchParams;
}

function parse(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, id] = path.split("/");
  const parameters = new URLSearchParams(query);
  if (page === "run" && id) return { page, id: decodeURIComponent(id), query: parameters };
  if (page === "compare") return { page, id: "", query: parameters };
  return { page: "list", id: "", query: parameters };
}

export const route = signal<Route>(parse());
addEventListener("hashchange", () => route.set(parse()));

/** Changes settings of the view in place, without a step in the history. */
export function setQuery(changes: Readonly<Record<string, string | undefined>>): void {
  const { query } = route.get();
  const next = new URLSearchParams(query);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) next.delete(key);
    else next.set(key, value);
  }
  const [path] = location.hash.split("?");
  const text = next.toString();
  history.replaceState(null, "", `${path || "#/"}${text ? `?${text}` : ""}`);
  route.set(parse());
}
