// What the kernel counted of one protocol's requests, turned into differences for the protocol's series at every
// collection: gives elements their names, waits for those that have none yet, and lets go of what is done. The protocol's
// source (source.ts) asks for it.
import type { BpfMap } from '../../kernel/native.ts';
import type { Gauge } from '../../telemetry/store.ts';
import type { EdgeDirectory, NamedEdge } from '../edges.ts';
import type { Names } from './names.ts';
import { type RequestKey, type RequestRecords, readCount } from './records.ts';

/** After this time a name that could not be learnt counts as overflow. */
const PATIENCE_MILLIS = 2000;
/** Collections without change after which an element kept under a name's hash is removed. */
const QUIET = 3;
/** Collections after which what was counted on an edge that is not there is given up. One may be newer than the edges. */
const ORPHANED = 3;
/** The map of requests may be this full before elements that are idle are removed. */
const FULL_SHARE = 0.75;
const IDLE_COLLECTIONS = 20;

/** What was added since the last collection; bounds are the catalogue's. */
export interface Difference {
  readonly durations: Float64Array;
  readonly durationSeconds: number;
  readonly firstBytes: Float64Array;
  readonly firstByteSeconds: number;
  readonly requestSizes: Float64Array;
  readonly requestBytes: number;
  readonly responseSizes: Float64Array;
  readonly responseBytes: number;
}

/** The series that one kind of request feeds. */
export interface RequestSeries {
  add(difference: Difference): void;
  /** Nothing was added, and the series is still there. */
  retain(): void;
}

/** All elements of the map of requests, as read in this collection, and those of one protocol among them. */
export interface RequestBatch {
  readonly keys: Buffer;
  readonly values: Buffer;
  /** Bytes of a value. */
  readonly stride: number;
  /** Elements of all protocols. */
  readonly count: number;
  /** Which of them are of the protocol. */
  readonly elements: readonly number[];
  /** Requests in flight now. */
  readonly active: readonly { readonly edgeId: number; readonly operation: number; readonly count: number }[];
}

export interface RequestTableOptions<S extends RequestSeries> {
  /** The map `requests`. */
  readonly requests: BpfMap;
  readonly records: RequestRecords;
  /** Undefined where the protocol's names are a fixed list. */
  readonly names: Names | undefined;
  readonly directory: Pick<EdgeDirectory, 'name' | 'key'>;
  /** Bounds of the duration histograms. */
  readonly bounds: number;
  /** Series of requests of this kind. */
  readonly series: (edge: NamedEdge, key: RequestKey, name: string) => S;
  /** The gauge of requests in flight, and what tells it from others. */
  readonly active?: (edge: NamedEdge, operation: number) => readonly [id: string, gauge: Gauge];
}

/** One element, as last read. */
interface Tracked<S> {
  readonly raw: Buffer;
  readonly key: RequestKey;
  readonly kernelKey: Buffer;
  name: string | undefined;
  /** When it was first seen without a name, by performance.now(). */
  readonly sinceMillis: number;
  quiet: number;
  /** Collections in a row in which something was counted on an edge that is not there. */
  orphaned: number;
  round: number;
  /** The names that `series` was made for. */
  edge: NamedEdge | undefined;
  series: S | undefined;
}

export class RequestTable<S extends RequestSeries> {
  readonly #options: RequestTableOptions<S>;
  readonly #tracked = new Map<string, Tracked<S>>();
  readonly #series = new Map<string, { edgeId: number; edge: NamedEdge; series: S }>();
  #active = new Map<string, Gauge>();
  #round = 0;
  #edgeGone = 0;

  constructor(options: RequestTableOptions<S>) {
    this.#options = options;
  }

  /** Adds to the series what was counted since the last call; in steps of well under a millisecond. */
  *account(batch: RequestBatch): Generator<void, void, void> {
    const { size } = this.#options.records.key;
    this.#round++;
    for (const i of batch.elements) {
      this.#account(batch.keys, i * size, batch.values, i * batch.stride);
      yield;
    }
    this.#forget(batch.count);
    this.#setActive(batch);
  }

  /** The series that count requests of this kind, if they were made: for exemplars. */
  seriesOf(key: RequestKey, name: string): S | undefined {
    return this.#series.get(seriesKey(key, name))?.series;
  }

  /** Requests that could not be counted since the start, for their edge was gone before they were read. */
  get edgeGone(): number {
    return this.#edgeGone;
  }

  #account(keys: Buffer, keyAt: number, values: Buffer, at: number): void {
    const { records } = this.#options;
    const id = keys.toString('latin1', keyAt, keyAt + records.key.size);
    let tracked = this.#tracked.get(id);
    if (tracked === undefined) {
      tracked = this.#track(keys, keyAt);
      this.#tracked.set(id, tracked);
    }
    tracked.round = this.#round;
    if (tracked.raw.compare(values, at, at + records.totals.size) === 0) {
      tracked.quiet++;
      tracked.series?.retain();
      this.#removeWhenDone(id, tracked);
      return;
    }
    tracked.quiet = 0;
    if (this.#resolve(tracked)) this.#add(tracked, values, at);
    else if (this.#isGone(tracked.key.edgeId)) {
      if (++tracked.orphaned >= ORPHANED) this.#remove(id, tracked);
      return;
    }
    tracked.orphaned = 0;
  }

