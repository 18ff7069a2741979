// Queries over what only HTTP has: sizes of bodies, time to first byte, requests in flight. Called by the dashboards; rate,
// errors and duration are in requests.ts.
import { quantile, rate, sum, type Vector } from '../promql/expression.ts';
import type { LabelOf, Range } from '../promql/names.ts';
import { gauge, type HttpPart, histogram, httpHistogram } from '../promql/select.ts';
import { EDGE_SCOPE } from './scope.ts';

const PANEL: Range = '$__rate_interval';
type In = 'inbound' | 'workloadInbound';

/** A quantile of the size of bodies, bytes. */
export const sizeQuantile = (
  q: number,
  scope: In,
  part: Extract<HttpPart, `${string}.size`>,
): Vector<never> => quantile(q, sum(rate(httpHistogram(part, EDGE_SCOPE[scope]).bucket, PANEL), ['le']));

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
