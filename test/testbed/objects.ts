// Kubernetes objects as the controllers, the scheduler and kubelet leave them in the API server. Pure builders;
// cluster.ts decides when they are written.
import { createHash } from 'node:crypto';
import type { KubeObject, OwnerReference } from './api-client.ts';
import type { QosClass } from './cgroups.ts';

export const workloadKinds = [
  'Deployment',
  'StatefulSet',
  'DaemonSet',
  'Job',
  'CronJob',
  'ReplicaSet',
  'Pod',
  'StaticPod',
] as const;
export type WorkloadKind = (typeof workloadKinds)[number];

/** Alphabet of generated names: no vowels, so that no words arise (k8s.io/apimachinery/pkg/util/rand). */
const SAFE = 'bcdfghjklmnpqrstvwxz2456789';

export function randomSuffix(length = 5): string {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return [...bytes].map((byte) => SAFE[byte % SAFE.length]).join('');
}

/** The pod template hash of a ReplicaSet's name. */
export function templateHash(text: string): string {
  const digest = createHash('sha256').update(text).digest();
  return [...digest.subarray(0, 10)].map((byte) => SAFE[byte % SAFE.length]).join('');
}

export function ownedBy(owner: KubeObject): OwnerReference {
  const { name, uid } = owner.metadata;
  if (!uid) throw new Error(`${owner.kind} ${name} has not been created`);
  return { apiVersion: owner.apiVersion, kind: owner.kind, name, uid, controller: true };
}

export function nodeObject(name: string, zone: string | undefined, ...podRanges: string[]): KubeObject {
  const labels: Record<string, string> = { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux' };
  if (zone) {
    labels['topology.kubernetes.io/zone'] = zone;
    labels['topology.kubernetes.io/region'] = zone.replace(/[a-z]$/, '');
  }
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels },
    spec: { podCIDR: podRanges[0], podCIDRs: podRanges },
  };
}

export function nodeStatus(name: string, ...addresses: string[]): object {
  const now = new Date().toISOString();
  return {
    addresses: [
      ...addresses.map((address) => ({ type: 'InternalIP', address })),
      { type: 'Hostname', address: name },
    ],
    capacity: { cpu: '8', memory: '16Gi', pods: '250' },
    allocatable: { cpu: '8', memory: '16Gi', pods: '250' },
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        reason: 'KubeletReady',
        lastHeartbeatTime: now,
        lastTransitionTime: now,
      },
    ],
    nodeInfo: {
      architecture: 'amd64',
      bootID: '',
      containerRuntimeVersion: 'containerd://2.1.4',
      kernelVersion: '',
      kubeProxyVersion: 'v1.36.3',
      kubeletVersion: 'v1.36.3',
      machineID: '',
      operatingSystem: 'linux',
      osImage: '',
      systemUUID: '',
    },
  };
}

export interface ContainerTemplate {
  readonly name: string;
  readonly image: string;
  readonly port?: number;
}

export interface PodTemplate {
  readonly labels: Record<string, string>;
  readonly containers: readonly ContainerTemplate[];
  readonly hostNetwork: boolean;
  readonly qosClass: QosClass;
}

const RESOURCES: Record<QosClass, object> = {
  Guaranteed: { requests: { cpu: '100m', memory: '64Mi' }, limits: { cpu: '100m', memory: '64Mi' } },
  Burstable: { requests: { cpu: '10m', memory: '32Mi' } },
  BestEffort: {},
};

function podSpec(template: PodTemplate): object {
  return {
    terminationGracePeriodSeconds: 0,
    hostNetwork: template.hostNetwork,
    containers: template.containers.map(({ name, image, port }) => ({
      name,
      image,
      resources: RESOURCES[template.qosClass],
      ...(port && { ports: [{ name: 'main', containerPort: port, protocol: 'TCP' }] }),
    })),
  };
}

/** The object a person would write; undefined for bare and static pods. */
export function workloadObject(
  kind: WorkloadKind,
  namespace: string,
  name: string,
  replicas: number,
  template: PodTemplate,
): KubeObject | undefined {
  if (kind === 'Pod' || kind === 'StaticPod') return undefined;
  const pods = { metadata: { labels: template.labels }, spec: podSpec(template) };
  const selector = { matchLabels: template.labels };
  const once = { ...pods, spec: { ...pods.spec, restartPolicy: 'Never' } };
  const specs: Record<Exclude<WorkloadKind, 'Pod' | 'StaticPod'>, [string, object]> = {
    Deployment: ['apps/v1', { replicas, selector, template: pods }],
    ReplicaSet: ['apps/v1', { replicas, selector, template: pods }],
    StatefulSet: ['apps/v1', { replicas, selector, serviceName: name, template: pods }],
    DaemonSet: ['apps/v1', { selector, template: pods }],
    Job: ['batch/v1', { template: once }],
    CronJob: ['batch/v1', { schedule: '0 * * * *', jobTemplate: { spec: { template: once } } }],
  };
  const [apiVersion, spec] = specs[kind];
  return { apiVersion, kind, metadata: { name, namespace, labels: template.labels }, spec };
}

