// Turns the edge table's totals into series at every collection: walk the sockets, read the edges, add what grew.
// The collector calls it; index.ts builds it.
import type { EdgeTable } from '../../kernel/edge_table.ts';
import { runPaced } from '../../telemetry/pacing.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import {
  type EdgeAttributes,
  type EdgeDirectory,
  type EdgeLabelOptions,
  edgeAttributes,
  listenerAttributes,
  type NamedEdge,
} from '../edges.ts';
import { edgeFields, edgeHistograms, type Field, type HistogramField } from './fields.ts';
import { EdgePruner } from './pruner.ts';

/** Buckets of `struct latency_histogram`. */
const BUCKETS = 17;

/** About 0.1 ms of work. */
const EDGES_PER_STEP = 64;

/** Accepted sockets that nobody was seen reading are looked for among the descriptors at most this often. */
const FIND_INTERVAL_MILLIS = 30_000;

interface Adder {
  add(amount: number): void;
  retain(): void;
}
interface BucketAdder {
  addBuckets(counts: ArrayLike<number>, sum: number): void;
  retain(): void;
}

/** What was read of one edge, and the series that it feeds. */
interface Tracked {
  /** The record as last read: an equal one needs no second look. */
  readonly raw: Buffer;
  /** What has been added to the series, by field. */
  readonly counted: Float64Array;
  /** The same for histograms: for each the sum in microseconds, then the buckets. */
  readonly observed: readonly Float64Array[];
  /** The names that `adders` and `histograms` were made for. */
  named: NamedEdge;
  adders: (Adder | undefined)[];
  histograms: (BucketAdder | undefined)[];
}

export interface TcpSourceOptions {
  readonly table: EdgeTable;
  readonly directory: EdgeDirectory;
  readonly store: SeriesStore;
  readonly labels: EdgeLabelOptions;
  /** One pass of `core_walk`: every socket adds what it has not accounted yet. */
  readonly walk: () => void;
  /** One pass of `find_sockets`: accepted sockets learn who holds them. */
  readonly find: () => void;
}

/** Reads a 64-bit count; exact up to 2^53. */
function readCount(values: Buffer, at: number): number {
  return values.readUInt32LE(at) + values.readInt32LE(at + 4) * 0x1_0000_0000;
}

function retain(tracked: Tracked): void {
  for (const adder of tracked.adders) adder?.retain();
  for (const histogram of tracked.histograms) histogram?.retain();
}

export class TcpSource {
  readonly name = 'tcp';
  /** Metrics that nobody else writes: left out of an exposition when this source failed. */
  readonly owns = ['tcp'] as const;
  readonly #options: TcpSourceOptions;
  readonly #fields: readonly Field[];
  readonly #histograms: readonly HistogramField[];
  readonly #tracked = new Map<number, Tracked>();
  readonly #pruner: EdgePruner;
  readonly #held: number;
  #unconfirmed = 0;
  #foundMillis = Number.NEGATIVE_INFINITY;

  constructor(options: TcpSourceOptions) {
    this.#options = options;
    this.#fields = edgeFields(options.table.layout);
    this.#histograms = edgeHistograms(options.table.layout);
    this.#pruner = new EdgePruner(options.table, options.directory);
    this.#held = options.table.layout.offset('sockets');
  }

  /** Edges in the table at the last collection. */
  get edges(): number {
    return this.#tracked.size;
  }

  /** Adds to the store what was counted since the last call. `nowMillis`: any clock that only goes forward. */
  collect(nowMillis: number): Promise<void> {
    return runPaced(this.steps(nowMillis));
  }

  /** `collect` in steps of well under a millisecond, but for the walk and the reading of the table. */
  *steps(nowMillis: number): Generator<void, void, void> {
    const { table, directory } = this.#options;
    this.#walk(nowMillis);
    yield;
    const batch = table.read();
    yield;
    directory.learn(batch);
    yield;
    for (let i = 0; i < batch.count; i++) {
      const id = batch.ids[i] ?? 0;
      const changed = this.#account(id, batch.values, i * batch.stride);
      if (changed) this.#pruner.active(id, nowMillis);
      if (i % EDGES_PER_STEP === EDGES_PER_STEP - 1) yield;
    }
    for (const { id, last } of this.#pruner.prune(batch, nowMillis)) {
      if (last !== undefined) this.#account(id, last, 0);
      this.#tracked.delete(id);
      directory.forget(id);
    }
  }

  #walk(nowMillis: number): void {
    const { table, walk, find } = this.#options;
    walk();
    const { unconfirmed } = table.walked();
    const waiting = unconfirmed > this.#unconfirmed;
    this.#unconfirmed = unconfirmed;
    if (!waiting || nowMillis - this.#foundMillis < FIND_INTERVAL_MILLIS) return;
    this.#foundMillis = nowMillis;
    find();
  }

