// Kubernetes objects cut down to what naming needs; everything else of them is dropped as soon as it was read. Input is
// what the API server sent, not trusted to have the right shape. Called by reflector.ts (as projections) and pod_lookup.ts.
import { canonicalAddress } from '../address.ts';

/** Who controls a pod: `Deployment checkout`. */
export interface Controller {
  readonly name: string;
  readonly kind: string;
}

export interface Pod {
  readonly key: string;
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly controller: Controller;
  /** Names of the controller's pods begin with this; '' for pods that are named otherwise. */
  readonly prefix: string;
  readonly hostNetwork: boolean;
  /** Canonical addresses; none once the pod has finished. */
  readonly addresses: readonly string[];
  /** Ids without the runtime's `containerd://`; init and ephemeral containers, too. */
  readonly containers: readonly string[];
  /** Static pods: the uid that their cgroup carries. */
  readonly configHash: string;
}

export interface ServicePort {
  readonly port: number;
  /** 0 when there is none. */
  readonly nodePort: number;
}

export interface Service {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  /** Canonical; empty for headless services. */
  readonly clusterAddresses: readonly string[];
  /** External and load balancer addresses. */
  readonly externalAddresses: readonly string[];
  readonly ports: readonly ServicePort[];
}

export interface SliceEndpoint {
  readonly addresses: readonly string[];
  /** '' when the endpoint is no pod. */
  readonly podName: string;
  readonly podUid: string;
  readonly node: string;
  readonly zone: string;
}

export interface EndpointSlice {
  readonly key: string;
  readonly namespace: string;
  /** '' when the slice belongs to no service. */
  readonly service: string;
  readonly ports: readonly number[];
  readonly endpoints: readonly SliceEndpoint[];
}

export interface Node {
  readonly key: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
  readonly zone: string;
}

type Json = Readonly<Record<string, unknown>>;

