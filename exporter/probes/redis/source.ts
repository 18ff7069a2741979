// Turns what the kernel counted of Redis commands into series at every collection. The collector calls it, after the
// source of the edges and that of all requests (exporter/probes/requests/stream.ts); index.ts builds it.
import { runPaced } from '../../telemetry/pacing.ts';
import { createServiceGraph } from '../../telemetry/service_graph.ts';
import type { Histogram, SeriesStore } from '../../telemetry/store.ts';
import type { EdgeLabelOptions } from '../edges.ts';
import type { RequestKey } from '../requests/records.ts';
import type { ProtocolRequests } from '../requests/stream.ts';
import type { RequestTable } from '../requests/table.ts';
import { DURATIONS } from './metrics.ts';
import { REDIS_REQUESTS } from './requests.ts';
import { commandAttributes, type RedisNames, RedisSeries } from './series.ts';

/** Prefix of the kernel's counters of losses. */
const LOST = 'lost_';

export interface RedisSourceOptions {
  readonly requests: ProtocolRequests;
  readonly names: RedisNames;
  readonly store: SeriesStore;
  readonly labels: EdgeLabelOptions;
}

export class RedisSource {
  readonly name = 'redis';
  readonly owns = ['redis', 'service_graph'] as const;
  readonly #requests: ProtocolRequests;
  readonly #table: RequestTable<RedisSeries>;
  #counters: Readonly<Record<string, number>>;
  #running: Promise<void> | undefined;

  constructor({ store, requests, names, labels }: RedisSourceOptions) {
    this.#requests = requests;
    const graph = createServiceGraph(store, REDIS_REQUESTS, store.bounds(DURATIONS.server));
    this.#table = requests.table({
      series: (edge, key) => new RedisSeries(store, graph, commandAttributes(edge, key, { labels, names })),
    });
    this.#counters = requests.counters();
  }

  /** The kernel's counters as last read, by name: `connections`, `lost_malformed`, ... */
  get counters(): Readonly<Record<string, number>> {
    return this.#counters;
  }

  /** What the kernel side lost since its start, by stage, as last read. */
  lost(): Readonly<Record<string, number>> {
    const lost = Object.entries(this.#counters).filter(([name]) => name.startsWith(LOST));
    return Object.fromEntries(lost.map(([name, count]) => [`redis_${name.slice(LOST.length)}`, count]));
  }

  /** Adds to the store what was counted since the last call. A call meanwhile waits for the same end. */
  collect(): Promise<void> {
    this.#running ??= runPaced(this.steps()).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** The duration histogram that counts commands of this kind, if one was made: for exemplars. */
  histogram(key: RequestKey): Histogram | undefined {
    return this.#table.seriesOf(key, '')?.duration;
  }

  /** `collect` in steps of well under a millisecond. */
  *steps(): Generator<void, void, void> {
    yield* this.#table.account(this.#requests.batch());
    this.#counters = this.#requests.counters();
  }
}
