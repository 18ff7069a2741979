// Keeps long work from holding the event loop: runs a generator in slices. Used by the collector and the writers.
import { setImmediate as immediate } from 'node:timers/promises';

/** Longest slice in milliseconds. The bound on the event loop is 10 ms: a slice may overrun by one step, and garbage is collected in between. */
export const SLICE_MILLIS = 2;

/** Runs `work` to its end, giving way to other work after every slice. */
export async function runPaced(work: Iterator<void>): Promise<void> {
  let sliceEnd = performance.now() + SLICE_MILLIS;
  while (!work.next().done) {
    if (performance.now() >= sliceEnd) {
      await immediate();
      sliceEnd = performance.now() + SLICE_MILLIS;
    }
  }
}
