// Queries over the HTTP metrics: rate, errors, duration, sizes. Called by the dashboards.
import { divide, orZeroOf, quantile, rate, sum, topk, type Vector } from '../promql/expression.ts';
import { present } from '../promql/matchers.ts';
import type { LabelOf, Range } from '../promql/names.ts';
import { gauge, type HttpPart, histogram, httpHistogram } from '../promql/select.ts';
import { EDGE_SCOPE, LINES } from './scope.ts';

const PANEL: Range = '$__rate_interval';
type Request = LabelOf<'http.server.request.duration'>;
type In = 'inbound' | 'workloadInbound';

/** Requests per second. */
export const requestRate = <K extends Request = never>(
  scope: In,
  by: readonly K[] = [],
  range: Range = PANEL,
): Vector<K> => sum(rate(httpHistogram('request.duration', EDGE_SCOPE[scope]).count, range), by);

/** Failed requests per second: those with an `error_type`. Zero where there are requests and none failed. */
export const errorRate = <K extends Request = never>(
  scope: In,
  by: readonly K[] = [],
  range: Range = PANEL,
): Vector<K> =>
  orZeroOf(
    sum(
      rate(httpHistogram('request.duration', { ...EDGE_SCOPE[scope], error_type: present }).count, range),
      by,
    ),
    requestRate(scope, by, range),
  );

/** Share of requests that failed, 0 to 1. */
export const errorRatio = <K extends Request = never>(
  scope: In,
  by: readonly K[] = [],
  range: Range = PANEL,
): Vector<K> => divide(errorRate(scope, by, range), requestRate(scope, by, range));

/** A quantile of a duration or size, in seconds or bytes. */
export const requestQuantile = <K extends Request = never>(
  q: number,
  scope: In,
  by: readonly K[] = [],
  part: HttpPart = 'request.duration',
  range: Range = PANEL,
): Vector<Exclude<K, 'le'>> =>
  quantile(q, sum(rate(httpHistogram(part, EDGE_SCOPE[scope]).bucket, range), [...by, 'le' as const]));

export const timeToFirstByte = (q: number): Vector<never> =>
  quantile(
    q,
    sum(rate(histogram('knp.http.server.time_to_first_byte', EDGE_SCOPE.workloadInbound).bucket, PANEL), [
      'le',
    ]),
  );

/** Requests in flight at the server. */
export const activeRequests = <K extends LabelOf<'http.server.active_requests'> = never>(
  scope: In,
  by: readonly K[] = [],
): Vector<K> => sum(gauge('http.server.active_requests', { ...EDGE_SCOPE[scope], reporter: 'server' }), by);

const outbound = () => histogram('http.client.request.duration', EDGE_SCOPE.workloadOutbound);
const outboundErrors = () =>
  histogram('http.client.request.duration', { ...EDGE_SCOPE.workloadOutbound, error_type: present });

/** Requests per second that the workload makes, by whom it calls. */
export const outboundRate = <K extends Request>(by: readonly K[]): Vector<K> =>
  topk(LINES, sum(rate(outbound().count, PANEL), by));
export const outboundErrorRatio = <K extends Request>(by: readonly K[]): Vector<K> => {
  const all = sum(rate(outbound().count, PANEL), by);
  return topk(LINES, divide(orZeroOf(sum(rate(outboundErrors().count, PANEL), by), all), all));
};
export const outboundQuantile = <K extends Request>(q: number, by: readonly K[]): Vector<Exclude<K, 'le'>> =>
  topk(LINES, quantile(q, sum(rate(outbound().bucket, PANEL), [...by, 'le' as const])));