  #isGone(edgeId: number): boolean {
    return this.#options.directory.key(edgeId) === undefined;
  }

  #track(keys: Buffer, at: number): Tracked<S> {
    const { records, names } = this.#options;
    const key = records.decodeKey(keys, at);
    const waits = names !== undefined && key.name === 0 && key.nameHash !== 0n;
    return {
      raw: Buffer.allocUnsafe(records.totals.size).fill(0), // from the pool: there may be thousands
      key,
      kernelKey: Buffer.from(keys.subarray(at, at + records.key.size)),
      name: waits ? undefined : (names?.nameOf(key.name) ?? ''),
      sinceMillis: performance.now(),
      quiet: 0,
      orphaned: 0,
      round: this.#round,
      edge: undefined,
      series: undefined,
    };
  }

  /** Gives an element its series; false: its edge or its name is not known yet, so it waits in the kernel. */
  #resolve(tracked: Tracked<S>): boolean {
    const { directory, names } = this.#options;
    const { key } = tracked;
    if (tracked.name === undefined) {
      tracked.name = names?.resolve(key);
      if (tracked.name === undefined) {
        if (performance.now() - tracked.sinceMillis < PATIENCE_MILLIS) return false;
        tracked.name = names?.overflow ?? '';
      }
    }
    const edge = directory.name(key.edgeId);
    if (edge === undefined) return false;
    if (tracked.edge !== edge) {
      tracked.edge = edge;
      tracked.series = this.#seriesFor(edge, key, tracked.name);
    }
    return true;
  }

  #seriesFor(edge: NamedEdge, key: RequestKey, name: string): S {
    const id = seriesKey(key, name);
    const known = this.#series.get(id);
    if (known?.edge === edge) return known.series;
    const series = this.#options.series(edge, key, name);
    this.#series.set(id, { edgeId: key.edgeId, edge, series });
    return series;
  }

  #add(tracked: Tracked<S>, values: Buffer, at: number): void {
    const { records, bounds } = this.#options;
    const { totals } = records;
    const { raw } = tracked;
    const grown = (offset: number) => readCount(values, at + offset) - readCount(raw, offset);
    const buckets = (offset: number, count: number) => this.#buckets(raw, values, at, offset, count);
    tracked.series?.add({
      durations: this.#durations(raw, values, at),
      durationSeconds: grown(totals.duration) / 1e9,
      firstBytes: buckets(totals.firstBytes, bounds + 1),
      firstByteSeconds: grown(totals.firstByte) / 1e9,
      requestSizes: buckets(totals.requestSizes, totals.sizeBuckets),
      requestBytes: grown(totals.requestBytes),
      responseSizes: buckets(totals.responseSizes, totals.sizeBuckets),
      responseBytes: grown(totals.responseBytes),
    });
    values.copy(raw, 0, at, at + totals.size);
  }

  /** What was added to `count` buckets. */
  #buckets(raw: Buffer, values: Buffer, at: number, offset: number, count: number): Float64Array {
    const { bucketStride } = this.#options.records.totals;
    const out = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const bucket = offset + bucketStride * i;
      out[i] = readCount(values, at + bucket) - readCount(raw, bucket);
    }
    return out;
  }

  #durations(raw: Buffer, values: Buffer, at: number): Float64Array {
    const { records, bounds } = this.#options;
    return this.#buckets(raw, values, at, records.totals.durations, bounds + 1);
  }

  /**
   * Elements under a name's hash are not used any more once the kernel knows its number; elements of an edge that is
   * gone never will be.
   */
  #removeWhenDone(id: string, tracked: Tracked<S>): void {
    const gone = this.#isGone(tracked.key.edgeId);
    const provisional = tracked.key.nameHash !== 0n && tracked.name !== undefined;
    if (tracked.quiet >= QUIET && (gone || provisional)) this.#remove(id, tracked);
  }

  #remove(id: string, tracked: Tracked<S>): void {
    const last = this.#options.requests.lookupAndDelete(tracked.kernelKey);
    if (last !== undefined && tracked.raw.compare(last) !== 0) {
      if (this.#resolve(tracked)) this.#add(tracked, last, 0);
      else this.#edgeGone += this.#durations(tracked.raw, last, 0).reduce((sum, count) => sum + count, 0);
    }
    this.#tracked.delete(id);
    // What was counted under a name's hash shares its series with what the number counts from now on.
    if (tracked.name !== undefined && tracked.key.nameHash === 0n)
      this.#series.delete(seriesKey(tracked.key, tracked.name));
  }

  /** Drops what is no longer in the kernel, and when its map fills up, what is idle there. */
  #forget(count: number): void {
    const full = count > this.#options.requests.maxEntries * FULL_SHARE;
    for (const [id, tracked] of this.#tracked) {
      if (tracked.round !== this.#round) this.#tracked.delete(id);
      else if (full && tracked.quiet >= IDLE_COLLECTIONS) this.#remove(id, tracked);
    }
    // Not every series has an element that could take it along: the number that a name's hash stands for may never be used.
    if (this.#round % IDLE_COLLECTIONS !== 0) return;
    for (const [id, { edgeId }] of this.#series) if (this.#isGone(edgeId)) this.#series.delete(id);
  }

  #setActive(batch: RequestBatch): void {
    const { directory, active } = this.#options;
    if (active === undefined) return;
    const now = new Map<string, { gauge: Gauge; value: number }>();
    for (const { edgeId, operation, count } of batch.active) {
      const edge = directory.name(edgeId);
      if (edge === undefined) continue;
      const [id, gauge] = active(edge, operation);
      now.set(id, { gauge, value: (now.get(id)?.value ?? 0) + count });
    }
    for (const [id, gauge] of this.#active) if (!now.has(id)) gauge.set(0);
    for (const { gauge, value } of now.values()) gauge.set(value);
    this.#active = new Map([...now].map(([id, { gauge }]) => [id, gauge]));
  }
}

function seriesKey(key: RequestKey, name: string): string {
  return `${key.edgeId} ${key.status} ${key.operation} ${key.detail} ${key.error} ${name}`;
}
