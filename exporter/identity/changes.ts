// Revision counter and change notification shared by the implementations of Identity.
import type { IdentityChange } from './types.ts';

export class Changes {
  revision = 1;
  #listeners = new Set<(change: IdentityChange) => void>();
  #pending: { ranges: boolean } | undefined;

  /** Notes a change; listeners hear of all changes of this turn of the event loop in one call. */
  bump(ranges = false): void {
    this.revision++;
    if (this.#pending !== undefined) {
      this.#pending.ranges ||= ranges;
      return;
    }
    this.#pending = { ranges };
    setImmediate(() => {
      const change = { revision: this.revision, ranges: this.#pending?.ranges ?? false };
      this.#pending = undefined;
      for (const listener of [...this.#listeners]) listener(change);
    });
  }

  subscribe(listener: (change: IdentityChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
