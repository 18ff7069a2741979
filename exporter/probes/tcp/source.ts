// Turns TCP's totals by edge into series at every collection, after the core has walked the sockets and read the edges:
// adds what grew. The collector calls it; index.ts builds it.
import type { BpfMap } from '../../kernel/native.ts';
import { runPaced } from '../../telemetry/pacing.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import type { RunningCore } from '../core.ts';
import {
  type EdgeAttributes,
  type EdgeLabelOptions,
  edgeAttributes,
  listenerAttributes,
  type NamedEdge,
} from '../edges.ts';
import {
  edgeFields,
  edgeHistograms,
  type Field,
  type HistogramField,
  type TcpLayouts,
  tcpLayouts,
} from './fields.ts';

/** About 0.1 ms of work. */
const EDGES_PER_STEP = 64;

interface Adder {
  add(amount: number): void;
  retain(): void;
}
interface BucketAdder {
  addBuckets(counts: ArrayLike<number>, sum: number): void;
  retain(): void;
}

/** The records of one edge. An edge on which nothing was accounted yet has no totals. */
interface Records {
  readonly edge: Buffer;
  readonly edgeAt: number;
  readonly totals: Buffer;
  readonly totalsAt: number;
}

/** What was read of one edge, and the series that it feeds. */
interface Tracked {
  /** The records as last read: equal ones need no second look. */
  readonly raw: { readonly edge: Buffer; readonly totals: Buffer };
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
  readonly core: RunningCore;
  readonly store: SeriesStore;
  readonly labels: EdgeLabelOptions;
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
  /** Metrics that no other source writes: left out of an exposition when this source failed. */
  readonly owns = ['tcp'] as const;
  readonly #options: TcpSourceOptions;
  readonly #totals: BpfMap;
  readonly #layouts: TcpLayouts;
  readonly #fields: readonly Field[];
  readonly #histograms: readonly HistogramField[];
  readonly #tracked = new Map<number, Tracked>();
  readonly #none: Buffer;
  readonly #held: number;
  readonly #unlisten: () => void;

  constructor(options: TcpSourceOptions) {
    const { loaded, source } = options.core;
    this.#options = options;
    this.#totals = loaded.map('tcp_totals');
    this.#layouts = tcpLayouts(loaded.btf);
    this.#fields = edgeFields(this.#layouts);
    this.#histograms = edgeHistograms(this.#layouts);
    this.#none = Buffer.alloc(this.#layouts.totals.size);
    this.#held = this.#layouts.edge.offset('sockets');
    this.#unlisten = source.listen({ edgeRemoved: (id, last) => this.#remove(id, last) });
  }

  /** Edges at the last collection. */
  get edges(): number {
    return this.#tracked.size;
  }

  close(): void {
    this.#unlisten();
  }

  /** Adds to the store what was counted since the last call. */
  collect(): Promise<void> {
    return runPaced(this.steps());
  }

  /** `collect` in steps of well under a millisecond, but for the reading of the table. */
  *steps(): Generator<void, void, void> {
    const { source } = this.#options.core;
    const { count, ids, values, stride } = source.batch;
    const all = this.#totals.readAll();
    yield;
    const places = new Map<number, number>();
    for (let i = 0; i < all.count; i++)
      places.set(all.keys.readUInt32LE(i * 4), i * this.#layouts.totals.size);
    yield;
    for (let i = 0; i < count; i++) {
      const id = ids[i] ?? 0;
      const place = places.get(id);
      const [totals, totalsAt] = place === undefined ? [this.#none, 0] : [all.values, place];
      const changed = this.#account(id, { edge: values, edgeAt: i * stride, totals, totalsAt });
      if (changed) source.active(id);
      if (i % EDGES_PER_STEP === EDGES_PER_STEP - 1) yield;
    }
  }

  /** The edge has left the table: its totals go too, and are counted for the last time. */
  #remove(id: number, edge: Buffer | undefined): void {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(id);
    const totals = this.#totals.lookupAndDelete(key) ?? this.#none;
    if (edge !== undefined) this.#account(id, { edge, edgeAt: 0, totals, totalsAt: 0 });
    this.#tracked.delete(id);
  }

  /** Adds what grew on one edge; says whether anything did. */
  #account(id: number, records: Records): boolean {
    const named = this.#options.core.directory.name(id);
    if (named === undefined) return true; // Its owner is being written down at this moment: the counts wait in the kernel.
    let tracked = this.#tracked.get(id);
    if (tracked === undefined) {
      tracked = this.#track(named);
      this.#tracked.set(id, tracked);
    } else if (tracked.named !== named) {
      this.#rename(tracked, named);
    }
    const { raw } = tracked;
    const held = readCount(records.edge, records.edgeAt + this.#held) !== 0;
    if (this.#unchanged(raw, records)) {
      // Nothing moved, but while a socket holds the edge its workloads are there, and so are its series.
      if (held) retain(tracked);
      return false;
    }
    const grew = this.#addFields(tracked, records);
    this.#addHistograms(tracked, records);
    // Jiffies wait until it is known how long one is.
    if (this.#options.core.table.hertz !== undefined) {
      records.edge.copy(raw.edge, 0, records.edgeAt, records.edgeAt + raw.edge.length);
      records.totals.copy(raw.totals, 0, records.totalsAt, records.totalsAt + raw.totals.length);
    }
    // Whatever else of this edge stood still belongs to workloads that are there.
    if (grew || held) retain(tracked);
    return grew;
  }

  #unchanged(raw: Tracked['raw'], { edge, edgeAt, totals, totalsAt }: Records): boolean {
    return (
      raw.edge.compare(edge, edgeAt, edgeAt + raw.edge.length) === 0 &&
      raw.totals.compare(totals, totalsAt, totalsAt + raw.totals.length) === 0
    );
  }

  #track(named: NamedEdge): Tracked {
    return {
      raw: { edge: Buffer.alloc(this.#layouts.edge.size), totals: Buffer.alloc(this.#layouts.totals.size) },
      counted: new Float64Array(this.#fields.length),
      observed: this.#histograms.map(({ buckets }) => new Float64Array(buckets + 1)),
      named,
      adders: [],
      histograms: [],
    };
  }

  #addFields(tracked: Tracked, { edge, edgeAt, totals, totalsAt }: Records): boolean {
    let grew = false;
    const { hertz } = this.#options.core.table;
    const listener = tracked.named.key.role === 'listener';
    for (const [index, field] of this.#fields.entries()) {
      const now =
        field.record === 'edge'
          ? readCount(edge, edgeAt + field.offset)
          : readCount(totals, totalsAt + field.offset);
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

  #addHistograms(tracked: Tracked, { totals, totalsAt }: Records): void {
    for (const [index, { sum: sumAt, counts: countsAt, buckets, metric }] of this.#histograms.entries()) {
      const observed = tracked.observed[index] as Float64Array;
      const counts = new Float64Array(buckets);
      let any = false;
      for (let bucket = 0; bucket < buckets; bucket++) {
        const now = readCount(totals, totalsAt + countsAt + 8 * bucket);
        counts[bucket] = now - (observed[bucket + 1] ?? 0);
        any ||= counts[bucket] !== 0;
        observed[bucket + 1] = now;
      }
      if (!any) continue;
      const sum = readCount(totals, totalsAt + sumAt);
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
