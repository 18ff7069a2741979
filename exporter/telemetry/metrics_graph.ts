// Grafana's service graph, of the requests of all protocols: the exact names of Tempo's metrics generator. Part of the
// catalogue. https://grafana.com/docs/tempo/latest/metrics-generator/service_graphs/
import { defineMetrics, HTTP_DURATION_SECONDS } from './definition.ts';

const GRAPH = [
  'client',
  'server',
  'client_service_namespace',
  'server_service_namespace',
  'connection_type',
] as const;
const graph = { probe: 'service_graph', stability: 'stable', attributes: GRAPH } as const;

/** What these metrics belong to. */
export const GRAPH_PART = { name: 'service_graph', title: 'Service graph', series: 'expire' } as const;

export const GRAPH_METRICS = defineMetrics([
  {
    ...graph,
    name: 'traces_service_graph_request_total',
    kind: 'counter',
    unit: '',
    description: 'Requests between two nodes of the service graph.',
  },
  {
    ...graph,
    name: 'traces_service_graph_request_failed_total',
    kind: 'counter',
    unit: '',
    description: 'Failed requests between two nodes of the service graph.',
  },
  {
    ...graph,
    name: 'traces_service_graph_request_server_seconds',
    kind: 'histogram',
    unit: 's',
    description: 'Duration of requests between two nodes of the service graph, measured by the server.',
    buckets: HTTP_DURATION_SECONDS,
  },
  {
    ...graph,
    name: 'traces_service_graph_request_client_seconds',
    kind: 'histogram',
    unit: 's',
    description: 'Duration of requests between two nodes of the service graph, measured by the client.',
    buckets: HTTP_DURATION_SECONDS,
  },
]);
