/**
 * A queue that is fair between its users: start-time fair queueing (Goyal, Vin and Cheng, 1996).
 *
 * Each item has a cost. A user's items have start tags one after another, S = max(v, F) with F the user's last finish tag
 * and F ← S + cost; the item with the smallest start tag is next, and v is its tag. So whoever asks for much waits behind
 * whoever asks for little, and no one gathers credit by staying away.
 */

export interface FairQueue<T> {
  readonly size: number;
  /** Items of one user. */
  sizeOf(user: string): number;
  push(user: string, cost: number, item: T): void;
  /** The next item, which stays. */
  peek(): T | undefined;
  shift(): T | undefined;
  /** Takes an item out, wherever it is. */
  remove(item: T): boolean;
  /** What an item of the user cost in the end, less what was said: counts from the user's next item on. */
  settle(user: string, difference: number): void;
  items(): IterableIterator<T>;
}

interface Entry<T> {
  readonly start: number;
  readonly cost: number;
  readonly item: T;
}

interface User<T> {
  readonly waiting: Entry<T>[];
  finish: number;
}

export function createFairQueue<T>(): FairQueue<T> {
  const users = new Map<string, User<T>>();
  let virtual = 0;
  let size = 0;

  function first(): { name: string; user: User<T> } | undefined {
    let best: { name: string; user: User<T> } | undefined;
    for (const [name, user] of users) {
      const start = user.waiting[0]?.start;
      if (start !== undefined && (best === undefined || start < best.user.waiting[0]!.start)) best = { name, user };
    }
    return best;
  }

  /** A user that waits for nothing and owes nothing is as good as a new one. */
  function forget(): void {
    for (const [name, user] of users) if (user.waiting.length === 0 && user.finish <= virtual) users.delete(name);
  }

  function userOf(name: string): User<T> {
    let user = users.get(name);
    if (user === undefined) {
      if (users.size > 1000) forget();
      user = { waiting: [], finish: virtual };
      users.set(name, user);
    }
    return user;
  }

  return {
    get size() {
      return size;
    },
    sizeOf: (name) => users.get(name)?.waiting.length ?? 0,
    push(name, cost, item) {
      const user = userOf(name);
      const start = Math.max(virtual, user.finish);
      user.finish = start + cost;
      user.waiting.push({ start, cost, item });
      size++;
    },
    peek: () => first()?.user.waiting[0]?.item,
    shift() {
      const next = first();
      if (next === undefined) return undefined;
      const { start, item } = next.user.waiting.shift()!;
      virtual = start;
      size--;
      return item;
    },
    remove(item) {
      for (const user of users.values()) {
        const at = user.waiting.findIndex((entry) => entry.item === item);
        if (at < 0) continue;
        // What was not served is not owed, and what stands behind moves up.
        const [{ cost }] = user.waiting.splice(at, 1) as [Entry<T>];
        user.finish -= cost;
        for (let i = at; i < user.waiting.length; i++) {
          const entry = user.waiting[i]!;
          user.waiting[i] = { ...entry, start: entry.start - cost };
        }
        size--;
        return true;
      }
      return false;
    },
    settle(name, difference) {
      const user = userOf(name);
      user.finish = Math.max(virtual, user.finish + difference);
    },
    *items() {
      for (const { waiting } of users.values()) for (const { item } of waiting) yield item;
    },
  };
}