  /** Adds what grew on one edge; says whether anything did. */
  #account(id: number, values: Buffer, at: number): boolean {
    const named = this.#options.directory.name(id);
    if (named === undefined) return true; // Its owner is being written down at this moment: the counts wait in the kernel.
    let tracked = this.#tracked.get(id);
    if (tracked === undefined) {
      tracked = this.#track(named);
      this.#tracked.set(id, tracked);
    } else if (tracked.named !== named) {
      this.#rename(tracked, named);
    }
    const { size } = this.#options.table.layout;
    if (tracked.raw.compare(values, at, at + size) === 0) {
      // Nothing moved, but while a socket holds the edge its workloads are there, and so are its series.
      if (readCount(values, at + this.#held) !== 0) retain(tracked);
      return false;
    }
    const grew = this.#addFields(tracked, values, at);
    this.#addHistograms(tracked, values, at);
    // Jiffies wait until it is known how long one is.
    if (this.#options.table.hertz !== undefined) values.copy(tracked.raw, 0, at, at + size);
    // Whatever else of this edge stood still belongs to workloads that are there.
    if (grew || readCount(values, at + this.#held) !== 0) retain(tracked);
    return grew;
  }

  #track(named: NamedEdge): Tracked {
    return {
      raw: Buffer.alloc(this.#options.table.layout.size),
      counted: new Float64Array(this.#fields.length),
      observed: this.#histograms.map(() => new Float64Array(BUCKETS + 1)),
      named,
      adders: [],
      histograms: [],
    };
  }

  #addFields(tracked: Tracked, values: Buffer, at: number): boolean {
    let grew = false;
    const { hertz } = this.#options.table;
    const listener = tracked.named.key.role === 'listener';
    for (const [index, field] of this.#fields.entries()) {
      const now = readCount(values, at + field.offset);
      const before = tracked.counted[index] ?? 0;
      if (now === before || (field.listener === true) !== listener) continue;
      // A FIN may be counted a moment before its flag says so: the next read is right again.
      if (field.kind === 'counter' && now < before) continue;
      if (field.unit === 'jiffies' && hertz === undefined) continue;
      const amount = now - before;
      this.#adder(tracked, index, field).add(field.unit === 'jiffies' ? amount / (hertz ?? 1) : amount);
      tracked.counted[index] = now;
      grew = true;
    }
    return grew;
  }

  #addHistograms(tracked: Tracked, values: Buffer, at: number): void {
    for (const [index, { offset, metric }] of this.#histograms.entries()) {
      const observed = tracked.observed[index] as Float64Array;
      const counts = new Float64Array(BUCKETS);
      let any = false;
      for (let bucket = 0; bucket < BUCKETS; bucket++) {
        const now = readCount(values, at + offset + 8 * (bucket + 1));
        counts[bucket] = now - (observed[bucket + 1] ?? 0);
        any ||= counts[bucket] !== 0;
        observed[bucket + 1] = now;
      }
      if (!any) continue;
      const sum = readCount(values, at + offset);
      tracked.histograms[index] ??= this.#options.store.histogram(
        metric,
        this.#attributes(tracked.named) as never,
      );
      tracked.histograms[index].addBuckets(counts, (sum - (observed[0] ?? 0)) / 1e6);
      observed[0] = sum;
    }
  }

  #attributes(named: NamedEdge): EdgeAttributes {
    return edgeAttributes(named, this.#options.labels);
  }

  #adder(tracked: Tracked, index: number, field: Field): Adder {
    const known = tracked.adders[index];
    if (known !== undefined) return known;
    const { store } = this.#options;
    const edge = this.#attributes(tracked.named);
    const attributes = field.listener ? listenerAttributes(edge) : { ...edge, ...field.extra };
    const adder =
      field.kind === 'counter'
        ? store.counter(field.metric as 'knp.tcp.sent_bytes', attributes as never)
        : store.gauge(field.metric as 'knp.tcp.connections', attributes as never);
    tracked.adders[index] = adder;
    return adder;
  }

  /** From now on the edge counts under other names: what is open moves there, what was counted stays. */
  #rename(tracked: Tracked, named: NamedEdge): void {
    const before = JSON.stringify(this.#attributes(tracked.named));
    const { adders } = tracked;
    tracked.named = named;
    if (JSON.stringify(this.#attributes(named)) === before) return;
    tracked.adders = [];
    tracked.histograms = [];
    for (const [index, field] of this.#fields.entries()) {
      const value = tracked.counted[index] ?? 0;
      if (field.kind !== 'updowncounter' || value === 0) continue;
      adders[index]?.add(-value);
      this.#adder(tracked, index, field).add(value);
    }
  }
}
