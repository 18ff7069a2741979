// Turns what the kernel counted of HTTP requests into series at every collection. The collector calls it, after the
// TCP source, which reads the edges; index.ts builds it.
import type { BpfMap } from '../../kernel/native.ts';
import { runPaced } from '../../telemetry/pacing.ts';
import { createServiceGraph, type ServiceGraph } from '../../telemetry/service_graph.ts';
import type { Counter, Gauge, Histogram, SeriesStore } from '../../telemetry/store.ts';
import { type EdgeDirectory, type EdgeLabelOptions, edgeAttributes, type NamedEdge } from '../edges.ts';
import type { Paths } from './paths.ts';
import { type Records, type RequestKey, readCount } from './records.ts';
import { REST } from './routes.ts';
import { type Difference, RequestSeries, requestAttributes } from './series.ts';

/** After this time a path that nobody could name counts as `REST`. */
const PATIENCE_MILLIS = 2000;
/** Collections without change after which an element kept under a path's hash is removed. */
const QUIET = 3;
/** The table of requests may be this full before elements that are idle are removed. */
const FULL_SHARE = 0.75;
const IDLE_COLLECTIONS = 20;

/** Prefix of the kernel's counters of losses. */
const LOST = 'lost_';

/** Reasons of `knp.http.unparsed_connections`, by the kernel's counter. */
const UNPARSED = {
  upgraded: 'upgrade',
  connected: 'connect',
  broken: 'malformed',
  joined: 'joined_midway',
} as const;

/** Kinds of `knp.http.events`, by the kernel's counter. */
const EVENTS = { path_events: 'path', span_events: 'span' } as const;

/** One element of `http_requests`, as last read. */
interface Tracked {
  readonly raw: Buffer;
  readonly key: RequestKey;
  readonly kernelKey: Buffer;
  route: string | undefined;
  /** When it was first seen without a route, by performance.now(). */
  readonly sinceMillis: number;
  quiet: number;
  round: number;
  /** The names that `series` was made for. */
  named: NamedEdge | undefined;
  series: RequestSeries | undefined;
}

export interface HttpSourceOptions {
  readonly requests: BpfMap;
  readonly active: BpfMap;
  readonly shared: BpfMap;
  readonly records: Records;
  readonly paths: Paths;
  readonly directory: Pick<EdgeDirectory, 'name' | 'key'>;
  readonly store: SeriesStore;
  readonly labels: EdgeLabelOptions;
  /** Routes learnt so far. */
  readonly routes: () => number;
  /** Takes in the events that wait in the ring buffer. */
  readonly drain: () => void;
  /** One pass of `http_walk`. */
  readonly walk: () => void;
}

export class HttpSource {
  readonly name = 'http';
  readonly owns = ['http'] as const;
  readonly #options: HttpSourceOptions;
  readonly #graph: ServiceGraph;
  readonly #tracked = new Map<string, Tracked>();
  readonly #series = new Map<string, { named: NamedEdge; series: RequestSeries }>();
  #active = new Map<string, Gauge>();
  readonly #counted: number[];
  /** Series that a counter of the kernel feeds, by its name. */
  readonly #fed: Readonly<Record<string, Counter>>;
  readonly #bounds: number;
  #round = 0;
  #running: Promise<void> | undefined;

