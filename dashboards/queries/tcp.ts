// Queries over the TCP metrics. Called by the dashboards.
import type { MetricNameOf } from '../../exporter/telemetry/catalogue.ts';
import { add, divide, orZeroOf, quantile, rate, sum, type Vector } from '../promql/expression.ts';
import type { LabelOf, Range } from '../promql/names.ts';
import { counter, gauge, histogram } from '../promql/select.ts';
import { CLIENT_SCOPE, EDGE_SCOPE, LISTENER_SCOPE, type Scope } from './scope.ts';

const PANEL: Range = '$__rate_interval';
type Edge = LabelOf<'knp.tcp.sent_bytes'>;
type In = 'inbound' | 'workloadInbound';

/** Counters of an edge without attributes of their own. */
type EdgeCounter = Extract<
  MetricNameOf<'counter'>,
  | 'knp.tcp.sent_bytes'
  | 'knp.tcp.received_bytes'
  | 'knp.tcp.connections_opened'
  | 'knp.tcp.retransmitted_segments'
  | 'knp.tcp.out_of_order_segments'
>;

/** Any counter of an edge, per second. */
export const edgeRate = <K extends Edge = never>(
  name: EdgeCounter,
  scope: Scope,
  by: readonly K[] = [],
  range: Range = PANEL,
): Vector<K> => sum(rate(counter<EdgeCounter>(name, EDGE_SCOPE[scope]), range), by);

/** Payload of both directions, bytes per second. */
export const throughput = <K extends Edge = never>(
  scope: Scope,
  by: readonly K[] = [],
  range: Range = PANEL,
): Vector<K> =>
  add(edgeRate('knp.tcp.sent_bytes', scope, by, range), edgeRate('knp.tcp.received_bytes', scope, by, range));

export const openConnections = <K extends Edge = never>(scope: Scope, by: readonly K[] = []): Vector<K> =>
  sum(gauge('knp.tcp.connections', EDGE_SCOPE[scope]), by);

type ClientScope = keyof typeof CLIENT_SCOPE;

/** Attempts to connect that failed, per second, as the clients saw them. */
export const connectFailures = <K extends LabelOf<'knp.tcp.connect_failures'> = never>(
  scope: ClientScope,
  by: readonly K[] = [],
  range: Range = PANEL,
): Vector<K> => sum(rate(counter('knp.tcp.connect_failures', CLIENT_SCOPE[scope]), range), by);

/** Share of attempts to connect that failed, 0 to 1. */
export const connectFailureRatio = <K extends Edge = never>(
  scope: ClientScope,
  by: readonly K[] = [],
  range: Range = PANEL,
): Vector<K> => {
  const opened = sum(rate(counter('knp.tcp.connections_opened', CLIENT_SCOPE[scope]), range), by);
  const failed = connectFailures(scope, by, range);
  return divide(orZeroOf(failed, opened), add(orZeroOf(failed, opened), orZeroOf(opened, failed)));
};

/** A quantile of the time to connect, seconds. */
export const connectQuantile = <K extends Edge = never>(
  q: number,
  scope: ClientScope,
  by: readonly K[] = [],
): Vector<Exclude<K, 'le'>> =>
  quantile(
    q,
    sum(rate(histogram('knp.tcp.connect_duration', CLIENT_SCOPE[scope]).bucket, PANEL), [
      ...by,
      'le' as const,
    ]),
  );

/** Round-trip times per bucket and second, for a heat map. */
export const rttBuckets = (scope: In): Vector<'le'> =>
  sum(rate(histogram('knp.tcp.rtt', EDGE_SCOPE[scope]).bucket, PANEL), ['le']);

/** A quantile of the round-trip time, seconds. */
export const rttQuantile = <K extends Edge = never>(
  q: number,
  scope: In,
  by: readonly K[] = [],
): Vector<Exclude<K, 'le'>> =>
  quantile(q, sum(rate(histogram('knp.tcp.rtt', EDGE_SCOPE[scope]).bucket, PANEL), [...by, 'le' as const]));

/** Retransmitted segments per megabyte of payload sent. */
export const retransmitsPerMegabyte = <K extends Edge = never>(scope: In, by: readonly K[] = []): Vector<K> =>
  divide(
    edgeRate('knp.tcp.retransmitted_segments', scope, by),
    divide(edgeRate('knp.tcp.sent_bytes', scope, by), 1e6),
  );

export const resets = <K extends LabelOf<'knp.tcp.resets'>>(scope: In, by: readonly K[]): Vector<K> =>
  sum(rate(counter('knp.tcp.resets', EDGE_SCOPE[scope]), PANEL), by);

/** Seconds per second in which senders had data and were held back. */
export const limited = <K extends LabelOf<'knp.tcp.limited'>>(scope: In, by: readonly K[]): Vector<K> =>
  sum(rate(counter('knp.tcp.limited', EDGE_SCOPE[scope]), PANEL), by);

type Listener = LabelOf<'knp.tcp.listen_drops'>;
export const listenDrops = <K extends Listener = never>(scope: In, by: readonly K[] = []): Vector<K> =>
  sum(rate(counter('knp.tcp.listen_drops', LISTENER_SCOPE[scope]), PANEL), by);
export const backlog = <K extends Listener = never>(scope: In, by: readonly K[] = []): Vector<K> =>
  sum(gauge('knp.tcp.listen_backlog', LISTENER_SCOPE[scope]), by);
export const backlogLimit = <K extends Listener = never>(scope: In, by: readonly K[] = []): Vector<K> =>
  sum(gauge('knp.tcp.listen_backlog_limit', LISTENER_SCOPE[scope]), by);
/** How full the accept queues are, 0 to 1. */
export const backlogRatio = <K extends Listener = never>(scope: In, by: readonly K[] = []): Vector<K> =>
  divide(orZeroOf(backlog(scope, by), backlogLimit(scope, by)), backlogLimit(scope, by));
