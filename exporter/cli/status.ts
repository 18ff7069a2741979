// What the agent says about itself beside its metrics: which hooks each probe uses and why not the others, how full
// its maps are. Made by agent.ts, served as /api/status, shown by `doctor`.

/** A hook that a probe could use for one purpose. */
export interface HookStatus {
  /** What it is for: `state`, `walk`, `payload`. */
  purpose: string;
  /** The program in use; null: none could be, and the purpose is not served. */
  program: string | null;
  /** Why each alternative before it was not taken. */
  refused: readonly { program: string; reason: string }[];
}

export interface ProbeStatus {
  name: string;
  /** `attached`: counting. `disabled`: by configuration. `failed`: `reason` says why. */
  state: 'attached' | 'disabled' | 'failed';
  reason?: string;
  hooks: readonly HookStatus[];
}

export interface MapStatus {
  name: string;
  entries: number;
  capacity: number;
}

/** The agent's own view of itself, as JSON. */
export interface AgentStatus {
  version: string;
  pid: number;
  started_at: string;
  node_version: string;
  kernel_release: string;
  ready: boolean;
  probes: readonly ProbeStatus[];
  maps: readonly MapStatus[];
  /** By stage, since the start. */
  lost: Readonly<Record<string, number>>;
  /** Share of the host's TCP sockets that are accounted to an edge of their own; null: not known yet. */
  coverage_ratio: number | null;
  /** One sentence for each thing that is missing or wrong. */
  problems: readonly string[];
}
