/** Reference material beside the checkout (`../shared`): golden tensors, vocabularies, corpora. Absent elsewhere. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../shared/", import.meta.url));

/** The path of a shared file. */
export function sharedPath(path: string): string {
  return root + path;
}

/**
 * For `test(name, { skip: skipWithoutShared("golden") }, …)`: false where the folder or file is there, else the reason,
 * which the test report shows.
 */
export function skipWithoutShared(path: string): string | false {
  return existsSync(root + path) ? false : `SKIPPED: ../shared/${path} is absent, so this was not compared`;
}
