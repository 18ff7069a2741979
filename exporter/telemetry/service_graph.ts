// The metrics behind Grafana's service graph (names and labels of Tempo's metrics generator), counted from the same
// kernel buckets, at the same moment, as the duration histograms of the protocols, not from sampled spans. A probe adds
// to an edge of this graph whatever it adds to the duration histograms of its `RequestProtocol`.
//
// Grafana adds up what all agents report, so a request must be counted once although both of its ends may be observed:
// - request_total and request_failed_total: by the server's side. By the client's side only where no agent can be at
//   the server (external addresses, named ranges, and what else has no workload behind it).
// - server_seconds: by the server's side. client_seconds: by the client's side.
// A request failed if it has an error.type.
// connection_type is Tempo's: what the protocol says (database, messaging_system), else virtual_node where one end is
// none that an agent observes, else nothing.

import { ERROR_ATTRIBUTE, type RequestProtocol, type Side } from './requests/protocol.ts';
import type { Counter, Histogram, SeriesStore } from './store.ts';

/** What the graph reads of the attributes of a protocol's duration histogram. */
export interface RequestAttributes {
  readonly reporter: Side;
  readonly client_workload: string | number;
  readonly client_namespace: string | number;
  readonly client_kind: string | number;
  readonly server_workload: string | number;
  readonly server_namespace: string | number;
  readonly server_kind: string | number;
  readonly [ERROR_ATTRIBUTE]?: string | number | undefined;
}

/** Kinds of ends that no agent observes from the inside. */
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

/** Hands out the edges of one protocol in one store. */
export interface ServiceGraph {
  edge(attributes: RequestAttributes): ServiceGraphEdge;
}

type ConnectionType = Exclude<RequestProtocol['connectionType'], ''> | 'virtual_node' | undefined;

function connectionType(protocol: RequestProtocol, from: RequestAttributes): ConnectionType {
  if (protocol.connectionType !== '') return protocol.connectionType;
  const ends = [from.client_kind, from.server_kind];
  return ends.some((kind) => UNOBSERVED.has(String(kind))) ? 'virtual_node' : undefined;
}

class Edge implements ServiceGraphEdge {
  readonly #requests: Counter | undefined;
  readonly #failures: Counter | undefined;
  readonly #failed: boolean;
  readonly #seconds: Histogram;
  readonly #rebin: Rebin;

  constructor(store: SeriesStore, protocol: RequestProtocol, rebin: Rebin, from: RequestAttributes) {
    const labels = {
      client: from.client_workload,
      server: from.server_workload,
      client_service_namespace: from.client_namespace,
      server_service_namespace: from.server_namespace,
      connection_type: connectionType(protocol, from),
    };
    const server = from.reporter === 'server';
    const errorType = from[ERROR_ATTRIBUTE];
    this.#failed = errorType !== undefined && errorType !== '';
    if (server || UNOBSERVED.has(String(from.server_kind))) {
      this.#requests = store.counter('traces_service_graph_request_total', labels);
      // Made even if this series cannot fail: a rate needs the zero before the first failure.
      this.#failures = store.counter('traces_service_graph_request_failed_total', labels);
    }
    this.#seconds = server
      ? store.histogram('traces_service_graph_request_server_seconds', labels)
      : store.histogram('traces_service_graph_request_client_seconds', labels);
    this.#rebin = rebin;
  }

  addBuckets(counts: ArrayLike<number>, sum: number): void {
    this.#seconds.addBuckets(this.#rebin(counts), sum);
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

/** Counts per bucket of a protocol's histogram → counts per bucket of the graph's. */
type Rebin = (counts: ArrayLike<number>) => ArrayLike<number>;

/**
 * Protocols have buckets of their own, the graph has one set for all. A request counts in the first bucket of the graph
 * that holds all of its own bucket: exact at bounds that both have, and never in a bucket faster than the request was.
 */
function rebinning(from: readonly number[], to: readonly number[]): Rebin {
  if (from.length === to.length && from.every((bound, i) => bound === to[i])) return (counts) => counts;
  const targets = from.map((bound) => to.findIndex((upper) => bound <= upper));
  return (counts) => {
    const rebinned = new Float64Array(to.length + 1);
    for (let i = 0; i < counts.length; i++) {
      const target = targets[i] ?? -1;
      const at = target < 0 ? to.length : target;
      rebinned[at] = (rebinned[at] as number) + (counts[i] as number);
    }
    return rebinned;
  };
}

/**
 * The service graph of a protocol's requests.
 * @param bounds of the buckets that `addBuckets` will be given: those of the protocol's duration histograms in this store
 */
export function createServiceGraph(
  store: SeriesStore,
  protocol: RequestProtocol,
  bounds: readonly number[],
): ServiceGraph {
  const server = rebinning(bounds, store.bounds('traces_service_graph_request_server_seconds'));
  const client = rebinning(bounds, store.bounds('traces_service_graph_request_client_seconds'));
  return {
    edge: (attributes) =>
      new Edge(store, protocol, attributes.reporter === 'server' ? server : client, attributes),
  };
}