  constructor(options: HttpSourceOptions) {
    const { store } = options;
    this.#options = options;
    this.#graph = createServiceGraph(store);
    this.#counted = options.records.counters.map(() => 0);
    this.#bounds = store.bounds('http.server.request.duration').length;
    this.#fed = Object.fromEntries([
      ...Object.entries(UNPARSED).map(([counter, reason]) => [
        counter,
        store.counter('knp.http.unparsed_connections', { reason }),
      ]),
      ...Object.entries(EVENTS).map(([counter, kind]) => [
        counter,
        store.counter('knp.http.events', { kind }),
      ]),
    ]);
  }

  /** The kernel's counters as last read, by name: `connections`, `lost_malformed`, ... */
  get counters(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#options.records.counters.map((name, i) => [name, this.#counted[i] ?? 0]));
  }

  /** What the kernel side lost since its start, by stage, as last read. */
  lost(): Readonly<Record<string, number>> {
    const lost = Object.entries(this.counters).filter(([name]) => name.startsWith(LOST));
    return Object.fromEntries(lost.map(([name, count]) => [`http_${name.slice(LOST.length)}`, count]));
  }

  /** Adds to the store what was counted since the last call. Who asks meanwhile waits for the same end. */
  collect(): Promise<void> {
    this.#running ??= runPaced(this.steps()).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** `collect` in steps of well under a millisecond, but for the reading of the maps. */
  *steps(): Generator<void, void, void> {
    const { requests, records, drain, paths, store, routes } = this.#options;
    this.#round++;
    drain();
    paths.answer();
    const { count, keys, values } = requests.readAll();
    const stride = count === 0 ? 0 : values.length / count;
    for (let i = 0; i < count; i++) {
      this.#account(keys, i * records.key.size, values, i * stride);
      yield;
    }
    this.#forget(count);
    this.#collectActive();
    this.#collectCounters();
    store.gauge('knp.http.routes', {}).set(routes());
  }

  /** The duration histogram that counts requests of this kind, if one was made: for exemplars. */
  histogram(key: RequestKey, route: string): Histogram | undefined {
    return this.#series.get(seriesKey(key, route))?.series.duration;
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
  }

  #track(keys: Buffer, at: number): Tracked {
    const { records, paths } = this.#options;
    const key = records.decodeKey(keys, at);
    return {
      raw: Buffer.allocUnsafe(records.totals.size).fill(0), // from the pool: there may be thousands
      key,
      kernelKey: Buffer.from(keys.subarray(at, at + records.key.size)),
      route: key.route === 0 && key.pathHash !== 0n ? undefined : paths.routeName(key.route),
      sinceMillis: performance.now(),
      quiet: 0,
      round: this.#round,
      named: undefined,
      series: undefined,
    };
  }

  /** Gives an element its series; false: its edge or its route is not known yet, so it waits in the kernel. */
  #resolve(tracked: Tracked): boolean {
    const { directory, paths } = this.#options;
    const { key } = tracked;
    if (tracked.route === undefined) {
      tracked.route = paths.resolve(key.edgeId, key.pathHash);
      if (tracked.route === undefined) {
        if (performance.now() - tracked.sinceMillis < PATIENCE_MILLIS) return false;
        tracked.route = REST;
      }
    }
    const named = directory.name(key.edgeId);
    if (named === undefined) return false;
    if (tracked.named !== named) {
      tracked.named = named;
      tracked.series = this.#seriesOf(named, key, tracked.route);
    }
    return true;
  }

  #seriesOf(named: NamedEdge, key: RequestKey, route: string): RequestSeries {
    const { store, labels } = this.#options;
    const id = seriesKey(key, route);
    const known = this.#series.get(id);
    if (known?.named === named) return known.series;
    const series = new RequestSeries(store, this.#graph, requestAttributes(named, key, route, labels));
    this.#series.set(id, { named, series });
    return series;
  }

  #add(tracked: Tracked, values: Buffer, at: number): void {
    const { totals } = this.#options.records;
    const { raw } = tracked;
    const grown = (offset: number) => readCount(values, at + offset) - readCount(raw, offset);
    const buckets = (offset: number, count: number) => {
      const out = new Float64Array(count);
      for (let i = 0; i < count; i++) out[i] = grown(offset + totals.bucketStride * i);
      return out;
    };
    const difference: Difference = {
      durations: buckets(totals.durations, this.#bounds + 1),
      durationSeconds: grown(totals.duration) / 1e9,
      firstBytes: buckets(totals.firstBytes, this.#bounds + 1),
      firstByteSeconds: grown(totals.firstByte) / 1e9,
      requestSizes: buckets(totals.requestSizes, totals.sizeBuckets),
      requestBytes: grown(totals.requestBytes),
      responseSizes: buckets(totals.responseSizes, totals.sizeBuckets),
      responseBytes: grown(totals.responseBytes),
    };
    tracked.series?.add(difference);
    values.copy(raw, 0, at, at + totals.size);
  }

  /**
   * Elements under a path's hash are not used any more once the kernel knows the route; elements of an edge that is
   * gone never will be.
   */
  #removeWhenDone(id: string, tracked: Tracked): void {
    const gone = this.#options.directory.key(tracked.key.edgeId) === undefined;
    const provisional = tracked.key.pathHash !== 0n && tracked.route !== undefined;
    if (tracked.quiet >= QUIET && (gone || provisional)) this.#remove(id, tracked);
  }

  #remove(id: string, tracked: Tracked): void {
    const last = this.#options.requests.lookupAndDelete(tracked.kernelKey);
    if (last !== undefined && tracked.raw.compare(last) !== 0 && this.#resolve(tracked))
      this.#add(tracked, last, 0);
    this.#tracked.delete(id);
    // What was counted under a path's hash shares its series with what the route's number counts from now on.
    if (tracked.route !== undefined && tracked.key.pathHash === 0n)
      this.#series.delete(seriesKey(tracked.key, tracked.route));
  }

  /** Drops what is no longer in the kernel, and when its table fills up, what is idle there. */
  #forget(count: number): void {
    const full = count > this.#options.requests.maxEntries * FULL_SHARE;
    for (const [id, tracked] of this.#tracked) {
      if (tracked.round !== this.#round) this.#tracked.delete(id);
      else if (full && tracked.quiet >= IDLE_COLLECTIONS) this.#remove(id, tracked);
    }
  }

  #collectActive(): void {
    const { active, walk, records, directory, store, labels } = this.#options;
    active.clear();
    walk();
    const { count, keys, values } = active.readAll();
    const now = new Map<string, { gauge: Gauge; value: number }>();
    for (let i = 0; i < count; i++) {
      const at = i * 8;
      const named = directory.name(keys.readUInt32LE(at + records.active.edge));
      if (named === undefined) continue;
      const attributes = edgeAttributes(named, labels);
      const gauge = store.gauge(`http.${attributes.reporter}.active_requests`, {
        ...attributes,
        'http.request.method': records.method(keys.readUInt32LE(at + records.active.method)),
        'url.scheme': 'http',
      } as never);
      const id = `${attributes.reporter} ${gauge.key}`;
      const known = now.get(id);
      now.set(id, { gauge, value: (known?.value ?? 0) + readCount(values, at) });
    }
    for (const [id, gauge] of this.#active) if (!now.has(id)) gauge.set(0);
    for (const { gauge, value } of now.values()) gauge.set(value);
    this.#active = new Map([...now].map(([id, { gauge }]) => [id, gauge]));
  }

  #collectCounters(): void {
    const { shared, records } = this.#options;
    const state = shared.lookup(Buffer.alloc(4));
    if (state === undefined) return;
    for (const [i, name] of records.counters.entries()) {
      const now = Number(state.readBigInt64LE(records.shared.counters + 8 * i));
      const grown = now - (this.#counted[i] ?? 0);
      this.#counted[i] = now;
      if (grown > 0) this.#fed[name]?.add(grown);
    }
  }
}

function seriesKey(key: RequestKey, route: string): string {
  return `${key.edgeId} ${key.status} ${key.method} ${key.version} ${key.error} ${route}`;
}
