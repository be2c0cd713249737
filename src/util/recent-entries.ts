/** Things by name within a number of bytes: when there is no more room, what was not used for longest goes first. */

export interface RecentEntries<T> {
  /** Bytes held now. */
  readonly bytes: number;
  readonly size: number;
  /** From the one that was not used for longest. */
  entries(): IterableIterator<readonly [name: string, value: T]>;
  /** Counts as used. */
  get(name: string): T | undefined;
  has(name: string): boolean;
  /** Keeps it unless it is there already or larger than all the room. */
  add(name: string, value: T, bytes: number): void;
  clear(): void;
}

/** At most `limitBytes`; with 0 nothing is kept. */
export function createRecentEntries<T>(limitBytes: number): RecentEntries<T> {
  /** In order of use, the last used last. */
  const held = new Map<string, { readonly value: T; readonly bytes: number }>();
  let bytes = 0;
  return {
    get bytes() {
      return bytes;
    },
    get size() {
      return held.size;
    },
    *entries() {
      for (const [name, { value }] of held) yield [name, value] as const;
    },
    get(name) {
      const entry = held.get(name);
      if (entry === undefined) return undefined;
      held.delete(name);
      held.set(name, entry);
      return entry.value;
    },
    has: (name) => held.has(name),
    add(name, value, size) {
      if (size > limitBytes || held.has(name)) return;
      held.set(name, { value, bytes: size });
      bytes += size;
      for (const [oldest, entry] of held) {
        if (bytes <= limitBytes) break;
        held.delete(oldest);
        bytes -= entry.bytes;
      }
    },
    clear() {
      held.clear();
      bytes = 0;
    },
  };
}
