// The edges that `top` and `map` show: two collections of metrics become one row per pair of workloads and port, with
// totals and rates. Knows neither terminals nor protocols.
import type { RequestProtocol, Side } from '../telemetry/requests/protocol.ts';
import {
  EDGES,
  type EdgeReader,
  type EdgeSamples,
  type EdgeView,
  type TrafficField,
} from './edge_samples.ts';
import type { TextSample } from './prometheus_text.ts';

/** One end of an edge. */
export interface EdgeEnd {
  workload: string;
  namespace: string;
  kind: string;
}

/** Requests of one protocol, as the side that saw more counted them. */
export interface ProtocolRequests {
  protocol: string;
  requests: number;
  requests_per_second: number;
  /** Those that failed: `error_type` is set. */
  errors: number;
  errors_per_second: number;
  /** 99th percentile of the durations between the two collections, else since the start. */
  p99_seconds: number | null;
}

/** One row. Bytes and connections as the better placed side counted them; retransmits of both sides together. */
export interface EdgeRow {
  client: EdgeEnd;
  server: EdgeEnd;
  service: string;
  port: string;
  /** Sides that reported. */
  reporters: Side[];
  /** Bytes from client to server since the agent's start, and per second. */
  request_bytes: number;
  request_bytes_per_second: number;
  /** Bytes from server to client. */
  response_bytes: number;
  response_bytes_per_second: number;
  connections: number;
  connections_opened: number;
  connections_opened_per_second: number;
  connect_failures: number;
  retransmitted_segments: number;
  retransmitted_segments_per_second: number;
  /** Mean of the round-trip times observed between the two collections, else since the start; null: none. */
  rtt_seconds: number | null;
  /** Requests by protocol; only protocols that were seen. */
  protocols: ProtocolRequests[];
  /** Requests of all of them. */
  requests: number;
  requests_per_second: number;
  errors: number;
  errors_per_second: number;
  /** That of the slowest protocol; null: no request. */
  p99_seconds: number | null;
}

export const SORT_KEYS = ['bytes', 'connections', 'retransmits', 'rtt', 'requests', 'errors', 'p99'] as const;
export type SortKey = (typeof SORT_KEYS)[number];
/** Those that are about requests. */
export const REQUEST_SORT_KEYS: readonly SortKey[] = ['requests', 'errors', 'p99'];

export interface EdgeRowOptions {
  /** Only edges on which requests of this protocol were seen, and only its requests. */
  readonly protocol?: string | undefined;
  /** What the samples mean; that of the registered probes when left out. */
  readonly reader?: EdgeReader | undefined;
}

/**
 * Rows of the later collection. Where both ends of connections are observed there are two views of one thing; the
 * side that saw more is taken, since it is the one that sees all replicas of the other.
 */
export function edgeRows(
  before: readonly TextSample[],
  after: readonly TextSample[],
  elapsedSeconds: number,
  { protocol, reader = EDGES }: EdgeRowOptions = {},
): EdgeRow[] {
  const earlier = reader.group(before);
  const protocols = reader.protocols.filter(({ name }) => protocol === undefined || name === protocol);
  const rows: EdgeRow[] = [];
  for (const [key, edge] of reader.group(after)) {
    const made = row(edge, earlier.get(key), elapsedSeconds, protocols);
    if (protocol === undefined || made.protocols.length > 0) rows.push(made);
  }
  return rows;
}

function traffic(view: EdgeView | undefined): number {
  return view === undefined ? -1 : (view.traffic.get('sent') ?? 0) + (view.traffic.get('received') ?? 0);
}

/** A counter that is lower than before began anew. */
const growth = (now: number, then: number) => (now < then ? now : now - then);

function row(
  { labels, views }: EdgeSamples,
  before: EdgeSamples | undefined,
  elapsedSeconds: number,
  known: readonly RequestProtocol[],
): EdgeRow {
  const side: Side = traffic(views.get('client')) >= traffic(views.get('server')) ? 'client' : 'server';
  const now = (field: TrafficField, from = side) => views.get(from)?.traffic.get(field) ?? 0;
  const then = (field: TrafficField, from = side) => before?.views.get(from)?.traffic.get(field) ?? 0;
  const grown = (field: TrafficField, from = side) => growth(now(field, from), then(field, from));
  const rate = (difference: number) => (elapsedSeconds > 0 ? difference / elapsedSeconds : 0);
  const [toServer, toClient] =
    side === 'client' ? (['sent', 'received'] as const) : (['received', 'sent'] as const);
  const end = (role: Side): EdgeEnd => ({
    workload: labels[`${role}_workload`] ?? '',
    namespace: labels[`${role}_namespace`] ?? '',
    kind: labels[`${role}_kind`] ?? '',
  });
  const reporters = (['client', 'server'] as const).filter((reporter) => views.has(reporter));
  const both = (value: (from: Side) => number) => reporters.reduce((sum, from) => sum + value(from), 0);
  return {
    client: end('client'),
    server: end('server'),
    service: labels.server_service ?? '',
    port: labels.server_port ?? '',
    reporters,
    request_bytes: now(toServer),
    request_bytes_per_second: rate(grown(toServer)),
    response_bytes: now(toClient),
    response_bytes_per_second: rate(grown(toClient)),
    connections: now('open'),
    connections_opened: now('opened'),
    connections_opened_per_second: rate(grown('opened')),
    connect_failures: now('failures', 'client'),
    retransmitted_segments: both((from) => now('retransmitted', from)),
    retransmitted_segments_per_second: rate(both((from) => grown('retransmitted', from))),
    rtt_seconds: meanRtt(
      grown('roundTripSum'),
      grown('roundTripCount'),
      now('roundTripSum'),
      now('roundTripCount'),
    ),
    ...together(known.flatMap(({ name }) => requestsOf(name, views, before?.views, rate))),
  };
}

