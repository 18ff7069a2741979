// Which counts of `struct edge` become which metrics. One table, so that reading an edge is one loop.
import type { StructLayout } from '../../kernel/btf.ts';
import type { MetricNameOf } from '../../telemetry/catalogue.ts';

/** A count in the kernel's record and the metric that it feeds. */
export interface Field {
  readonly offset: number;
  readonly metric: MetricNameOf<'counter'> | MetricNameOf<'updowncounter'>;
  readonly kind: 'counter' | 'updowncounter';
  /** Attributes beside the edge's own. */
  readonly extra?: Readonly<Record<string, string>>;
  /** `jiffies`: divided by HZ on the way. */
  readonly unit?: 'jiffies';
  readonly listener?: boolean;
}

export interface HistogramField {
  readonly offset: number;
  readonly metric: MetricNameOf<'histogram'>;
}

type Count = readonly [
  path: string,
  metric: Field['metric'],
  rest?: Omit<Field, 'offset' | 'metric' | 'kind'>,
];

const COUNTERS: readonly Count[] = [
  ['opened', 'knp.tcp.connections_opened'],
  ['tcp.sent_bytes', 'knp.tcp.sent_bytes'],
  ['tcp.received_bytes', 'knp.tcp.received_bytes'],
  ['tcp.retransmitted_segments', 'knp.tcp.retransmitted_segments'],
  ['tcp.out_of_order_segments', 'knp.tcp.out_of_order_segments'],
  ['tcp.resets_sent', 'knp.tcp.resets', { extra: { direction: 'sent' } }],
  ['tcp.resets_received', 'knp.tcp.resets', { extra: { direction: 'received' } }],
  ['tcp.receiver_limited_jiffies', 'knp.tcp.limited', { extra: { by: 'receive_window' }, unit: 'jiffies' }],
  ['tcp.sndbuf_limited_jiffies', 'knp.tcp.limited', { extra: { by: 'send_buffer' }, unit: 'jiffies' }],
  ['tcp.listen_drops', 'knp.tcp.listen_drops', { listener: true }],
];

const GAUGES: readonly Count[] = [
  ['open', 'knp.tcp.connections'],
  ['tcp.listen_backlog', 'knp.tcp.listen_backlog', { listener: true }],
  ['tcp.listen_limit', 'knp.tcp.listen_backlog_limit', { listener: true }],
];

/** `enum connect_failure`, in order. */
const FAILURES = ['refused', 'timed_out', 'unreachable', 'reset', 'other'] as const;

/** All counts of an edge, with their place in the record. */
export function edgeFields(layout: StructLayout): readonly Field[] {
  const of =
    (kind: Field['kind']) =>
    ([path, metric, rest]: Count): Field => ({ offset: layout.offset(path), metric, kind, ...rest });
  const failures = FAILURES.map(
    (reason, i): Field => ({
      offset: layout.offset('tcp.connect_failures') + i * 8,
      metric: 'knp.tcp.connect_failures',
      kind: 'counter',
      extra: { reason },
    }),
  );
  return [...COUNTERS.map(of('counter')), ...failures, ...GAUGES.map(of('updowncounter'))];
}

/** All histograms of an edge: `struct latency_histogram`, the sum in microseconds before the counts. */
export function edgeHistograms(layout: StructLayout): readonly HistogramField[] {
  return [
    { offset: layout.offset('tcp.rtt'), metric: 'knp.tcp.rtt' },
    { offset: layout.offset('tcp.connect'), metric: 'knp.tcp.connect_duration' },
  ];
}
