// Queries over the requests of any protocol: rate, errors, duration, from the histograms that its descriptor names.
// Called by the dashboards.
import { REQUEST_PROTOCOLS } from '../../exporter/probes/descriptors.ts';
import type { RequestProtocol } from '../../exporter/telemetry/requests/protocol.ts';
import {
  divide,
  max,
  or,
  orZeroOf,
  quantile,
  rate,
  sum,
  topk,
  union,
  type Vector,
  withLabel,
} from '../promql/expression.ts';
import { present } from '../promql/matchers.ts';
import type { Range } from '../promql/names.ts';
import {
  type Cumulative,
  type HistogramSelector,
  type ProtocolLabel,
  type RequestLabel,
  requestHistogram,
} from '../promql/select.ts';
import { EDGE_SCOPE, LINES } from './scope.ts';

export type { RequestProtocol } from '../../exporter/telemetry/requests/protocol.ts';

/** Of all probes, in the order of the dashboards. */
export const ALL: readonly RequestProtocol[] = REQUEST_PROTOCOLS;

const PANEL: Range = '$__rate_interval';
export type Label = RequestLabel | ProtocolLabel;
type In = 'inbound' | 'workloadInbound';
type Histogram = HistogramSelector<Label>;
/** Which part of a histogram to read. */
type Part<L extends string> = (of: Histogram) => Cumulative<L>;

const COUNT: Part<Label> = ({ count }) => count;
const BUCKET: Part<Label | 'le'> = ({ bucket }) => bucket;
const FAILING = { error_type: present };

/**
 * Of the side that the variable *Reporter* names: each side has a metric of its own, whose series have that side as their
 * `reporter`, so the other side's selector finds nothing.
 */
function reported<L extends string>(
  protocol: RequestProtocol,
  scope: In,
  part: Part<L>,
  more: Partial<typeof FAILING> = {},
): Vector<L> {
  const matchers = { ...EDGE_SCOPE[scope], ...more };
  return or(
    rate(part(requestHistogram(protocol, 'server', matchers)), PANEL),
    rate(part(requestHistogram(protocol, 'client', matchers)), PANEL),
  );
}

/** Requests per second, of all given protocols together. */
export const requestRate = <K extends Label = never>(
  protocols: readonly RequestProtocol[],
  scope: In,
  by: readonly K[] = [],
): Vector<K> => sum(union(protocols.map((each) => reported(each, scope, COUNT))), by);

/** Failed requests per second: those with an `error_type`. Zero where there are requests and none failed. */
const errorRate = <K extends Label = never>(
  protocols: readonly RequestProtocol[],
  scope: In,
  by: readonly K[] = [],
): Vector<K> =>
  orZeroOf(
    sum(union(protocols.map((each) => reported(each, scope, COUNT, FAILING))), by),
    requestRate(protocols, scope, by),
  );

/** Share of requests that failed, 0 to 1. */
export const errorRatio = <K extends Label = never>(
  protocols: readonly RequestProtocol[],
  scope: In,
  by: readonly K[] = [],
): Vector<K> => divide(errorRate(protocols, scope, by), requestRate(protocols, scope, by));

/** A quantile of the duration of one protocol's requests, seconds. */
export const durationQuantile = <K extends Label = never>(
  q: number,
  protocol: RequestProtocol,
  scope: In,
  by: readonly K[] = [],
): Vector<Exclude<K, 'le'>> => quantile(q, sum(reported(protocol, scope, BUCKET), [...by, 'le' as const]));

/** The same of several protocols, one series each: their buckets differ, so they cannot be added up. */
export const durationQuantiles = <K extends Label = never>(
  q: number,
  protocols: readonly RequestProtocol[],
  scope: In,
  by: readonly K[] = [],
): Vector<Exclude<K, 'le'> | 'protocol'> =>
  union(
    protocols.map((each) =>
      withLabel<Exclude<K, 'le'>, 'protocol'>(durationQuantile(q, each, scope, by), 'protocol', each.title),
    ),
  );

/** The same of the slowest protocol. */
export const slowestQuantile = <K extends Exclude<Label, 'le'> = never>(
  q: number,
  protocols: readonly RequestProtocol[],
  scope: In,
  by: readonly K[] = [],
): Vector<K> => max<K, K>(durationQuantiles(q, protocols, scope, by) as Vector<K>, by);

const outbound = <L extends string>(
  protocol: RequestProtocol,
  part: Part<L>,
  more: Partial<typeof FAILING> = {},
): Vector<L> =>
  rate(part(requestHistogram(protocol, 'client', { ...EDGE_SCOPE.workloadOutbound, ...more })), PANEL);

/** Requests per second that the workload makes, by whom it calls. */
export const outboundRate = <K extends Label>(protocol: RequestProtocol, by: readonly K[]): Vector<K> =>
  topk(LINES, sum(outbound(protocol, COUNT), by));

export const outboundErrorRatio = <K extends Label>(
  protocol: RequestProtocol,
  by: readonly K[],
): Vector<K> => {
  const all = sum(outbound(protocol, COUNT), by);
  return topk(LINES, divide(orZeroOf(sum(outbound(protocol, COUNT, FAILING), by), all), all));
};

export const outboundQuantile = <K extends Label>(
  q: number,
  protocol: RequestProtocol,
  by: readonly K[],
): Vector<Exclude<K, 'le'>> =>
  topk(LINES, quantile(q, sum(outbound(protocol, BUCKET), [...by, 'le' as const])));
