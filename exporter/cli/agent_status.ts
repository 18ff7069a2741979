// Makes the agent's view of itself from a running measurement. Used by the agent's /api/status and by `doctor`.
import { release } from 'node:os';
import type { Measurement } from './measurement.ts';
import type { AgentStatus } from './status.ts';
import { version } from './version.ts';

/** The status at this moment. */
export function agentStatus(measurement: Measurement, startedAt: Date): AgentStatus {
  const { probes, identity } = measurement;
  const lost = measurement.lost();
  return {
    version: version(),
    pid: process.pid,
    started_at: startedAt.toISOString(),
    node_version: process.version,
    kernel_release: release(),
    ready: measurement.unready().length === 0,
    probes,
    maps: measurement.maps(),
    lost,
    coverage_ratio: measurement.coverage(),
    problems: [
      ...probes
        .filter(({ state }) => state === 'failed')
        .map(({ name, reason }) => `${name} is not measured: ${reason}`),
      ...identity.stats().problems,
      ...(lost.edge_table_full
        ? ['the edge table is full: raise limits.edges, or the rest stays under `other`']
        : []),
      ...(lost.owner_table_full
        ? ['the owner table is full: raise limits.owners, or the rest stays under `other`']
        : []),
    ],
  };
}
