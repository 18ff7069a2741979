// The TCP health dashboard: what the kernel's sockets know about the network between the workloads.
import {
  ANY_STEPS,
  LATENCY_STEPS,
  PAIR_COLUMNS,
  PAIR_LEGEND,
  RATIO_STEPS,
  SERVER_LEGEND,
} from './columns.ts';
import { type DashboardSpec, type Section, UID } from './layout.ts';
import { and, topk } from './promql/expression.ts';
import { LINES, PAIR, ROWS, SERVER } from './queries/scope.ts';
import * as tcp from './queries/tcp.ts';

const path: Section = {
  id: 100,
  title: 'The way between',
  panels: [
    {
      id: 1,
      type: 'timeseries',
      title: 'Round-trip time',
      description: 'Smoothed by the kernel, of connections that moved data.',
      unit: 's',
      targets: [
        { query: tcp.rttQuantile(0.5, 'inbound'), legend: 'p50' },
        { query: tcp.rttQuantile(0.95, 'inbound'), legend: 'p95' },
        { query: tcp.rttQuantile(0.99, 'inbound'), legend: 'p99' },
      ],
    },
    {
      id: 2,
      type: 'heatmap',
      title: 'Round-trip times',
      description: 'Two bands mean two kinds of paths, such as within and between zones.',
      unit: 's',
      targets: [{ query: tcp.rttBuckets('inbound') }],
    },
    {
      id: 3,
      type: 'timeseries',
      title: 'Round-trip time, p95, slowest pairs',
      description: `The ${LINES} pairs with the longest.`,
      unit: 's',
      targets: [{ query: topk(LINES, tcp.rttQuantile(0.95, 'inbound', PAIR)), legend: PAIR_LEGEND }],
    },
    {
      id: 4,
      type: 'timeseries',
      title: 'Retransmitted segments',
      description: `Per second; the ${LINES} pairs with most. On one pair: that path or its ends; on all of a node: its link.`,
      unit: 'cps',
      targets: [
        {
          query: topk(LINES, tcp.edgeRate('knp.tcp.retransmitted_segments', 'inbound', PAIR)),
          legend: PAIR_LEGEND,
        },
      ],
    },
    {
      id: 5,
      type: 'timeseries',
      title: 'Retransmits per megabyte',
      description: `What is lost in relation to what is sent; the ${LINES} pairs with most. Full segments of 1448 bytes: 7 per megabyte are 1 %.`,
      unit: 'short',
      targets: [{ query: topk(LINES, tcp.retransmitsPerMegabyte('inbound', PAIR)), legend: PAIR_LEGEND }],
    },
    {
      id: 6,
      type: 'timeseries',
      title: 'Segments out of order',
      description: `Received per second; the ${LINES} pairs with most.`,
      unit: 'cps',
      targets: [
        {
          query: topk(LINES, tcp.edgeRate('knp.tcp.out_of_order_segments', 'inbound', PAIR)),
          legend: PAIR_LEGEND,
        },
      ],
    },
  ],
};

