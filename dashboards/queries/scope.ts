// What a dashboard's variables select, as label matchers; every query function takes one of these scopes.
import { variable } from '../promql/matchers.ts';

/** Which side of an edge a dashboard looks at, and how narrowly. */
export type Scope = 'inbound' | 'outbound' | 'workloadInbound' | 'workloadOutbound';

const cluster = { cluster: variable('cluster') };
const reported = { ...cluster, reporter: variable('reporter') };

/**
 * Matchers for metrics about a pair. Outbound traffic is read from the client's side whatever the variable says: only
 * the client sees servers that no agent observes.
 */
export const EDGE_SCOPE = {
  inbound: { ...reported, server_namespace: variable('namespace') },
  outbound: { ...cluster, reporter: 'client', client_namespace: variable('namespace') },
  workloadInbound: {
    ...reported,
    server_namespace: variable('namespace'),
    server_workload: variable('workload'),
  },
  workloadOutbound: {
    ...cluster,
    reporter: 'client',
    client_namespace: variable('namespace'),
    client_workload: variable('workload'),
  },
} as const;

/** Matchers for what only the client can measure, by the server's namespace and workload. */
export const CLIENT_SCOPE = {
  inbound: { ...EDGE_SCOPE.inbound, reporter: 'client' },
  workloadInbound: { ...EDGE_SCOPE.workloadInbound, reporter: 'client' },
  workloadOutbound: EDGE_SCOPE.workloadOutbound,
} as const;

/** Matchers for listening sockets, which have no client. */
export const LISTENER_SCOPE = {
  inbound: { ...cluster, server_namespace: variable('namespace') },
  workloadInbound: {
    ...cluster,
    server_namespace: variable('namespace'),
    server_workload: variable('workload'),
  },
} as const;

/** Matchers for the agent's own metrics. */
export const AGENT_SCOPE = { ...cluster, instance: variable('instance') } as const;

export const SERVER = ['server_namespace', 'server_workload'] as const;
export const CLIENT = ['client_namespace', 'client_workload'] as const;
export const PAIR = [...CLIENT, ...SERVER] as const;

/** Most series of one panel, so that 500 workloads draw no more lines than 10. */
export const LINES = 10;
export const ROWS = 50;
