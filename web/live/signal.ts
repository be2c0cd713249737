/** A value that components follow. */
import { useEffect, useState } from "preact/hooks";

export interface Signal<T> {
  get(): T;
  set(value: T): void;
  subscribe(listener: () => void): () => void;
}

export function signal<T>(initial: T): Signal<T> {
  let value = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const listener of [...listeners]) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

/** The value, and a new rendering whenever it changes. */
export function useSignal<T>(source: Signal<T>): T {
  const [, render] = useState(0);
  useEffect(() => source.subscribe(() => render((n) => n + 1)), [source]);
  return source.get();
}
