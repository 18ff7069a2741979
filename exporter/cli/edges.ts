// The edges that `top` shows: two collections of the TCP and HTTP metrics become one row per pair of workloads and port, with
// totals and rates. Knows nothing of terminals.
import { type MetricName, metricDefinition, prometheusName } from '../telemetry/catalogue.ts';
import type { TextSample } from './prometheus_text.ts';

/** One end of an edge. */
export interface EdgeEnd {
  workload: string;
  namespace: string;
  kind: string;
}

/** One row. Bytes and connections as the better placed side counted them; retransmits of both sides together. */
export interface EdgeRow {
  client: EdgeEnd;
  server: EdgeEnd;
  service: string;
  port: string;
  /** Sides that reported. */
  reporters: ('client' | 'server')[];
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
  /** HTTP requests, as the side that saw more counted them. */
  requests: number;
  requests_per_second: number;
  /** Those that failed: `error_type` is set. */
  errors: number;
  errors_per_second: number;
  /** 99th percentile of the durations between the two collections, else since the start; null: no request. */
  p99_seconds: number | null;
}

export const SORT_KEYS = ['bytes', 'connections', 'retransmits', 'rtt', 'requests', 'errors', 'p99'] as const;
export type SortKey = (typeof SORT_KEYS)[number];
/** Those that are about HTTP. */
export const HTTP_SORT_KEYS: readonly SortKey[] = ['requests', 'errors', 'p99'];

const metric = (name: MetricName) => prometheusName(metricDefinition(name));

const SENT = metric('knp.tcp.sent_bytes');
const RECEIVED = metric('knp.tcp.received_bytes');
const OPENED = metric('knp.tcp.connections_opened');
const OPEN = metric('knp.tcp.connections');
const FAILURES = metric('knp.tcp.connect_failures');
const RETRANSMITTED = metric('knp.tcp.retransmitted_segments');
const RTT_SUM = `${metric('knp.tcp.rtt')}_sum`;
const RTT_COUNT = `${metric('knp.tcp.rtt')}_count`;
const DURATION = {
  client: metric('http.client.request.duration'),
  server: metric('http.server.request.duration'),
} as const;
type Side = keyof typeof DURATION;
const WANTED = new Set([
  ...[SENT, RECEIVED, OPENED, OPEN, FAILURES, RETRANSMITTED, RTT_SUM, RTT_COUNT],
  ...Object.values(DURATION).flatMap((name) => [`${name}_count`, `${name}_bucket`]),
]);

/** Names of the samples that {@link edgeRows} needs. */
export function isEdgeMetric(name: string): boolean {
  return WANTED.has(name);
}

/** Values of one reporter's view, by sample name. */
type View = Map<string, number>;

interface Pair {
  labels: Readonly<Record<string, string>>;
  views: Map<string, View>;
}

const KEY_LABELS = [
  'client_namespace',
  'client_kind',
  'client_workload',
  'server_namespace',
  'server_kind',
  'server_workload',
  'server_service',
  'server_port',
] as const;

const bucketField = (name: string, le: string) => `${name} ${le}`;
const errorField = (name: string) => `${name} errors`;

function group(samples: readonly TextSample[]): Map<string, Pair> {
  const pairs = new Map<string, Pair>();
  for (const { name, labels, value } of samples) {
    if (!WANTED.has(name)) continue;
    const key = JSON.stringify(KEY_LABELS.map((label) => labels[label] ?? ''));
    let pair = pairs.get(key);
    if (pair === undefined) {
      pair = { labels, views: new Map() };
      pairs.set(key, pair);
    }
    const reporter = labels.reporter ?? '';
    const view = pair.views.get(reporter) ?? new Map<string, number>();
    // Failures have a reason, requests a route, pods a name of their own: one row holds their sum.
    const add = (field: string) => view.set(field, (view.get(field) ?? 0) + value);
    add(labels.le === undefined ? name : bucketField(name, labels.le));
    if (name.endsWith('_count') && (labels.error_type ?? '') !== '') add(errorField(name));
    pair.views.set(reporter, view);
  }
  return pairs;
}

function traffic(view: View | undefined): number {
  return view === undefined ? -1 : (view.get(SENT) ?? 0) + (view.get(RECEIVED) ?? 0);
}

/**
 * Rows of the later collection. Where both ends of connections are observed there are two views of one thing; the
 * side that saw more is taken, since it is the one that sees all replicas of the other.
 */
export function edgeRows(
  before: readonly TextSample[],
  after: readonly TextSample[],
  elapsedSeconds: number,
): EdgeRow[] {
  const earlier = group(before);
  const rows: EdgeRow[] = [];
  for (const [key, pair] of group(after)) rows.push(row(pair, earlier.get(key), elapsedSeconds));
  return rows;
}

function row(pair: Pair, before: Pair | undefined, elapsedSeconds: number): EdgeRow {
  const { labels, views } = pair;
  const client = views.get('client');
  const server = views.get('server');
  const side = traffic(client) >= traffic(server) ? 'client' : 'server';
  const now = (name: string, from: Side = side) => views.get(from)?.get(name) ?? 0;
  const then = (name: string, from: Side = side) => before?.views.get(from)?.get(name) ?? 0;
  // A counter that is lower than before began anew.
  const grown = (name: string, from: Side = side) => {
    const difference = now(name, from) - then(name, from);
    return difference < 0 ? now(name, from) : difference;
  };
  const rate = (difference: number) => (elapsedSeconds > 0 ? difference / elapsedSeconds : 0);
  const [toServer, toClient] = side === 'client' ? [SENT, RECEIVED] : [RECEIVED, SENT];
  const end = (role: 'client' | 'server'): EdgeEnd => ({
    workload: labels[`${role}_workload`] ?? '',
    namespace: labels[`${role}_namespace`] ?? '',
    kind: labels[`${role}_kind`] ?? '',
  });
  const reporters = (['client', 'server'] as const).filter((reporter) => views.has(reporter));
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
    connections: now(OPEN),
    connections_opened: now(OPENED),
    connections_opened_per_second: rate(grown(OPENED)),
    connect_failures: now(FAILURES, 'client'),
    retransmitted_segments: reporters.reduce((sum, from) => sum + now(RETRANSMITTED, from), 0),
    retransmitted_segments_per_second: rate(
      reporters.reduce((sum, from) => sum + grown(RETRANSMITTED, from), 0),
    ),
    rtt_seconds: meanRtt(grown(RTT_SUM), grown(RTT_COUNT), now(RTT_SUM), now(RTT_COUNT)),
    ...http(views, now, grown, rate),
  };
}

type Reader = (name: string, from: Side) => number;

/** The HTTP part of a row. */
function http(views: Pair['views'], now: Reader, grown: Reader, rate: (difference: number) => number) {
  const requests = (side: Side) => now(`${DURATION[side]}_count`, side);
  const side = requests('server') > requests('client') ? 'server' : 'client';
  const count = `${DURATION[side]}_count`;
  const bucket = bucketField(`${DURATION[side]}_bucket`, '');
  const bounds = [...(views.get(side)?.keys() ?? [])]
    .filter((field) => field.startsWith(bucket))
    .map((field) => field.slice(bucket.length));
  const buckets = (read: Reader) =>
    bounds.map((le): [number, number] => [
      le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le),
      read(`${bucket}${le}`, side),
    ]);
  const errors = errorField(count);
  return {
    requests: now(count, side),
    requests_per_second: rate(grown(count, side)),
    errors: now(errors, side),
    errors_per_second: rate(grown(errors, side)),
    p99_seconds: quantile(0.99, buckets(grown)) ?? quantile(0.99, buckets(now)),
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
