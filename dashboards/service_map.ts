// The Service map dashboard: who calls whom, as a graph and as a table.
import { LATENCY_STEPS, RATIO_STEPS } from './columns.ts';
import { type DashboardSpec, UID } from './layout.ts';
import { requestEdges, requestNodes, requestPairs, tcpEdges, tcpNodes } from './queries/graph.ts';

export const serviceMap: DashboardSpec = {
  uid: UID.map,
  title: 'KubeNetProbe / Service map',
  description:
    'Which workload calls which, over the chosen time: rate, errors, latency of all protocols; and bytes of TCP.',
  variables: ['cluster', 'namespace', 'reporter'],
  sections: [
    {
      id: 100,
      title: 'Requests of all protocols',
      panels: [
        {
          id: 1,
          type: 'nodeGraph',
          title: 'Requests',
          description:
            'Nodes: requests per second that the workload answers, and its p95 latency. Edges: requests per second and p95 latency between the two. At most 200 edges: the busiest.',
          unit: 'reqps',
          nodes: {
            mainstat: { query: requestNodes.rate() },
            secondarystat: { query: requestNodes.latency() },
            detail__error_ratio: { query: requestNodes.errors() },
          },
          edges: {
            mainstat: { query: requestEdges.rate() },
            secondarystat: { query: requestEdges.latency() },
            detail__error_ratio: { query: requestEdges.errors() },
          },
          nodeUnits: { main: 'reqps', secondary: 's' },
          edgeUnits: { main: 'reqps', secondary: 's' },
        },
        {
          id: 2,
          type: 'table',
          title: 'Pairs',
          description: 'The same edges as rows.',
          unit: 'none',
          width: 24,
          targets: [
            { query: requestPairs.rate(), refId: 'rate' },
            { query: requestPairs.errors(), refId: 'errors' },
            { query: requestPairs.latency(), refId: 'p95' },
            { query: requestPairs.clientLatency(), refId: 'client' },
          ],
          labels: {
            client_service_namespace: { title: 'Client namespace' },
            client: { title: 'Client' },
            server_service_namespace: { title: 'Server namespace' },
            server: { title: 'Server' },
            connection_type: { title: 'Type' },
          },
          values: {
            rate: { title: 'Requests', unit: 'reqps' },
            errors: { title: 'Errors', unit: 'percentunit', steps: RATIO_STEPS },
            p95: { title: 'p95 at the server', unit: 's', steps: LATENCY_STEPS },
            client: { title: 'p95 at the client', unit: 's', steps: LATENCY_STEPS },
          },
          sortBy: 'Requests',
        },
      ],
    },
    {
      id: 101,
      title: 'TCP, any protocol',
      panels: [
        {
          id: 10,
          type: 'nodeGraph',
          title: 'Throughput',
          description:
            'Nodes: payload of both directions that the workload serves. Edges: the same between the two, and the p95 round-trip time. At most 200 edges: the busiest.',
          unit: 'Bps',
          nodes: { mainstat: { query: tcpNodes.bytes() } },
          edges: { mainstat: { query: tcpEdges.bytes() }, secondarystat: { query: tcpEdges.rtt() } },
          nodeUnits: { main: 'Bps', secondary: 'none' },
          edgeUnits: { main: 'Bps', secondary: 's' },
        },
      ],
    },
  ],
};
