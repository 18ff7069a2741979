// The Workload dashboard: one workload from all sides.
import {
  ANY_STEPS,
  CLIENT_COLUMNS,
  CLIENT_LEGEND,
  LATENCY_STEPS,
  RATIO_STEPS,
  SERVER_LEGEND,
} from './columns.ts';
import { type DashboardSpec, type Section, UID } from './layout.ts';
import { and, topk } from './promql/expression.ts';
import * as http from './queries/http.ts';
import { CLIENT, LINES, ROWS, SERVER } from './queries/scope.ts';
import * as tcp from './queries/tcp.ts';

const IN = 'workloadInbound';
const OUT = 'workloadOutbound';
const ROUTE = ['http_request_method', 'http_route'] as const;

/** The rows of the tables: every column is about the same routes, and clients. */
const busiestRoutes = topk(ROWS, http.requestRate(IN, ROUTE));
const busiestClients = topk(ROWS, http.requestRate(IN, CLIENT));

const inbound: Section = {
  id: 100,
  title: 'Inbound HTTP: what it answers',
  panels: [
    {
      id: 1,
      type: 'timeseries',
      title: 'Requests by status',
      description: 'Requests per second, by status code; without one: no answer.',
      unit: 'reqps',
      stacked: true,
      targets: [
        {
          query: topk(LINES, http.requestRate(IN, ['http_response_status_code'])),
          legend: '{{http_response_status_code}}',
        },
      ],
    },
    {
      id: 2,
      type: 'timeseries',
      title: 'Errors',
      description: 'Share of requests that failed.',
      unit: 'percentunit',
      steps: RATIO_STEPS,
      targets: [{ query: http.errorRatio(IN), legend: 'errors' }],
    },
    {
      id: 3,
      type: 'timeseries',
      title: 'Latency',
      description: 'Half, 95 and 99 of 100 requests were answered within this time. The points are traces.',
      unit: 's',
      targets: [
        { query: http.requestQuantile(0.5, IN), legend: 'p50' },
        { query: http.requestQuantile(0.95, IN), legend: 'p95', exemplar: true },
        { query: http.requestQuantile(0.99, IN), legend: 'p99' },
      ],
    },
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
        { query: http.requestQuantile(0.95, IN, [], 'request.body.size'), legend: 'request' },
        { query: http.requestQuantile(0.95, IN, [], 'response.body.size'), legend: 'response' },
      ],
    },
    {
      id: 7,
      type: 'table',
      title: 'Routes',
      description: `The ${ROWS} routes with most requests.`,
      unit: 'none',
      targets: [
        { query: busiestRoutes, refId: 'rate' },
        { query: and(http.errorRatio(IN, ROUTE), busiestRoutes), refId: 'errors' },
        { query: and(http.requestQuantile(0.95, IN, ROUTE), busiestRoutes), refId: 'p95' },
      ],
      labels: { http_request_method: { title: 'Method' }, http_route: { title: 'Route' } },
      values: {
        rate: { title: 'Requests', unit: 'reqps' },
        errors: { title: 'Errors', unit: 'percentunit', steps: RATIO_STEPS },
        p95: { title: 'p95', unit: 's', steps: LATENCY_STEPS },
      },
      sortBy: 'Requests',
    },
    {
      id: 8,
      type: 'table',
      title: 'Clients',
      description: `The ${ROWS} clients with most requests.`,
      unit: 'none',
      targets: [
        { query: busiestClients, refId: 'rate' },
        { query: and(http.errorRatio(IN, CLIENT), busiestClients), refId: 'errors' },
        { query: and(http.requestQuantile(0.95, IN, CLIENT), busiestClients), refId: 'p95' },
      ],
      labels: CLIENT_COLUMNS,
      values: {
        rate: { title: 'Requests', unit: 'reqps' },
        errors: { title: 'Errors', unit: 'percentunit', steps: RATIO_STEPS },
        p95: { title: 'p95', unit: 's', steps: LATENCY_STEPS },
      },
      sortBy: 'Requests',
    },
  ],
};

const outbound: Section = {
  id: 101,
  title: 'Outbound HTTP: whom it calls',
  panels: [
    {
      id: 20,
      type: 'timeseries',
      title: 'Requests',
      description: `Requests per second by server; the ${LINES} called most. Measured by this workload.`,
      unit: 'reqps',
      targets: [{ query: http.outboundRate(SERVER), legend: SERVER_LEGEND }],
    },
    {
      id: 21,
      type: 'timeseries',
      title: 'Errors',
      description: 'Share of requests that failed as this workload saw it: 4xx, 5xx, no answer.',
      unit: 'percentunit',
      targets: [{ query: http.outboundErrorRatio(SERVER), legend: SERVER_LEGEND }],
    },
    {
      id: 22,
      type: 'timeseries',
      title: 'Latency, p95',
      description:
        'By server, network included. More than what the server itself measures: time on the way or in queues.',
      unit: 's',
      targets: [{ query: http.outboundQuantile(0.95, SERVER), legend: SERVER_LEGEND, exemplar: true }],
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

export const workload: DashboardSpec = {
  uid: UID.workload,
  title: 'KubeNetProbe / Workload',
  description: 'One workload: what it answers, whom it calls, its routes, its TCP health.',
  variables: ['cluster', 'namespace', 'workload', 'reporter'],
  sections: [inbound, outbound, tcpIn, tcpOut],
};
