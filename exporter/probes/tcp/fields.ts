// Which counts of the kernel's records, `struct edge` and `struct tcp_totals`, become which metrics. One table, so that
// reading an edge is one loop.
import type { Btf, StructLayout } from '../../kernel/btf.ts';
import type { MetricNameOf } from '../../telemetry/catalogue.ts';

/** The record that a count stands in. */
export type RecordName = 'edge' | 'totals';

/** A count in a record of the kernel and the metric that it feeds. */
export interface Field {
  readonly record: RecordName;
  readonly offset: number;
  readonly metric: MetricNameOf<'counter'> | MetricNameOf<'updowncounter'>;
  readonly kind: 'counter' | 'updowncounter';
  /** Attributes beside the edge's own. */
  readonly extra?: Readonly<Record<string, string>>;
  /** `jiffies`: divided by HZ on the way. */
  readonly unit?: 'jiffies';
  readonly listener?: boolean;
}

/** A `struct latency_histogram` of `struct tcp_totals`. */
export interface HistogramField {
  /** Of the sum in microseconds. */
  readonly sum: number;
  /** Of the first bucket's count. */
  readonly counts: number;
  readonly buckets: number;
  readonly metric: MetricNameOf<'histogram'>;
}

export interface TcpLayouts {
  readonly edge: StructLayout;
  readonly totals: StructLayout;
  /** Names of `enum connect_failure` in order. */
  readonly failures: readonly string[];
}

type Count = readonly [
  path: string,
  metric: Field['metric'],
  rest?: Omit<Field, 'record' | 'offset' | 'metric' | 'kind'>,
];

const COUNTERS: readonly Count[] = [
  ['sent_bytes', 'knp.tcp.sent_bytes'],
  ['received_bytes', 'knp.tcp.received_bytes'],
  ['retransmitted_segments', 'knp.tcp.retransmitted_segments'],
  ['out_of_order_segments', 'knp.tcp.out_of_order_segments'],
  ['resets_sent', 'knp.tcp.resets', { extra: { direction: 'sent' } }],
  ['resets_received', 'knp.tcp.resets', { extra: { direction: 'received' } }],
  ['receiver_limited_jiffies', 'knp.tcp.limited', { extra: { by: 'receive_window' }, unit: 'jiffies' }],
  ['sndbuf_limited_jiffies', 'knp.tcp.limited', { extra: { by: 'send_buffer' }, unit: 'jiffies' }],
  ['listen_drops', 'knp.tcp.listen_drops', { listener: true }],
];

const GAUGES: readonly Count[] = [
  ['listen_backlog', 'knp.tcp.listen_backlog', { listener: true }],
  ['listen_limit', 'knp.tcp.listen_backlog_limit', { listener: true }],
];

/** Layouts of what is read, from the core object's own type information. */
export function tcpLayouts(btf: Btf): TcpLayouts {
  const failures = btf.find('connect_failure', 'enum')?.values ?? [];
  return {
    edge: btf.layout('edge'),
    totals: btf.layout('tcp_totals'),
    failures: failures
      .filter(({ name }) => name.startsWith('FAILED_'))
      .map(({ name }) => name.slice('FAILED_'.length).toLowerCase()),
  };
}

/** All counts of an edge, with their place in the records. */
export function edgeFields({ edge, totals, failures }: TcpLayouts): readonly Field[] {
  const of =
    (kind: Field['kind']) =>
    ([path, metric, rest]: Count): Field => ({
      record: 'totals',
      offset: totals.offset(path),
      metric,
      kind,
      ...rest,
    });
  const connectFailures = failures.map(
    (reason, i): Field => ({
      record: 'totals',
      offset: totals.offset('connect_failures') + i * 8,
      metric: 'knp.tcp.connect_failures',
      kind: 'counter',
      extra: { reason },
    }),
  );
  return [
    { record: 'edge', offset: edge.offset('opened'), metric: 'knp.tcp.connections_opened', kind: 'counter' },
    ...COUNTERS.map(of('counter')),
    ...connectFailures,
    { record: 'edge', offset: edge.offset('open'), metric: 'knp.tcp.connections', kind: 'updowncounter' },
    ...GAUGES.map(of('updowncounter')),
  ];
}

/** All histograms of an edge. */
export function edgeHistograms({ totals }: TcpLayouts): readonly HistogramField[] {
  const of = (path: string, metric: HistogramField['metric']): HistogramField => ({
    sum: totals.offset(`${path}.sum_us`),
    counts: totals.offset(`${path}.counts`),
    buckets: totals.field(`${path}.counts`).type.length,
    metric,
  });
  return [of('rtt', 'knp.tcp.rtt'), of('connect', 'knp.tcp.connect_duration')];
}
