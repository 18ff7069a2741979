// Rows of panels that every protocol has: rate, errors and duration of its requests, at the workload that answers them
// and at the one that sends them. Made from the protocol's descriptor; called by the Workload dashboard.
import { CLIENT_COLUMNS, LATENCY_STEPS, RATIO_STEPS, SERVER_LEGEND } from './columns.ts';
import type { Section } from './layout.ts';
import type { PanelSpec } from './panels.ts';
import { and, topk } from './promql/expression.ts';
import { operationLabels, statusLabel } from './promql/select.ts';
import * as requests from './queries/requests.ts';
import { CLIENT, LINES, ROWS, SERVER } from './queries/scope.ts';

const IN = 'workloadInbound';

/** Its panels had their ids before there were other protocols. */
const FIRST = 'http';
const IDS_EACH = 200;
const SLOTS = 50_000;

/**
 * Where the ids of a protocol's panels begin. Made of its name alone, since ids stay what they are whichever protocols
 * come and go; a test finds two that meet.
 */
function firstId(name: string): number {
  if (name === FIRST) return 0;
  // FNV-1a
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return (1 + (hash % SLOTS)) * IDS_EACH;
}

const columns = {
  rate: { title: 'Requests', unit: 'reqps' },
  errors: { title: 'Errors', unit: 'percentunit', steps: RATIO_STEPS },
  p95: { title: 'p95', unit: 's', steps: LATENCY_STEPS },
} as const;

/** A table of rate, errors and duration; every column is about the same rows, the busiest. */
function table(
  protocol: requests.RequestProtocol,
  by: readonly requests.Label[],
  panel: Pick<PanelSpec, 'id' | 'title' | 'description'> & { labels: Record<string, { title: string }> },
): PanelSpec {
  const busiest = topk(ROWS, requests.requestRate([protocol], IN, by));
  return {
    ...panel,
    type: 'table',
    unit: 'none',
    targets: [
      { query: busiest, refId: 'rate' },
      { query: and(requests.errorRatio([protocol], IN, by), busiest), refId: 'errors' },
      { query: and(requests.durationQuantile(0.95, protocol, IN, by), busiest), refId: 'p95' },
    ],
    values: columns,
    sortBy: 'Requests',
  };
}

/** What the workload answers. */
export function inbound(protocol: requests.RequestProtocol): Section {
  const first = firstId(protocol.name);
  const status = statusLabel(protocol);
  const quantile = (q: number) => requests.durationQuantile(q, protocol, IN);
  const operation = protocol.operation.map(({ title }) => title.toLowerCase()).join(' and ');
  const columnOf = operationLabels(protocol).map(
    (label, i) => [label, { title: protocol.operation[i]?.title ?? label }] as const,
  );
  return {
    id: first + 100,
    title: `Inbound ${protocol.title}: what it answers`,
    panels: [
      {
        id: first + 1,
        type: 'timeseries',
        title: 'Requests by status',
        description: 'Requests per second, by status; without one: there was none.',
        unit: 'reqps',
        stacked: true,
        targets: [
          {
            query: topk(LINES, requests.requestRate([protocol], IN, [status])),
            legend: `{{${status}}}`,
          },
        ],
      },
      {
        id: first + 2,
        type: 'timeseries',
        title: 'Errors',
        description: 'Share of requests that failed.',
        unit: 'percentunit',
        steps: RATIO_STEPS,
        targets: [{ query: requests.errorRatio([protocol], IN), legend: 'errors' }],
      },
      {
        id: first + 3,
        type: 'timeseries',
        title: 'Latency',
        description: 'Half, 95 and 99 of 100 requests were answered within this time. The points are traces.',
        unit: 's',
        targets: [
          { query: quantile(0.5), legend: 'p50' },
          { query: quantile(0.95), legend: 'p95', exemplar: true },
          { query: quantile(0.99), legend: 'p99' },
        ],
      },
      table(protocol, operationLabels(protocol), {
        id: first + 7,
        title: 'Operations',
        description: `The ${ROWS} with most requests, by ${operation}.`,
        labels: Object.fromEntries(columnOf),
      }),
      table(protocol, CLIENT, {
        id: first + 8,
        title: 'Clients',
        description: `The ${ROWS} clients with most requests.`,
        labels: CLIENT_COLUMNS,
      }),
    ],
  };
}

/** Whom the workload calls. */
export function outbound(protocol: requests.RequestProtocol): Section {
  const first = firstId(protocol.name);
  return {
    id: first + 101,
    title: `Outbound ${protocol.title}: whom it calls`,
    panels: [
      {
        id: first + 20,
        type: 'timeseries',
        title: 'Requests',
        description: `Requests per second by server; the ${LINES} called most. Measured by this workload.`,
        unit: 'reqps',
        targets: [{ query: requests.outboundRate(protocol, SERVER), legend: SERVER_LEGEND }],
      },
      {
        id: first + 21,
        type: 'timeseries',
        title: 'Errors',
        description: 'Share of requests that failed as this workload saw it.',
        unit: 'percentunit',
        targets: [{ query: requests.outboundErrorRatio(protocol, SERVER), legend: SERVER_LEGEND }],
      },
      {
        id: first + 22,
        type: 'timeseries',
        title: 'Latency, p95',
        description:
          'By server, network included. More than what the server itself measures: time on the way or in queues.',
        unit: 's',
        targets: [
          {
            query: requests.outboundQuantile(0.95, protocol, SERVER),
            legend: SERVER_LEGEND,
            exemplar: true,
          },
        ],
      },
    ],
  };
}
