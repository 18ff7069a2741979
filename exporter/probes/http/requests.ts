// What HTTP says about its requests: which metrics count them, what a failure is, and their spans by OpenTelemetry's
// semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/). Data only: no kernel, no store.
import type { Attributes } from '@opentelemetry/api';
import { metricIn, type RequestProtocol } from '../../telemetry/requests/protocol.ts';
import { cleanPath, cleanText } from '../../telemetry/spans/text.ts';
import type { SpanRecord } from '../../telemetry/spans/types.ts';
import { HTTP_METRICS } from './metrics.ts';

/** What a span record of HTTP holds beside the fields of all protocols; its operation is the method. */
export interface HttpDetail {
  /** '1.0', '1.1', '2'. */
  readonly version?: string | undefined;
  /** 'http' when left out. */
  readonly scheme?: 'http' | 'https' | undefined;
  /** Request's first byte to response's first byte, nanoseconds. */
  readonly timeToFirstByteNanos?: bigint | undefined;
}

/** RFC 9110 section 9 and RFC 5789; everything else is `_OTHER`. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']);
const METHOD_LIMIT = 64;
const PATH_LIMIT = 2048;
const ROUTE_LIMIT = 512;
const VERSION_LIMIT = 128;

function fullUrl(record: SpanRecord, scheme: string, path: string): string {
  const host = record.serverAddress.includes(':') ? `[${record.serverAddress}]` : record.serverAddress;
  const usual = record.serverPort === (scheme === 'https' ? 443 : 80);
  return `${scheme}://${host}${usual ? '' : `:${record.serverPort}`}${path.startsWith('/') ? path : ''}`;
}

function describeSizes(attributes: Attributes, record: SpanRecord<HttpDetail>): void {
  const { requestBytes, responseBytes, detail } = record;
  if (requestBytes !== undefined) attributes['http.request.body.size'] = requestBytes;
  if (responseBytes !== undefined) attributes['http.response.body.size'] = responseBytes;
  if (detail.timeToFirstByteNanos !== undefined)
    attributes['knp.http.time_to_first_byte'] = Number(detail.timeToFirstByteNanos) / 1e9;
}

/** Requests of HTTP. A server's fail at 5xx, a client's at 4xx and 5xx, both when the exchange broke. */
export const HTTP_REQUESTS: RequestProtocol<HttpDetail> = {
  name: 'http',
  title: 'HTTP',
  durations: {
    client: metricIn(HTTP_METRICS, 'http.client.request.duration'),
    server: metricIn(HTTP_METRICS, 'http.server.request.duration'),
  },
  operation: [
    { attribute: 'http.request.method', title: 'Method' },
    { attribute: 'http.route', title: 'Route' },
  ],
  status: { attribute: 'http.response.status_code', title: 'Status' },
  connectionType: '',

  errorType(side, { status, broken }) {
    if (broken !== undefined && broken !== '') return broken;
    return Number(status) >= (side === 'server' ? 500 : 400) ? String(status) : undefined;
  },

  describe(record) {
    const { operation: method, detail } = record;
    const known = METHODS.has(method);
    const scheme = detail.scheme ?? 'http';
    const route = record.target === undefined ? undefined : cleanText(record.target, ROUTE_LIMIT);
    const path = record.exactTarget === undefined ? undefined : cleanPath(record.exactTarget, PATH_LIMIT);

    const attributes: Attributes = { 'http.request.method': known ? method : '_OTHER' };
    // What stood in the request is known of no record that the kernel sends: `_OTHER` is not the original.
    if (!known && method !== '_OTHER')
      attributes['http.request.method_original'] = cleanText(method, METHOD_LIMIT);
    // Semantic conventions keep http.route to servers; a client's low-cardinality path is the url.template.
    if (route !== undefined) attributes[record.kind === 'server' ? 'http.route' : 'url.template'] = route;
    if (path !== undefined && record.kind === 'server') attributes['url.path'] = path;
    if (path !== undefined && record.kind === 'client')
      attributes['url.full'] = fullUrl(record, scheme, path);
    if (record.status !== undefined) attributes['http.response.status_code'] = record.status;
    attributes['url.scheme'] = scheme;
    attributes['network.protocol.name'] = 'http';
    if (detail.version !== undefined)
      attributes['network.protocol.version'] = cleanText(detail.version, VERSION_LIMIT);
    describeSizes(attributes, record);

    const verb = known ? method : 'HTTP';
    return { name: route === undefined ? verb : `${verb} ${route}`, attributes };
  },
};
