// Turns what the kernel counted of HTTP requests into series at every collection. The collector calls it, after the
// source of the edges and that of all requests (exporter/probes/requests/stream.ts); index.ts builds it.
import { runPaced } from '../../telemetry/pacing.ts';
import { createServiceGraph } from '../../telemetry/service_graph.ts';
import type { Counter, Histogram, SeriesStore } from '../../telemetry/store.ts';
import { type EdgeLabelOptions, edgeAttributes } from '../edges.ts';
import type { RequestKey } from '../requests/records.ts';
import type { ProtocolRequests } from '../requests/stream.ts';
import type { RequestTable } from '../requests/table.ts';
import { HTTP_REQUESTS } from './requests.ts';
import { type HttpNames, HttpSeries, requestAttributes } from './series.ts';

/** Prefix of the kernel's counters of losses. */
const LOST = 'lost_';

/** Reasons of `knp.http.unparsed_connections`, by the kernel's counter. */
const UNPARSED = {
  upgraded: 'upgrade',
  connected: 'connect',
  desynced: 'malformed',
  resynced: 'joined_midway',
} as const;

/** Kinds of `knp.http.events`, by the kernel's counter. */
const EVENTS = { name_events: 'path', span_events: 'span' } as const;

export interface HttpSourceOptions {
  readonly requests: ProtocolRequests;
  readonly names: HttpNames;
  readonly store: SeriesStore;
  readonly labels: EdgeLabelOptions;
  /** Routes learnt so far. */
  readonly routes: () => number;
}

export class HttpSource {
  readonly name = 'http';
  readonly owns = ['http', 'service_graph'] as const;
  readonly #options: HttpSourceOptions;
  readonly #table: RequestTable<HttpSeries>;
  /** Series that a counter of the kernel feeds, by its name. */
  readonly #fed: Readonly<Record<string, Counter>>;
  #counters: Readonly<Record<string, number>>;
  #running: Promise<void> | undefined;

  constructor(options: HttpSourceOptions) {
    const { store, requests, names, labels } = options;
    this.#options = options;
    const graph = createServiceGraph(store, HTTP_REQUESTS, store.bounds('http.server.request.duration'));
    this.#table = requests.table({
      series: (edge, key, route) =>
        new HttpSeries(store, graph, requestAttributes(edge, key, route, { labels, names })),
      active: (edge, operation) => {
        const attributes = edgeAttributes(edge, labels);
        const gauge = store.gauge(`http.${attributes.reporter}.active_requests`, {
          ...attributes,
          'http.request.method': names.method(operation),
          'url.scheme': 'http',
        } as never);
        return [`${attributes.reporter} ${gauge.key}`, gauge];
      },
    });
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
    this.#counters = requests.counters();
  }

  /**
   * The kernel's counters as last read, by name: `connections`, `lost_malformed`, ... With those of connections that are
   * of no protocol.
   */
  get counters(): Readonly<Record<string, number>> {
    const { unclassified } = this.#options.requests;
    return Object.fromEntries(
      Object.entries(this.#counters).map(([name, count]) => [name, count + (unclassified[name] ?? 0)]),
    );
  }

  /** What the kernel side lost since its start, by stage, as last read. */
  lost(): Readonly<Record<string, number>> {
    const lost = Object.entries(this.#counters).filter(([name]) => name.startsWith(LOST));
    return Object.fromEntries(lost.map(([name, count]) => [`http_${name.slice(LOST.length)}`, count]));
  }

  /** Adds to the store what was counted since the last call. A call meanwhile waits for the same end. */
  collect(): Promise<void> {
    this.#running ??= runPaced(this.steps()).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** `collect` in steps of well under a millisecond, but for the reading of the maps. */
  *steps(): Generator<void, void, void> {
    const { requests, store, routes } = this.#options;
    yield* this.#table.account(requests.batch());
    this.#count(requests.counters());
    store.gauge('knp.http.routes', {}).set(routes());
  }

  /** The duration histogram that counts requests of this kind, if one was made: for exemplars. */
  histogram(key: RequestKey, route: string): Histogram | undefined {
    return this.#table.seriesOf(key, route)?.duration;
  }

  #count(counters: Readonly<Record<string, number>>): void {
    for (const [name, now] of Object.entries(counters)) {
      const grown = now - (this.#counters[name] ?? 0);
      if (grown > 0) this.#fed[name]?.add(grown);
    }
    this.#counters = counters;
  }
}
