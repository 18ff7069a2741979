// What a testbed cluster consists of: options, workloads, pods, external hosts. Made by cluster.ts, read by tests.
import type { KubeObject } from './api-client.ts';
import type { CgroupDriver, CgroupVersion, ContainerRuntime, QosClass } from './cgroups.ts';
import type { NodeNetwork, PodNetwork } from './network.ts';
import type { PodTemplate, WorkloadKind } from './objects.ts';
import type { Peer, PeerProgram } from './peers.ts';
import type { RunningProcess } from './processes.ts';
import type { ProxyMode } from './proxy-rules.ts';

export interface ClusterOptions {
  readonly nodes?: readonly { name: string; zone?: string | undefined }[];
  readonly proxyMode?: ProxyMode;
  /** Pods, nodes and Services have an IPv6 address, too. Without it the network has them all the same. */
  readonly dualStack?: boolean;
  readonly cgroupDriver?: CgroupDriver;
  readonly cgroupVersion?: CgroupVersion;
  readonly runtime?: ContainerRuntime;
  /** `kubelet` for paths as kind's nodes have them. */
  readonly kubeletRoot?: string;
  readonly apiServerFlags?: readonly string[];
}

export interface WorkloadSpec {
  readonly namespace: string;
  readonly name: string;
  readonly kind?: WorkloadKind;
  readonly replicas?: number;
  /** All pods on this node; otherwise one after the other over all nodes. */
  readonly node?: string | undefined;
  readonly program: PeerProgram;
  readonly port?: number | undefined;
  readonly hostNetwork?: boolean;
  readonly qosClass?: QosClass;
}

export interface PodOptions {
  readonly address?: string;
  /** False: the pod runs, but its status says nothing of it before `announce`. */
  readonly announce?: boolean;
}

export interface Pod {
  /** `namespace/name`, which is also its peer's name. */
  readonly id: string;
  readonly object: KubeObject;
  readonly workload: Workload;
  readonly node: NodeNetwork;
  readonly network: PodNetwork;
  /** `<runtime>://<id>` of the container that runs now. */
  containerId: string;
  restarts: number;
  announced: boolean;
  peer: Peer;
  readonly extras: ExtraContainer[];
  readonly sandbox: RunningProcess;
}

/** A container beside the pod's main one, with a cgroup of its own. */
export interface ExtraContainer {
  readonly name: string;
  readonly containerId: string;
  readonly peer: Peer;
  /** Ends it; what it served stays in the truth, as the pod's. */
  stop(): Promise<void>;
}

export interface ExtraContainerOptions {
  readonly name: string;
  readonly type: 'init' | 'sidecar' | 'ephemeral';
  readonly program: PeerProgram;
  readonly port?: number;
}

export interface Workload {
  readonly id: string;
  readonly spec: Required<Omit<WorkloadSpec, 'node' | 'port'>> & Pick<WorkloadSpec, 'node' | 'port'>;
  readonly template: PodTemplate;
  readonly object: KubeObject | undefined;
  /** The pods' direct owner: a ReplicaSet, a Job, the workload itself or, for static pods, none that is shared. */
  owner: KubeObject | undefined;
  revision: number;
  ordinals: number;
  readonly pods: Pod[];
}

export interface External {
  /** `external/name` */
  readonly id: string;
  readonly address: string;
  readonly port: number | undefined;
  readonly peer: Peer;
}

export interface ForeignPod {
  readonly object: KubeObject;
  readonly cgroups: readonly string[];
  /** Writes its status: it runs. */
  announce(): Promise<void>;
}
