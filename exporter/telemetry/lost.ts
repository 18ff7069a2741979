// The one counter of losses: every module that cannot keep something says so here, and an alert rule watches it.
import type { Counter, SeriesStore } from './store.ts';

/**
 * Counts `n` things lost at `stage` (default 1). `stage` is a short constant in snake case, never built from data.
 * 0 makes the series exist, so that the first loss is an increase.
 */
export type Lost = (stage: string, n?: number) => void;

/** Makes a function that counts into `knp.agent.lost`. */
export function createLost(store: SeriesStore): Lost {
  const counters = new Map<string, Counter>();
  return (stage, n = 1) => {
    let counter = counters.get(stage);
    if (!counter) {
      counter = store.counter('knp.agent.lost', { stage });
      counters.set(stage, counter);
    }
    counter.add(n);
  };
}
