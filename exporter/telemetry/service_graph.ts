// The metrics behind Grafana's service graph (names and labels of Tempo's metrics generator), counted from the same
// kernel buckets, at the same moment, as the HTTP duration histograms, not from sampled spans. The HTTP probe adds to
// an edge of this graph whatever it adds to `http.*.request.duration`.
//
// Grafana adds up what all agents report, so a request must be counted once although both of its ends may be observed:
// - request_total and request_failed_total: by the server's side. By the client's side only where no agent can be at
//   the server (external addresses, named ranges, and what else has no workload behind it).
// - server_seconds: by the server's side. client_seconds: by the client's side.
// A request failed if it has an error.type: 5xx at the server, 4xx and 5xx at the client, or a broken exchange.

import type { AttributesOf } from './catalogue.ts';
import type { Counter, Histogram, SeriesStore } from './store.ts';

/** Attributes of a series of `http.server.request.duration` or `http.client.request.duration`. */
export type RequestAttributes = Pick<
  AttributesOf<'http.server.request.duration'>,
  | 'reporter'
  | 'client_workload'
  | 'client_namespace'
  | 'server_workload'
  | 'server_namespace'
  | 'server_kind'
  | 'error.type'
>;

/** Kinds of servers that no agent observes from the inside. */
const UNOBSERVED = new Set(['External', 'CIDR', 'Service', 'ControlPlane', 'Unknown']);

/** One (client, server) pair as one series of the duration histogram feeds it; cache it beside that series' handle. */
export interface ServiceGraphEdge {
  /**
   * Adds requests; same arguments as the duration histogram's `addBuckets`.
   * @param counts requests per bucket of the duration histogram, not cumulative, the last is the overflow
   * @param sum their durations in seconds
   */
  addBuckets(counts: ArrayLike<number>, sum: number): void;
  /** Keeps the series alive while the workload is active, as `retain` of a handle does. */
  retain(): void;
}

/** Hands out the edges of one store. */
export interface ServiceGraph {
  edge(attributes: RequestAttributes): ServiceGraphEdge;
}

class Edge implements ServiceGraphEdge {
  readonly #requests: Counter | undefined;
  readonly #failures: Counter | undefined;
  readonly #failed: boolean;
  readonly #seconds: Histogram;

  constructor(store: SeriesStore, from: RequestAttributes) {
    const labels = {
      client: from.client_workload,
      server: from.server_workload,
      client_service_namespace: from.client_namespace,
      server_service_namespace: from.server_namespace,
    };
    const server = from.reporter === 'server';
    this.#failed = from['error.type'] !== undefined && from['error.type'] !== '';
    if (server || UNOBSERVED.has(String(from.server_kind))) {
      this.#requests = store.counter('traces_service_graph_request_total', labels);
      // Made even if this series cannot fail: a rate needs the zero before the first failure.
      this.#failures = store.counter('traces_service_graph_request_failed_total', labels);
    }
    this.#seconds = server
      ? store.histogram('traces_service_graph_request_server_seconds', labels)
      : store.histogram('traces_service_graph_request_client_seconds', labels);
  }

  addBuckets(counts: ArrayLike<number>, sum: number): void {
    this.#seconds.addBuckets(counts, sum);
    if (this.#requests === undefined) return;
    let requests = 0;
    for (let i = 0; i < counts.length; i++) requests += counts[i] as number;
    this.#requests.add(requests);
    if (this.#failed) this.#failures?.add(requests);
  }

  retain(): void {
    this.#seconds.retain();
    this.#requests?.retain();
    this.#failures?.retain();
  }
}

function sameBounds(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((bound, i) => bound === b[i]);
}

/**
 * The service graph of a store. Throws an Error when the store's bucket bounds of the four duration histograms differ:
 * counts of other buckets could not be added exactly.
 */
export function createServiceGraph(store: SeriesStore): ServiceGraph {
  const bounds = store.bounds('http.server.request.duration');
  const others = [
    'http.client.request.duration',
    'traces_service_graph_request_server_seconds',
    'traces_service_graph_request_client_seconds',
  ] as const;
  for (const name of others)
    if (!sameBounds(bounds, store.bounds(name)))
      throw new Error(`service graph: ${name} must have the bucket bounds of http.server.request.duration`);
  return { edge: (attributes) => new Edge(store, attributes) };
}