const connections: Section = {
  id: 101,
  title: 'Connections',
  panels: [
    {
      id: 10,
      type: 'timeseries',
      title: 'Failed connects by reason',
      description:
        'Attempts per second, as the clients saw it. refused: nobody listens; timed_out: packets are lost or filtered; unreachable: a router or the neighbour says no; no_route, prohibited, invalid: routes and rules of the client itself; address_unavailable: the client has no port left; cancelled: the client gave up before an answer came.',
      unit: 'cps',
      stacked: true,
      targets: [{ query: tcp.connectFailures('inbound', ['reason']), legend: '{{reason}}' }],
    },
    {
      id: 11,
      type: 'timeseries',
      title: 'Failed connects, worst servers',
      description: `Share of attempts that failed; the ${LINES} servers with the largest.`,
      unit: 'percentunit',
      targets: [{ query: topk(LINES, tcp.connectFailureRatio('inbound', SERVER)), legend: SERVER_LEGEND }],
    },
    {
      id: 12,
      type: 'timeseries',
      title: 'Time to connect, p95',
      description: `From the first SYN to established; the ${LINES} slowest servers. One second more means a lost SYN.`,
      unit: 's',
      targets: [{ query: topk(LINES, tcp.connectQuantile(0.95, 'inbound', SERVER)), legend: SERVER_LEGEND }],
    },
    {
      id: 13,
      type: 'timeseries',
      title: 'Resets',
      description: 'RST segments per second, seen from the reporting side.',
      unit: 'cps',
      targets: [{ query: tcp.resets('inbound', ['direction']), legend: '{{direction}}' }],
    },
    {
      id: 14,
      type: 'timeseries',
      title: 'Resets, worst servers',
      description: `Per second; the ${LINES} servers with most.`,
      unit: 'cps',
      targets: [{ query: topk(LINES, tcp.resets('inbound', SERVER)), legend: SERVER_LEGEND }],
    },
    {
      id: 15,
      type: 'timeseries',
      title: 'Opened and open',
      description: 'Connections opened per second, and open now.',
      unit: 'short',
      targets: [
        { query: tcp.edgeRate('knp.tcp.connections_opened', 'inbound'), legend: 'opened per second' },
        { query: tcp.openConnections('inbound'), legend: 'open' },
      ],
    },
  ],
};

/** The rows of the table: every column is about the same pairs. */
const slowest = topk(ROWS, tcp.rttQuantile(0.95, 'inbound', PAIR));

const ends: Section = {
  id: 102,
  title: 'The ends',
  panels: [
    {
      id: 20,
      type: 'timeseries',
      title: 'Time senders were held back',
      description:
        'Seconds per second in which data waited. receive_window: the receiver reads too slowly; send_buffer: the sender has too small a buffer.',
      unit: 's',
      targets: [{ query: tcp.limited('inbound', ['by']), legend: '{{by}}' }],
    },
    {
      id: 21,
      type: 'timeseries',
      title: 'Held back, worst pairs',
      description: `Seconds per second; the ${LINES} pairs with most.`,
      unit: 's',
      targets: [
        { query: topk(LINES, tcp.limited('inbound', [...PAIR, 'by'])), legend: `${PAIR_LEGEND} {{by}}` },
      ],
    },
    {
      id: 22,
      type: 'timeseries',
      title: 'Dropped by listeners',
      description: `Connection requests per second that a full accept queue dropped; the ${LINES} workloads with most.`,
      unit: 'cps',
      steps: ANY_STEPS,
      targets: [{ query: topk(LINES, tcp.listenDrops('inbound', SERVER)), legend: SERVER_LEGEND }],
    },
    {
      id: 23,
      type: 'timeseries',
      title: 'Accept queues',
      description: `How full they are; the ${LINES} fullest.`,
      unit: 'percentunit',
      targets: [{ query: topk(LINES, tcp.backlogRatio('inbound', SERVER)), legend: SERVER_LEGEND }],
    },
    {
      id: 24,
      type: 'table',
      title: 'Pairs',
      description: `The ${ROWS} pairs with the longest round-trip times, and what else is known of them.`,
      unit: 'none',
      width: 16,
      height: 8,
      targets: [
        { query: slowest, refId: 'rtt' },
        { query: and(tcp.retransmitsPerMegabyte('inbound', PAIR), slowest), refId: 'retransmits' },
        { query: and(tcp.connectFailureRatio('inbound', PAIR), slowest), refId: 'failed' },
      ],
      labels: PAIR_COLUMNS,
      values: {
        rtt: { title: 'RTT p95', unit: 's', steps: LATENCY_STEPS },
        retransmits: { title: 'Retransmits per MB', unit: 'short' },
        failed: { title: 'Failed connects', unit: 'percentunit', steps: RATIO_STEPS },
      },
      sortBy: 'RTT p95',
    },
  ],
};

export const tcpHealth: DashboardSpec = {
  uid: UID.tcp,
  title: 'KubeNetProbe / TCP health',
  description:
    'Round-trip times, retransmits, resets, failed connects, accept queues, and who holds whom back.',
  variables: ['cluster', 'namespace', 'reporter'],
  sections: [path, connections, ends],
};
