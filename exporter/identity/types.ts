// What the rest of the agent knows about names: the kernel's view of the two ends of an edge goes in, a workload
// comes out. Implemented by host.ts (any Linux host) and kubernetes/ (a cluster's node); called by the probes.

/** Bytes as the kernel gave them (NUL-terminated or not, any encoding), or the same already decoded. */
export type KernelName = Uint8Array | string;

/** Bits of {@link OwnerInfo.flags}. */
export const OWNER_FLAGS = { kernelThread: 1, self: 2 } as const;

/** The local end of an edge as the kernel interned it: one process group's cgroup and, outside containers, program. */
export interface OwnerInfo {
  readonly id: number;
  /** Thread group id in the initial PID namespace. The process may be gone by now. */
  readonly pid: number;
  /** Id of the cgroup in the hierarchy that {@link CgroupMode} names; 0 when unknown. */
  readonly cgroupId: bigint | number;
  /** Name of the thread group's leader, up to 15 bytes. */
  readonly comm: KernelName;
  /** Basename of the executable, up to 31 bytes; empty for kernel threads. */
  readonly exe: KernelName;
  /** See {@link OWNER_FLAGS}. */
  readonly flags: number;
  /** Names of the cgroup directory and its ancestors, leaf first, up to 4, each cut at 95 bytes; root is not named. */
  readonly path: readonly KernelName[];
}

/** An address and a port as dialled or reached. `address`: 16 bytes (IPv4 is v4-mapped) or any textual form. */
export interface Endpoint {
  readonly address: Uint8Array | string;
  readonly port: number;
}

/**
 * How much of the remote address the kernel kept.
 * `exact`: `address` is the peer's. `local`: the peer is `peer`, on this host. `external`: outside all known ranges.
 * `range`: inside the named range `range`. `loopback`: 127.0.0.0/8 or ::1 and the peer is not known.
 */
export type RemoteScope = 'exact' | 'local' | 'external' | 'range' | 'loopback';

/** The remote end of an edge. */
export interface RemoteAddress {
  readonly scope: RemoteScope;
  /** 16 bytes, IPv4 as v4-mapped IPv6, or text. Needed for scope `exact` (the pod or host that was reached). */
  readonly address?: Uint8Array | string;
  /** Remote port where the local end is the client, else 0 or absent. */
  readonly port?: number;
  /** Id of the named range, for scope `range`. */
  readonly range?: number;
  /** Owner of the other end, when that end is on this host. */
  readonly peer?: OwnerInfo;
  /** Owner of the local end: loopback inside a pod's network namespace means that same pod. */
  readonly owner?: OwnerInfo;
  /** What the client dialled, where NAT or socket-level load balancing made that differ from `address`. */
  readonly dialled?: Endpoint;
  /** When the connection was seen (milliseconds since the epoch), for addresses that moved; default: now. */
  readonly at?: number;
}

/** Kinds of workload that this package can answer. Kubernetes owners of other kinds (operators') appear by their kind. */
export type KnownKind =
  | 'Deployment'
  | 'StatefulSet'
  | 'DaemonSet'
  | 'ReplicaSet'
  | 'Job'
  | 'CronJob'
  | 'Pod'
  | 'Service'
  | 'Node'
  | 'ControlPlane'
  | 'Unit'
  | 'Container'
  | 'Process'
  | 'CIDR'
  | 'External'
  | 'Unknown';

/**
 * One end of an edge, named. Frozen and interned: as long as {@link Identity.revision} stands still, the same end gives
 * the identical object, so callers may compare with `===` and cache label strings in a WeakMap.
 * All strings are well-formed Unicode without control characters, at most 253 characters.
 */
export interface Workload {
  readonly name: string;
  /** Kubernetes namespace; '' outside Kubernetes and for nodes, ranges and external addresses. */
  readonly namespace: string;
  readonly kind: string;
  readonly pod?: string;
  readonly zone?: string;
}

/** A remote end, named; `service` is the Kubernetes Service that was dialled. */
export interface RemoteIdentity {
  readonly workload: Workload;
  readonly service?: string;
}

/** One prefix for the kernel's `ranges` trie. `id` is 0 for `exact`. The longest prefix wins. */
export interface IdentityRange {
  /** Canonical text, host bits zero: `10.0.0.0/8`, `2001:db8::/32`. */
  readonly cidr: string;
  /** `exact`: keep the whole address in the edge. `range`: keep only the range's id. */
  readonly kind: 'exact' | 'range';
  readonly id: number;
  /** The name from the configuration, for `range`. */
  readonly name?: string;
}

/** What changed; sent after the new answers are in place. */
export interface IdentityChange {
  /** {@link Identity.revision} after the change. */
  readonly revision: number;
  /** True when {@link Identity.ranges} gives another answer than before. */
  readonly ranges: boolean;
}

/** One kind of object that is watched at the API server. */
export interface ResourceStats {
  readonly objects: number;
  /** The first list is complete. */
  readonly synced: boolean;
  /** Watches begun after the first, the usual renewal every few minutes included. */
  readonly watchRestarts: number;
}

/** Counts for the agent's own metrics and `doctor`. */
export interface IdentityStats {
  /** Answers of kind `Unknown` given so far. */
  readonly unknown: number;
  /** The same by which end was asked for. */
  readonly unresolved: {
    readonly local: number;
    readonly remote: number;
    /** Services for which nothing said which of their pods answers. */
    readonly backend: number;
  };
  /** Things known now, by what they are: `pods`, `services`, `nodes`, `pod_addresses`, `cgroups`, … */
  readonly known: Readonly<Record<string, number>>;
  /** Requests, bytes and errors of the API server's watches and the like. */
  readonly counters: Readonly<Record<string, number>>;
  /** By plural name (`pods`); empty without Kubernetes. */
  readonly resources: Readonly<Record<string, ResourceStats>>;
  /** One sentence per thing that is missing or wrong now; empty when all is well. */
  readonly problems: readonly string[];
}

/** Names both ends of an edge. All answers are synchronous; what is not known yet is `Unknown` and changes later. */
export interface Identity {
  local(owner: OwnerInfo): Workload;
  /** True when the cgroup alone names the owner (container, pod, unit), so that its processes need not be told apart. */
  cgroupNamesWorkload(owner: OwnerInfo): boolean;
  remote(address: RemoteAddress): RemoteIdentity;
  /** What to put into the kernel's trie, each prefix once. */
  ranges(): readonly IdentityRange[];
  /** Grows with every change of any answer. A caller that resolved at this revision need not ask again. */
  readonly revision: number;
  /** Calls back after changes, coalesced to at most one call per turn of the event loop. Returns the unsubscriber. */
  onChange(listener: (change: IdentityChange) => void): () => void;
  stats(): IdentityStats;
  /** Starts watchers, if any. Resolves at once: the agent measures without the API server. Never rejects. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** A hierarchy of cgroups that names containers and units, and how to read the cgroup id in the kernel. */
export interface CgroupMode {
  /** `v2`: `task->cgroups->dfl_cgrp`. `v1`: `task->cgroups->subsys[<controller>]->cgroup`. */
  readonly mode: 'v2' | 'v1';
  /** v1 only: controller as in /proc/cgroups (`memory`, `pids`, …; `blkio` is `io_cgrp_id` in BTF). */
  readonly controller?: string;
  /** What the host has: only v2, only v1, or both. On `hybrid` the other hierarchy may carry a few names, too. */
  readonly layout: 'v2' | 'hybrid' | 'v1';
  /** Where that hierarchy is mounted, if it is; ids are inode numbers there. */
  readonly mountpoint?: string;
}
