// Makes Workload objects: sanitised, frozen, and the same object for the same content. Used by host.ts and kubernetes/.
import { sanitise } from './text.ts';
import type { Workload } from './types.ts';

/** Beyond this many the table starts anew: callers then see new objects of equal content, which costs time only. */
const MAX_INTERNED = 65_536;

export class Workloads {
  #known = new Map<string, Workload>();

  get size(): number {
    return this.#known.size;
  }

  of(name: string, kind: string, more: { namespace?: string; pod?: string; zone?: string } = {}): Workload {
    const namespace = more.namespace ?? '';
    const key = `${name}\0${kind}\0${namespace}\0${more.pod ?? ''}\0${more.zone ?? ''}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const workload: Workload = Object.freeze({
      name: sanitise(name) || 'unknown',
      kind: sanitise(kind) || 'Unknown',
      namespace: sanitise(namespace),
      ...(more.pod === undefined ? {} : { pod: sanitise(more.pod) }),
      ...(more.zone === undefined ? {} : { zone: sanitise(more.zone) }),
    });
    if (this.#known.size >= MAX_INTERNED) this.#known.clear();
    this.#known.set(key, workload);
    return workload;
  }
}
