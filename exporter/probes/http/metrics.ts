// HTTP metrics by OpenTelemetry's semantic conventions. Data only: part of the catalogue.
// https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
import { defineAttributes, EDGE } from '../../telemetry/attributes.ts';
import { BODY_BYTES, defineMetrics, HTTP_DURATION_SECONDS } from '../../telemetry/definition.ts';

/** Attributes that only these metrics carry. */
export const HTTP_ATTRIBUTES = defineAttributes({
  'http.request.method': {
    description: 'Request method; methods outside RFC 9110 and RFC 5789 are `_OTHER`.',
    values: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH', '_OTHER'],
  },
  'http.response.status_code': {
    description: 'Status code of the final response; left out when there was none.',
    type: 'int',
    optional: true,
    keepWhenFolded: true,
  },
  'http.route': {
    description: 'Matched route, of low cardinality; left out when unknown.',
    optional: true,
  },
});

const REQUEST = [
  ...EDGE,
  'http.request.method',
  'http.response.status_code',
  'http.route',
  'url.scheme',
  'network.protocol.version',
  'error.type',
] as const;
const ACTIVE = [...EDGE, 'http.request.method', 'url.scheme'] as const;

const stable = { probe: 'http', stability: 'stable', kind: 'histogram', attributes: REQUEST } as const;
const histogram = {
  probe: 'http',
  stability: 'development',
  kind: 'histogram',
  attributes: REQUEST,
} as const;
const active = {
  probe: 'http',
  stability: 'development',
  kind: 'updowncounter',
  unit: '{request}',
  attributes: ACTIVE,
} as const;

export const HTTP_METRICS = defineMetrics([
  {
    ...stable,
    name: 'http.server.request.duration',
    unit: 's',
    description: 'Duration of HTTP server requests: first byte of the request to last byte of the response.',
    buckets: HTTP_DURATION_SECONDS,
  },
  {
    ...stable,
    name: 'http.client.request.duration',
    unit: 's',
    description: 'Duration of HTTP client requests: first byte of the request to last byte of the response.',
    buckets: HTTP_DURATION_SECONDS,
  },
  {
    ...histogram,
    name: 'knp.http.server.time_to_first_byte',
    unit: 's',
    description: 'First byte of the request to first byte of the response, measured by the server.',
    buckets: HTTP_DURATION_SECONDS,
  },
  {
    ...histogram,
    name: 'http.server.request.body.size',
    unit: 'By',
    description: 'Size of HTTP server request bodies as transferred, without headers.',
    buckets: BODY_BYTES,
  },
  {
    ...histogram,
    name: 'http.server.response.body.size',
    unit: 'By',
    description: 'Size of HTTP server response bodies as transferred, without headers.',
    buckets: BODY_BYTES,
  },
  {
    ...histogram,
    name: 'http.client.request.body.size',
    unit: 'By',
    description: 'Size of HTTP client request bodies as transferred, without headers.',
    buckets: BODY_BYTES,
  },
  {
    ...histogram,
    name: 'http.client.response.body.size',
    unit: 'By',
    description: 'Size of HTTP client response bodies as transferred, without headers.',
    buckets: BODY_BYTES,
  },
  { ...active, name: 'http.server.active_requests', description: 'HTTP server requests in flight.' },
  { ...active, name: 'http.client.active_requests', description: 'HTTP client requests in flight.' },
  {
    probe: 'http',
    stability: 'development',
    name: 'knp.http.routes',
    kind: 'gauge',
    unit: '{route}',
    description: 'Routes learnt so far.',
    attributes: [],
  },
  {
    probe: 'http',
    stability: 'development',
    name: 'knp.http.unparsed_connections',
    kind: 'counter',
    unit: '{connection}',
    description: 'Connections whose HTTP traffic could not be followed to the end.',
    attributes: ['reason'],
    values: { reason: ['upgrade', 'connect', 'malformed', 'joined_midway', 'no_state', 'other'] },
  },
  {
    probe: 'http',
    stability: 'development',
    name: 'knp.http.events',
    kind: 'counter',
    unit: '{event}',
    description:
      'Records that crossed from the kernel to the agent: paths seen for the first time, sampled requests. Requests as such send none.',
    attributes: ['kind'],
    values: { kind: ['path', 'span'] },
  },
]);

/** Durations that the kernel counts in one set of buckets: `duration_buckets_seconds`. */
const KERNEL_TIMED = [
  'http.server.request.duration',
  'http.client.request.duration',
  'knp.http.server.time_to_first_byte',
] as const satisfies readonly (typeof HTTP_METRICS)[number]['name'][];

/** The service graph has the same, so that most of its requests keep their buckets. */
const GRAPH_TIMED = [
  'traces_service_graph_request_server_seconds',
  'traces_service_graph_request_client_seconds',
] as const;

/** Metrics whose buckets the setting replaces. */
export const TIMED = [...KERNEL_TIMED, ...GRAPH_TIMED] as const;