/** One protocol's part of a row; nothing where none of its requests was seen. */
function requestsOf(
  protocol: string,
  views: EdgeSamples['views'],
  before: EdgeSamples['views'] | undefined,
  rate: (difference: number) => number,
): ProtocolRequests[] {
  const seen = (side: Side) => views.get(side)?.requests.get(protocol);
  const side: Side = (seen('server')?.count ?? 0) > (seen('client')?.count ?? 0) ? 'server' : 'client';
  const now = seen(side);
  if (now === undefined) return [];
  const then = before?.get(side)?.requests.get(protocol);
  const buckets = (value: (le: string, count: number) => number) =>
    [...now.buckets].map(([le, count]): [number, number] => [
      le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le),
      value(le, count),
    ]);
  return [
    {
      protocol,
      requests: now.count,
      requests_per_second: rate(growth(now.count, then?.count ?? 0)),
      errors: now.errors,
      errors_per_second: rate(growth(now.errors, then?.errors ?? 0)),
      p99_seconds:
        quantile(
          0.99,
          buckets((le, count) => growth(count, then?.buckets.get(le) ?? 0)),
        ) ??
        quantile(
          0.99,
          buckets((_, count) => count),
        ),
    },
  ];
}

function together(protocols: ProtocolRequests[]) {
  const sum = (value: (of: ProtocolRequests) => number) =>
    protocols.reduce((total, each) => total + value(each), 0);
  const slowest = Math.max(-1, ...protocols.map(({ p99_seconds }) => p99_seconds ?? -1));
  return {
    protocols,
    requests: sum((each) => each.requests),
    requests_per_second: sum((each) => each.requests_per_second),
    errors: sum((each) => each.errors),
    errors_per_second: sum((each) => each.errors_per_second),
    p99_seconds: slowest < 0 ? null : slowest,
  };
}

/**
 * A quantile of cumulative buckets [upper bound, count], linear inside a bucket as Prometheus' histogram_quantile;
 * in the last, open bucket it is that bucket's lower bound. Null where nothing was counted.
 */
export function quantile(share: number, buckets: readonly [number, number][]): number | null {
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (!(total > 0)) return null;
  const rank = share * total;
  let lower = 0;
  let below = 0;
  for (const [upper, cumulative] of sorted) {
    if (cumulative >= rank) {
      if (upper === Number.POSITIVE_INFINITY) return lower;
      return lower + (upper - lower) * ((rank - below) / (cumulative - below));
    }
    lower = upper;
    below = cumulative;
  }
  return lower;
}

function meanRtt(recentSum: number, recentCount: number, sum: number, count: number): number | null {
  if (recentCount > 0) return recentSum / recentCount;
  return count > 0 ? sum / count : null;
}

/** What a row is sorted by, the most telling first: what happens now, then what happened since the start. */
function weights(row: EdgeRow, by: SortKey): number[] {
  switch (by) {
    case 'bytes':
      return [
        row.request_bytes_per_second + row.response_bytes_per_second,
        row.request_bytes + row.response_bytes,
      ];
    case 'connections':
      return [row.connections, row.connections_opened_per_second, row.connections_opened];
    case 'retransmits':
      return [row.retransmitted_segments_per_second, row.retransmitted_segments];
    case 'rtt':
      return [row.rtt_seconds ?? -1];
    case 'requests':
      return [row.requests_per_second, row.requests];
    case 'errors':
      return [row.errors_per_second, row.errors];
    case 'p99':
      return [row.p99_seconds ?? -1];
  }
}

/** Sorts in place, the largest first; rows of the same weight by their names, so that they do not dance. */
export function sortRows(rows: EdgeRow[], by: SortKey): EdgeRow[] {
  const name = ({ client, server, port }: EdgeRow) =>
    `${client.namespace}/${client.workload}\n${server.namespace}/${server.workload}\n${port}`;
  return rows.sort((a, b) => {
    const left = weights(a, by);
    const right = weights(b, by);
    for (const [index, weight] of left.entries()) {
      const difference = (right[index] ?? 0) - weight;
      if (difference !== 0) return difference;
    }
    const [first, second] = [name(a), name(b)];
    return first < second ? -1 : first > second ? 1 : 0;
  });
}