function object(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

function array(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Longer than any name, uid, label or container id that Kubernetes allows. */
const MAX_TEXT = 512;

function text(value: unknown): string {
  return typeof value === 'string' && value.length <= MAX_TEXT ? value : '';
}

function port(value: unknown): number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536 ? value : 0;
}

function addresses(values: readonly unknown[]): string[] {
  const found = new Set<string>();
  for (const value of values) {
    const canonical = typeof value === 'string' ? canonicalAddress(value) : undefined;
    if (canonical !== undefined) found.add(canonical);
  }
  return [...found];
}

interface Metadata {
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Json;
  readonly annotations: Json;
  readonly raw: Json;
}

function metadata(value: unknown): Metadata | undefined {
  const raw = object(object(value).metadata);
  const name = text(raw.name);
  if (name === '') return undefined;
  const namespace = text(raw.namespace);
  return {
    key: `${namespace}/${name}`,
    name,
    namespace,
    labels: object(raw.labels),
    annotations: object(raw.annotations),
    raw,
  };
}

/** CronJobs name their jobs after the minute they were scheduled for (Unix time / 60). */
const CRON_MINUTE = /^(.+)-(\d{8,9})$/;
const SCHEDULE_SLACK_MINUTES = 7 * 24 * 60;

function cronJob(job: string, created: number): string | undefined {
  const match = CRON_MINUTE.exec(job);
  if (match === null) return undefined;
  const late = created / 60_000 - Number(match[2]);
  // A job whose number is not the time shortly before its pod was made was not named by a CronJob.
  return late >= -1 && late <= SCHEDULE_SLACK_MINUTES ? match[1] : undefined;
}

/** Climbs from the pod's owner to what a person deployed, by what the pod itself tells, so without further requests. */
function controllerOf(meta: Metadata, spec: Json): Controller {
  const owners = array(meta.raw.ownerReferences).map(object);
  const owner = owners.find((reference) => reference.controller === true) ?? owners[0];
  const kind = text(owner?.kind);
  const name = text(owner?.name);
  if (kind === '' || name === '') return { name: meta.name, kind: 'Pod' };
  if (kind === 'ReplicaSet') {
    const { labels } = meta;
    const deployment = stripHash(name, text(labels['pod-template-hash']));
    if (deployment !== undefined) return { name: deployment, kind: 'Deployment' };
    // Argo names its own kind of deployment the same way, by a label of its own.
    const rollout = stripHash(name, text(labels['rollouts-pod-template-hash']));
    if (rollout !== undefined) return { name: rollout, kind: 'Rollout' };
  } else if (kind === 'ReplicationController') {
    const deployment = text(meta.annotations['openshift.io/deployment-config.name']);
    if (deployment !== '') return { name: deployment, kind: 'DeploymentConfig' };
  } else if (kind === 'Job') {
    const cron = cronJob(name, Date.parse(text(meta.raw.creationTimestamp)));
    if (cron !== undefined) return { name: cron, kind: 'CronJob' };
  } else if (kind === 'Node') {
    return staticPod(meta, text(spec.nodeName) || name);
  }
  return { name, kind };
}

/** All controllers of pods name them `<own name>-<something>`. */
function prefixOf(meta: Metadata): string {
  const owners = array(meta.raw.ownerReferences).map(object);
  const owner = owners.find((reference) => reference.controller === true) ?? owners[0];
  const prefix = `${text(owner?.name)}-`;
  return prefix !== '-' && meta.name.startsWith(prefix) ? prefix : '';
}

function stripHash(name: string, hash: string): string | undefined {
  return hash !== '' && name.endsWith(`-${hash}`) ? name.slice(0, -hash.length - 1) : undefined;
}

/** The kubelet names static pods `<name>-<node>`; those of the control plane say so by a label. */
function staticPod(meta: Metadata, node: string): Controller {
  const name = meta.name.endsWith(`-${node}`) ? meta.name.slice(0, -node.length - 1) : meta.name;
  return { name, kind: text(meta.labels.tier) === 'control-plane' ? 'ControlPlane' : 'Pod' };
}

function containerIds(status: Json): string[] {
  const ids: string[] = [];
  for (const list of ['containerStatuses', 'initContainerStatuses', 'ephemeralContainerStatuses']) {
    for (const entry of array(status[list])) {
      const { containerID, lastState } = object(entry);
      // The last state's, too: a container that was restarted a moment ago may still have data to be named.
      for (const id of [containerID, object(object(lastState).terminated).containerID]) {
        const bare = text(id).replace(/^[a-z0-9.-]+:\/\//, '');
        if (bare !== '') ids.push(bare);
      }
    }
  }
  return ids;
}

export function projectPod(value: unknown): Pod | undefined {
  const meta = metadata(value);
  if (meta === undefined) return undefined;
  const spec = object(object(value).spec);
  const status = object(object(value).status);
  const finished = status.phase === 'Succeeded' || status.phase === 'Failed';
  const ips = array(status.podIPs).map((entry) => object(entry).ip);
  return {
    key: meta.key,
    uid: text(meta.raw.uid),
    namespace: meta.namespace,
    name: meta.name,
    node: text(spec.nodeName),
    controller: controllerOf(meta, spec),
    prefix: prefixOf(meta),
    hostNetwork: spec.hostNetwork === true,
    addresses: finished ? [] : addresses([...ips, status.podIP]),
    containers: containerIds(status),
    configHash: text(meta.annotations['kubernetes.io/config.hash']),
  };
}

export function projectService(value: unknown): Service | undefined {
  const meta = metadata(value);
  if (meta === undefined) return undefined;
  const spec = object(object(value).spec);
  const balancer = object(object(object(value).status).loadBalancer);
  const ingress = array(balancer.ingress).map((entry) => object(entry).ip);
  return {
    key: meta.key,
    namespace: meta.namespace,
    name: meta.name,
    clusterAddresses: addresses([spec.clusterIP, ...array(spec.clusterIPs)]),
    externalAddresses: addresses([...array(spec.externalIPs), spec.loadBalancerIP, ...ingress]),
    ports: array(spec.ports)
      .map(object)
      .map((entry) => ({ port: port(entry.port), nodePort: port(entry.nodePort) })),
  };
}

export function projectEndpointSlice(value: unknown): EndpointSlice | undefined {
  const meta = metadata(value);
  if (meta === undefined) return undefined;
  const body = object(value);
  const endpoints = array(body.endpoints).map((entry): SliceEndpoint => {
    const endpoint = object(entry);
    const target = object(endpoint.targetRef);
    const isPod = target.kind === 'Pod';
    return {
      addresses: addresses(array(endpoint.addresses)),
      podName: isPod ? text(target.name) : '',
      podUid: isPod ? text(target.uid) : '',
      node: text(endpoint.nodeName),
      zone: text(endpoint.zone),
    };
  });
  return {
    key: meta.key,
    namespace: meta.namespace,
    service: text(meta.labels['kubernetes.io/service-name']),
    ports: array(body.ports).map((entry) => port(object(entry).port)),
    endpoints: endpoints.filter((endpoint) => endpoint.addresses.length > 0),
  };
}

export function projectNode(value: unknown): Node | undefined {
  const meta = metadata(value);
  if (meta === undefined) return undefined;
  const spec = object(object(value).spec);
  const status = object(object(value).status);
  const list = array(status.addresses).map(object);
  return {
    key: meta.key,
    name: meta.name,
    addresses: addresses(list.filter((entry) => entry.type !== 'Hostname').map((entry) => entry.address)),
    podCidrs: [...new Set([...array(spec.podCIDRs), spec.podCIDR].map(text))].filter((cidr) => cidr !== ''),
    zone:
      text(meta.labels['topology.kubernetes.io/zone']) ||
      text(meta.labels['failure-domain.beta.kubernetes.io/zone']),
  };
}

/** True when two projections of one object tell the same, so that listeners need not hear of the change. */
export function sameProjection(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => sameProjection((a as Json)[key], (b as Json)[key]));
}
