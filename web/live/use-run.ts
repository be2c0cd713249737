/** A run followed by a component: its store, redrawn at most so many times a second. */
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchRun, type RunDescription, runBase } from "./api.ts";
import { type ConnectionState, followRun, type RunFeed } from "./event-source.ts";
import { createRunStore, type RunStore } from "./run-store.ts";
import type { SharedStream } from "./shared-stream.ts";

export interface FollowedRun {
  readonly store: RunStore;
  readonly description: RunDescription | undefined;
  readonly state: ConnectionState;
  readonly position: number;
}

/** Between two renderings; while all of a long run is being read, reading goes first. */
const renderMs = 250;
const loadingRenderMs = 1000;

/** `shared`: its events come with those of other runs. */
export function useRun(id: string, shared?: SharedStream): FollowedRun {
  const [, render] = useState(0);
  const [description, setDescription] = useState<RunDescription>();
  const current = useRef<{ id: string; store: RunStore; feed: RunFeed } | undefined>(undefined);
  useEffect(() => {
    const store = createRunStore();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let ended = -1;
    const load = () => void fetchRun(id).then((found) => found && setDescription(found));
    const onChange = () => {
      const ends = store.timeline.filter(({ type }) => type === "end" || type === "start").length;
      if (ends !== ended) {
        ended = ends;
        load(); // its status has changed
      }
      timer ??= setTimeout(
        () => {
          timer = undefined;
          render((n) => n + 1);
        },
        feed.state === "loading" && store.length > 0 ? loadingRenderMs : renderMs,
      );
    };
    const feed = followRun(runBase(id), store, onChange, shared?.of(id));
    current.current = { id, store, feed };
    load();
    render((n) => n + 1);
    return () => {
      feed.close();
      clearTimeout(timer);
    };
  }, [id]);
  const followed = current.current;
  if (followed === undefined || followed.id !== id)
    return { store: emptyStore, description: undefined, state: "loading", position: 0 };
  return { store: followed.store, description, state: followed.feed.state, position: followed.feed.position };
}

const emptyStore = createRunStore();
