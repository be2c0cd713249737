/** Where a program may keep what it can make again: the platform's folder for caches, or the one that is asked for. */
import { homedir } from "node:os";
import { join } from "node:path";

/** `CPM_LIVE_CACHE`, else `cpm-live` in the user's folder for caches. */
export function userCacheFolder(
  env: Readonly<Record<string, string | undefined>>,
  platform = process.platform,
): string {
  if (env.CPM_LIVE_CACHE) return env.CPM_LIVE_CACHE;
  const home = env.HOME ?? homedir();
  if (platform === "darwin") return join(home, "Library", "Caches", "cpm-live");
  if (platform === "win32") return join(env.LOCALAPPDATA ?? join(home, "AppData", "Local"), "cpm-live", "Cache");
  return join(env.XDG_CACHE_HOME ?? join(home, ".cache"), "cpm-live");
}
