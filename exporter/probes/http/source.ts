// The source of the HTTP probe: the series that its requests feed, and those of the kernel's counters. index.ts builds it.
import { createServiceGraph } from '../../telemetry/service_graph.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import { type EdgeLabelOptions, edgeAttributes } from '../edges.ts';
import { RequestSource } from '../requests/source.ts';
import type { ProtocolRequests } from '../requests/stream.ts';
import { HTTP_REQUESTS } from './requests.ts';
import { type HttpNames, HttpSeries, requestAttributes } from './series.ts';

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

export class HttpSource extends RequestSource<HttpSeries> {
  readonly #options: HttpSourceOptions;

  constructor(options: HttpSourceOptions) {
    const { store, requests, names, labels } = options;
    const graph = createServiceGraph(store, HTTP_REQUESTS, store.bounds('http.server.request.duration'));
    super({
      name: 'http',
      requests,
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
      fed: Object.fromEntries([
        ...Object.entries(UNPARSED).map(([counter, reason]) => [
          counter,
          store.counter('knp.http.unparsed_connections', { reason }),
        ]),
        ...Object.entries(EVENTS).map(([counter, kind]) => [
          counter,
          store.counter('knp.http.events', { kind }),
        ]),
      ]),
    });
    this.#options = options;
  }

  override async collect(): Promise<void> {
    await super.collect();
    const { store, routes } = this.#options;
    store.gauge('knp.http.routes', {}).set(routes());
  }
}
