// What the agent says about itself beside its metrics: which hooks each probe uses and why not the others, how full
// its maps are. Made by agent.ts, served as /api/status, shown by `doctor`.

/** What serves one purpose of a probe, and why nothing else does. */
export interface HookStatus {
  /** What it is for: `connection state`, `payload`. */
  purpose: string;
  /** Programs in use; empty where an optional purpose is not served. */
  programs: readonly string[];
  /** The same as SEC() names them: `tp_btf/inet_sock_set_state`. */
  hooks: readonly string[];
  /** Alternatives that are not in use, each with a sentence that says why. */
  skipped: readonly { programs: readonly string[]; reason: string }[];
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
