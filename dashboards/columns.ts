// Columns and panels that more than one dashboard shows. Called by the dashboards of this folder.
import { workloadLink } from './layout.ts';
import type { Column, Step } from './panels.ts';

const WARN_RATIO = 0.01;
const BAD_RATIO = 0.05;
/** Shares of what should not happen. */
export const RATIO_STEPS: readonly Step[] = [
  { from: WARN_RATIO, color: 'orange' },
  { from: BAD_RATIO, color: 'red' },
];
/** Seconds that a caller waits. */
export const LATENCY_STEPS: readonly Step[] = [
  { from: 0.5, color: 'orange' },
  { from: 1, color: 'red' },
];
/** What should be zero. */
export const ANY_STEPS: readonly Step[] = [{ from: 0.001, color: 'red' }];
export const FILL_STEPS: readonly Step[] = [
  { from: 0.7, color: 'orange' },
  { from: 0.85, color: 'red' },
];

const NAMES = {
  server: { namespace: 'Server namespace', workload: 'Server' },
  client: { namespace: 'Client namespace', workload: 'Client' },
} as const;

const ends = (side: 'server' | 'client'): { namespace: Column; workload: Column } => ({
  namespace: { title: NAMES[side].namespace },
  workload: { title: NAMES[side].workload, link: workloadLink(side, NAMES[side]) },
});

/** Columns for the labels of one end of an edge. */
export const SERVER_COLUMNS = {
  server_namespace: ends('server').namespace,
  server_workload: ends('server').workload,
} as const;
export const CLIENT_COLUMNS = {
  client_namespace: ends('client').namespace,
  client_workload: ends('client').workload,
} as const;
export const PAIR_COLUMNS = { ...CLIENT_COLUMNS, ...SERVER_COLUMNS } as const;

/** Legends. */
export const SERVER_LEGEND = '{{server_namespace}}/{{server_workload}}';
export const CLIENT_LEGEND = '{{client_namespace}}/{{client_workload}}';
export const PAIR_LEGEND = `${CLIENT_LEGEND} → ${SERVER_LEGEND}`;
