// The Workload dashboard: one workload from all sides.
import { ANY_STEPS, CLIENT_LEGEND, SERVER_LEGEND } from './columns.ts';
import { type DashboardSpec, type Section, UID } from './layout.ts';
import { topk } from './promql/expression.ts';
import * as http from './queries/http.ts';
import type { RequestProtocol } from './queries/requests.ts';
import { CLIENT, LINES, SERVER } from './queries/scope.ts';
import * as tcp from './queries/tcp.ts';
import { inbound, outbound } from './red.ts';

const IN = 'workloadInbound';
const OUT = 'workloadOutbound';
/** What only HTTP has. */
const httpDetails: Section = {
  id: 104,
  title: 'Inbound HTTP: first bytes, bodies, requests in flight',
  panels: [
    {
      id: 4,
      type: 'timeseries',
      title: 'Time to first byte',
      description:
        'From the first byte of the request to the first byte of the response, at the server. Far below the latency: large or slowly written responses.',
      unit: 's',
      targets: [
        { query: http.timeToFirstByte(0.5), legend: 'p50' },
        { query: http.timeToFirstByte(0.95), legend: 'p95' },
      ],
    },
    {
      id: 5,
      type: 'timeseries',
      title: 'Requests in flight',
      description: 'Requests that were not answered yet.',
      unit: 'short',
      targets: [{ query: http.activeRequests(IN), legend: 'in flight' }],
    },
    {
      id: 6,
      type: 'timeseries',
      title: 'Body sizes, p95',
      description: '95 of 100 bodies are not larger than this.',
      unit: 'bytes',
      targets: [
        { query: http.sizeQuantile(0.95, IN, 'request.body.size'), legend: 'request' },
        { query: http.sizeQuantile(0.95, IN, 'response.body.size'), legend: 'response' },
      ],
    },
  ],
};

const tcpIn: Section = {
  id: 102,
  title: 'TCP: connections to it',
  panels: [
    {
      id: 30,
      type: 'timeseries',
      title: 'Throughput by client',
      description: `Payload of both directions; the ${LINES} busiest clients.`,
      unit: 'Bps',
      targets: [{ query: topk(LINES, tcp.throughput(IN, CLIENT)), legend: CLIENT_LEGEND }],
    },
    {
      id: 31,
      type: 'timeseries',
      title: 'Open connections by client',
      description: `The ${LINES} clients with most.`,
      unit: 'short',
      targets: [{ query: topk(LINES, tcp.openConnections(IN, CLIENT)), legend: CLIENT_LEGEND }],
    },
    {
      id: 32,
      type: 'timeseries',
      title: 'Round-trip time',
      description: 'Smoothed by the kernel, of connections that moved data.',
      unit: 's',
      targets: [
        { query: tcp.rttQuantile(0.5, IN), legend: 'p50' },
        { query: tcp.rttQuantile(0.99, IN), legend: 'p99' },
      ],
    },
    {
      id: 33,
      type: 'timeseries',
      title: 'Retransmits and disorder',
      description: 'Segments per second sent again, and segments that arrived out of order.',
      unit: 'cps',
      targets: [
        { query: tcp.edgeRate('knp.tcp.retransmitted_segments', IN), legend: 'retransmitted' },
        { query: tcp.edgeRate('knp.tcp.out_of_order_segments', IN), legend: 'out of order' },
      ],
    },
    {
      id: 34,
      type: 'timeseries',
      title: 'Failed connects to it',
      description: 'Attempts per second that did not succeed, as the clients saw it.',
      unit: 'cps',
      targets: [{ query: tcp.connectFailures(IN, ['reason']), legend: '{{reason}}' }],
    },
    {
      id: 35,
      type: 'timeseries',
      title: 'Accept queue',
      description:
        'Connections that wait to be accepted, and how many may; drops per second when it is full.',
      unit: 'short',
      steps: ANY_STEPS,
      targets: [
        { query: tcp.backlog(IN), legend: 'waiting' },
        { query: tcp.backlogLimit(IN), legend: 'limit' },
        { query: tcp.listenDrops(IN), legend: 'dropped per second' },
      ],
    },
  ],
};

const tcpOut: Section = {
  id: 103,
  title: 'TCP: connections it opens',
  panels: [
    {
      id: 40,
      type: 'timeseries',
      title: 'Throughput by server',
      description: `Payload of both directions; the ${LINES} busiest servers.`,
      unit: 'Bps',
      targets: [{ query: topk(LINES, tcp.throughput(OUT, SERVER)), legend: SERVER_LEGEND }],
    },
    {
      id: 41,
      type: 'timeseries',
      title: 'Failed connects',
      description: `Attempts per second that did not succeed; the ${LINES} servers with most.`,
      unit: 'cps',
      targets: [
        {
          query: topk(LINES, tcp.connectFailures(OUT, [...SERVER, 'reason'])),
          legend: `${SERVER_LEGEND} {{reason}}`,
        },
      ],
    },
    {
      id: 42,
      type: 'timeseries',
      title: 'Time to connect, p95',
      description: `From the first SYN to established; the ${LINES} slowest servers.`,
      unit: 's',
      targets: [{ query: topk(LINES, tcp.connectQuantile(0.95, OUT, SERVER)), legend: SERVER_LEGEND }],
    },
  ],
};

export const workload = (protocols: readonly RequestProtocol[]): DashboardSpec => ({
  uid: UID.workload,
  title: 'KubeNetProbe / Workload',
  description: 'One workload: what it answers, whom it calls, its operations, its TCP health.',
  variables: ['cluster', 'namespace', 'workload', 'reporter'],
  sections: [...protocols.map(inbound), httpDetails, ...protocols.map(outbound), tcpIn, tcpOut],
});
