// The two kinds of table that cluster.ts is made of.
import { sameProjection } from './objects.ts';
import type { Sink } from './reflector.ts';

/** Keeps previous objects and works out what a reflector's call changes. */
export class Table<T extends { readonly key: string }> implements Sink<T> {
  readonly objects = new Map<string, T>();
  readonly #changed: (before: T | undefined, after: T | undefined, initial: boolean) => void;

  constructor(changed: (before: T | undefined, after: T | undefined, initial: boolean) => void) {
    this.#changed = changed;
  }

  set(object: T, initial: boolean): void {
    const before = this.objects.get(object.key);
    if (before !== undefined && sameProjection(before, object)) return;
    this.objects.set(object.key, object);
    this.#changed(before, object, initial);
  }

  retain(keys: ReadonlySet<string>): void {
    for (const key of [...this.objects.keys()]) if (!keys.has(key)) this.delete(key);
  }

  delete(key: string): void {
    const before = this.objects.get(key);
    if (before === undefined) return;
    this.objects.delete(key);
    this.#changed(before, undefined, false);
  }
}

/** Value → how many say so; the last to add wins, and stays until it is withdrawn. */
export class Multi<V> {
  readonly #map = new Map<string, V[]>();

  add(key: string, value: V): void {
    const list = this.#map.get(key);
    if (list === undefined) this.#map.set(key, [value]);
    else list.push(value);
  }

  remove(key: string, value: V): void {
    const list = this.#map.get(key);
    const index = list?.lastIndexOf(value) ?? -1;
    if (list === undefined || index < 0) return;
    if (list.length === 1) this.#map.delete(key);
    else list.splice(index, 1);
  }

  get(key: string): V | undefined {
    return this.#map.get(key)?.at(-1);
  }

  has(key: string): boolean {
    return this.#map.has(key);
  }

  keys(): IterableIterator<string> {
    return this.#map.keys();
  }

  get size(): number {
    return this.#map.size;
  }
}
