// The Overview dashboard: what is wrong now, the four golden signals by workload, who talks most.
import {
  ANY_STEPS,
  LATENCY_STEPS,
  PAIR_COLUMNS,
  RATIO_STEPS,
  SERVER_COLUMNS,
  SERVER_LEGEND,
} from './columns.ts';
import { type DashboardSpec, type Section, UID } from './layout.ts';
import { and, topk } from './promql/expression.ts';
import { firingAlerts, firingCount } from './queries/agent.ts';
import * as http from './queries/http.ts';
import type { RequestProtocol } from './queries/requests.ts';
import * as requests from './queries/requests.ts';
import { LINES, PAIR, ROWS, SERVER } from './queries/scope.ts';
import * as tcp from './queries/tcp.ts';

const wrong = (protocols: readonly RequestProtocol[]): Section => ({
  id: 100,
  title: 'What is wrong now',
  panels: [
    {
      id: 1,
      type: 'stat',
      title: 'Alerts firing',
      description:
        'Alerts of this project that are firing now. Needs the rules of alerts/ in the same Prometheus.',
      unit: 'none',
      steps: [{ from: 1, color: 'red' }],
      targets: [{ query: firingCount() }],
    },
    {
      id: 2,
      type: 'stat',
      title: 'Requests',
      description: 'Requests per second that the chosen namespaces answer, of all protocols.',
      unit: 'reqps',
      targets: [{ query: requests.requestRate(protocols, 'inbound') }],
    },
    {
      id: 3,
      type: 'stat',
      title: 'Errors',
      description:
        'Share of requests that failed. Of HTTP: status 5xx, or no answer (as the client sees it also 4xx).',
      unit: 'percentunit',
      steps: RATIO_STEPS,
      targets: [{ query: requests.errorRatio(protocols, 'inbound') }],
    },
    {
      id: 4,
      type: 'stat',
      title: 'Latency, p95',
      description: '95 of 100 requests were answered within this time, by protocol.',
      unit: 's',
      steps: LATENCY_STEPS,
      targets: [{ query: requests.durationQuantiles(0.95, protocols, 'inbound'), legend: '{{protocol}}' }],
    },
    {
      id: 5,
      type: 'stat',
      title: 'Failed connects',
      description: 'Share of TCP connection attempts that did not succeed, as the clients saw it.',
      unit: 'percentunit',
      steps: RATIO_STEPS,
      targets: [{ query: tcp.connectFailureRatio('inbound') }],
    },
    {
      id: 6,
      type: 'stat',
      title: 'Dropped by listeners',
      description: 'Connection requests per second that a full accept queue dropped.',
      unit: 'cps',
      steps: ANY_STEPS,
      targets: [{ query: tcp.listenDrops('inbound') }],
    },
    {
      id: 7,
      type: 'table',
      title: 'Firing alerts',
      description: 'What is firing, and for whom. The runbook of each alert is in docs/runbooks.',
      unit: 'none',
      width: 24,
      height: 6,
      targets: [{ query: firingAlerts(), refId: 'alerts' }],
      labels: {
        alertname: { title: 'Alert' },
        severity: { title: 'Severity' },
        cluster: { title: 'Cluster' },
        server_namespace: { title: 'Server namespace' },
        server_workload: { title: 'Server' },
        instance: { title: 'Agent' },
      },
      values: {},
    },
  ],
});