/** What a controller puts between a workload and its pods: a Deployment's ReplicaSet, a CronJob's Job. */
export function intermediateObject(
  owner: KubeObject,
  revision: number,
  template: PodTemplate,
): KubeObject | undefined {
  const { name, namespace = 'default' } = owner.metadata;
  const ownerReferences = [ownedBy(owner)];
  if (owner.kind === 'Deployment') {
    const hash = templateHash(`${namespace}/${name} ${revision}`);
    const labels = { ...template.labels, 'pod-template-hash': hash };
    const spec = {
      replicas: owner.spec.replicas,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: podSpec(template) },
    };
    const metadata = { name: `${name}-${hash}`, namespace, labels, ownerReferences };
    return { apiVersion: 'apps/v1', kind: 'ReplicaSet', metadata, spec };
  }
  if (owner.kind === 'CronJob') {
    // Named after the minute for which it was scheduled; one a minute earlier for each that is to come.
    const minute = Math.floor(Date.now() / 60_000) - 100 + revision;
    const metadata = { name: `${name}-${minute}`, namespace, labels: template.labels, ownerReferences };
    return { apiVersion: 'batch/v1', kind: 'Job', metadata, spec: owner.spec.jobTemplate.spec };
  }
  return undefined;
}

/** Name of a workload's pod with this ordinal, by the rule of its direct owner. */
export function podName(
  owner: KubeObject | undefined,
  workload: string,
  ordinal: number,
  node: string,
): string {
  if (!owner) return ordinal === 0 ? workload : `${workload}-${ordinal}`;
  if (owner.kind === 'Node') return `${workload}-${node}`;
  if (owner.kind === 'StatefulSet') return `${workload}-${ordinal}`;
  return `${owner.metadata.name}-${randomSuffix()}`;
}

export interface PodObjectOptions {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly owner?: KubeObject | undefined;
  readonly template: PodTemplate;
  /** Hash of a static pod's manifest; kubelet's cgroups carry it in place of the uid. */
  readonly staticHash?: string;
}

export function podObject(options: PodObjectOptions): KubeObject {
  const { namespace, name, node, owner, template, staticHash } = options;
  const labels = { ...template.labels };
  const hash = owner?.metadata.labels?.['pod-template-hash'];
  if (hash) labels['pod-template-hash'] = hash;
  if (owner?.kind === 'StatefulSet') labels['statefulset.kubernetes.io/pod-name'] = name;
  if (owner?.kind === 'Job') labels['batch.kubernetes.io/job-name'] = owner.metadata.name;
  const annotations: Record<string, string> = staticHash
    ? {
        'kubernetes.io/config.hash': staticHash,
        'kubernetes.io/config.mirror': staticHash,
        'kubernetes.io/config.source': 'file',
      }
    : {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels,
      annotations,
      ...(owner && { ownerReferences: [ownedBy(owner)] }),
    },
    spec: { ...podSpec(template), nodeName: node, restartPolicy: owner?.kind === 'Job' ? 'Never' : 'Always' },
  };
}

export interface ContainerState {
  readonly name: string;
  readonly image: string;
  /** containerd://<64 hex digits> */
  readonly containerId: string;
  readonly restartCount: number;
}

export interface RunningStatusOptions {
  readonly hostAddresses: readonly string[];
  readonly podAddresses: readonly string[];
  readonly qosClass: QosClass;
  readonly containers: readonly ContainerState[];
}

/** One entry of a pod's container statuses, of a container that runs. */
export function containerStatus({ name, image, containerId, restartCount }: ContainerState): object {
  return {
    name,
    image,
    imageID: `${image}@sha256:${createHash('sha256').update(image).digest('hex')}`,
    containerID: containerId,
    ready: true,
    started: true,
    restartCount,
    state: { running: { startedAt: new Date().toISOString() } },
  };
}

/** The status kubelet writes when all containers run. */
export function runningStatus(options: RunningStatusOptions): object {
  const now = new Date().toISOString();
  const { hostAddresses, podAddresses, qosClass, containers } = options;
  return {
    phase: 'Running',
    hostIP: hostAddresses[0],
    hostIPs: hostAddresses.map((ip) => ({ ip })),
    podIP: podAddresses[0],
    podIPs: podAddresses.map((ip) => ({ ip })),
    startTime: now,
    qosClass,
    conditions: ['PodScheduled', 'Initialized', 'ContainersReady', 'Ready'].map((type) => ({
      type,
      status: 'True',
      lastTransitionTime: now,
    })),
    containerStatuses: containers.map(containerStatus),
  };
}

export interface SliceEndpoint {
  readonly address: string;
  readonly node: string;
  readonly zone?: string | undefined;
  readonly pod: KubeObject;
}

/** The EndpointSlice of a Service, as its controller writes it: one for each family. */
export function endpointSliceObject(
  service: KubeObject,
  endpoints: readonly SliceEndpoint[],
  addressType: 'IPv4' | 'IPv6' = 'IPv4',
): KubeObject {
  const { name, namespace = 'default' } = service.metadata;
  // biome-ignore lint/suspicious/noExplicitAny: a Service's ports
  const ports = service.spec.ports.map((port: any) => ({
    name: port.name ?? '',
    port: Number(port.targetPort),
    protocol: port.protocol ?? 'TCP',
  }));
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-${templateHash(`${namespace}/${name}/${addressType}`).slice(0, 5)}`,
      namespace,
      labels: {
        'kubernetes.io/service-name': name,
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
      },
      ownerReferences: [ownedBy(service)],
    },
    addressType,
    endpoints: endpoints.map(({ address, node, zone, pod }) => ({
      addresses: [address],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: node,
      ...(zone && { zone }),
      targetRef: {
        kind: 'Pod',
        namespace: pod.metadata.namespace,
        name: pod.metadata.name,
        uid: pod.metadata.uid,
      },
    })),
    ports,
  };
}
