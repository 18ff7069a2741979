// Makes the agent's view of itself from a running measurement. Used by the agent's /api/status and by `doctor`.
import { release } from 'node:os';
import type { Measurement } from './measurement.ts';
import type { AgentStatus } from './status.ts';
import { version } from './version.ts';

/** The status at this moment. */
export function agentStatus(measurement: Measurement, startedAt: Date): AgentStatus {
  return {
    version: version(),
    pid: process.pid,
    started_at: startedAt.toISOString(),
    node_version: process.version,
    kernel_release: release(),
    ready: measurement.unready().length === 0,
    probes: measurement.probes(),
    maps: measurement.maps(),
    lost: measurement.lost(),
    coverage_ratio: measurement.coverage(),
    problems: measurement.problems(),
  };
}