const golden = (protocols: readonly RequestProtocol[]): Section => {
  /** The rows of the table: every column is about the same workloads. */
  const busiest = topk(ROWS, requests.requestRate(protocols, 'inbound', SERVER));
  return {
    id: 101,
    title: 'Golden signals',
    panels: [
      {
        id: 10,
        type: 'timeseries',
        title: 'Traffic',
        description: `Requests per second, of all protocols; the ${LINES} workloads that answer most.`,
        unit: 'reqps',
        targets: [
          { query: topk(LINES, requests.requestRate(protocols, 'inbound', SERVER)), legend: SERVER_LEGEND },
        ],
      },
      {
        id: 11,
        type: 'timeseries',
        title: 'Errors',
        description: `Share of requests that failed; the ${LINES} workloads with the largest.`,
        unit: 'percentunit',
        targets: [
          { query: topk(LINES, requests.errorRatio(protocols, 'inbound', SERVER)), legend: SERVER_LEGEND },
        ],
      },
      {
        id: 12,
        type: 'timeseries',
        title: 'Latency, p95',
        description: `95 of 100 requests were answered within this time; the ${LINES} slowest workloads. The points are traces.`,
        unit: 's',
        targets: [
          {
            query: topk(LINES, requests.durationQuantiles(0.95, protocols, 'inbound', SERVER)),
            legend: `${SERVER_LEGEND} {{protocol}}`,
            exemplar: true,
          },
        ],
      },
      {
        id: 13,
        type: 'timeseries',
        title: 'Saturation: requests in flight',
        description: `HTTP requests that were not answered yet; the ${LINES} workloads with most. A line that climbs without more traffic is a workload that cannot keep up.`,
        unit: 'short',
        targets: [{ query: topk(LINES, http.activeRequests('inbound', SERVER)), legend: SERVER_LEGEND }],
      },
      {
        id: 14,
        type: 'timeseries',
        title: 'Saturation: accept queues',
        description: `How full the accept queues of listening sockets are; the ${LINES} fullest. A full one drops connections.`,
        unit: 'percentunit',
        targets: [{ query: topk(LINES, tcp.backlogRatio('inbound', SERVER)), legend: SERVER_LEGEND }],
      },
      {
        id: 15,
        type: 'timeseries',
        title: 'Throughput',
        description: `TCP payload of both directions, any protocol; the ${LINES} busiest workloads.`,
        unit: 'Bps',
        targets: [{ query: topk(LINES, tcp.throughput('inbound', SERVER)), legend: SERVER_LEGEND }],
      },
      {
        id: 16,
        type: 'table',
        title: 'Workloads',
        description: `The ${ROWS} workloads that answer most requests; the latency is that of the slowest protocol. A click on the name opens its dashboard.`,
        unit: 'none',
        width: 24,
        targets: [
          { query: busiest, refId: 'rate' },
          { query: and(requests.errorRatio(protocols, 'inbound', SERVER), busiest), refId: 'errors' },
          { query: and(requests.slowestQuantile(0.95, protocols, 'inbound', SERVER), busiest), refId: 'p95' },
          { query: and(tcp.openConnections('inbound', SERVER), busiest), refId: 'connections' },
          { query: and(tcp.throughput('inbound', SERVER), busiest), refId: 'bytes' },
        ],
        labels: SERVER_COLUMNS,
        values: {
          rate: { title: 'Requests', unit: 'reqps' },
          errors: { title: 'Errors', unit: 'percentunit', steps: RATIO_STEPS },
          p95: { title: 'p95', unit: 's', steps: LATENCY_STEPS },
          connections: { title: 'Connections', unit: 'short' },
          bytes: { title: 'Throughput', unit: 'Bps' },
        },
        sortBy: 'Requests',
      },
    ],
  };
};

const talkers: Section = {
  id: 102,
  title: 'Top talkers',
  panels: [
    {
      id: 20,
      type: 'table',
      title: 'Pairs',
      description: `The ${ROWS} pairs that move most TCP payload.`,
      unit: 'Bps',
      targets: [{ query: topk(ROWS, tcp.throughput('inbound', PAIR)), refId: 'bytes' }],
      labels: PAIR_COLUMNS,
      values: { bytes: { title: 'Throughput', unit: 'Bps' } },
      sortBy: 'Throughput',
    },
    {
      id: 21,
      type: 'timeseries',
      title: 'New connections',
      description: `TCP connections opened per second; the ${LINES} workloads that accept most.`,
      unit: 'cps',
      width: 12,
      height: 9,
      targets: [
        {
          query: topk(LINES, tcp.edgeRate('knp.tcp.connections_opened', 'inbound', SERVER)),
          legend: SERVER_LEGEND,
        },
      ],
    },
  ],
};

export const overview = (protocols: readonly RequestProtocol[]): DashboardSpec => ({
  uid: UID.overview,
  title: 'KubeNetProbe / Overview',
  description: 'The four golden signals by namespace and workload, top talkers, and what is wrong now.',
  variables: ['cluster', 'namespace', 'reporter'],
  sections: [wrong(protocols), golden(protocols), talkers],
});
