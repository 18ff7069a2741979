// Objects with the fields that a real API server fills and naming depends on.
import { createHash } from 'node:crypto';
import type { FakeObject } from './fake_api_server.ts';

let serial = 0;

/** A uid that looks like one; the same for the same text. */
export function uid(text: string): string {
  const hash = createHash('sha256').update(text).digest('hex');
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-4${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

/** A container id that looks like one; the same for the same text. */
export function containerId(text: string): string {
  return createHash('sha256').update(`container ${text}`).digest('hex');
}

export interface PodOptions {
  readonly namespace?: string;
  readonly node?: string;
  readonly ip?: string;
  readonly ips?: readonly string[];
  /** `Deployment`, `StatefulSet`, `DaemonSet`, `CronJob`, `Job`, `Node` (static), `none`. */
  readonly owner?: string;
  readonly hostNetwork?: boolean;
  readonly phase?: string;
  readonly labels?: Record<string, string>;
  readonly annotations?: Record<string, string>;
  readonly suffix?: string;
  readonly uid?: string;
}

const HASH = '5d9c7b8f6d';
export const CRON_MINUTE = 27_900_000;

/** Owner reference, generated prefix and labels as the controllers set them. */
function ownership(
  workload: string,
  owner: string,
  node: string,
): { prefix: string; reference?: object; labels: Record<string, string> } {
  const reference = (kind: string, name: string): object => ({
    kind,
    name,
    uid: uid(name),
    controller: true,
    apiVersion: 'v1',
  });
  switch (owner) {
    case 'Deployment':
      return {
        prefix: `${workload}-${HASH}-`,
        reference: reference('ReplicaSet', `${workload}-${HASH}`),
        labels: { 'pod-template-hash': HASH },
      };
    case 'CronJob':
      return {
        prefix: `${workload}-${CRON_MINUTE}-`,
        reference: reference('Job', `${workload}-${CRON_MINUTE}`),
        labels: {},
      };
    case 'Node':
      return { prefix: '', reference: reference('Node', node), labels: {} };
    case 'none':
      return { prefix: '', labels: {} };
    default:
      return { prefix: `${workload}-`, reference: reference(owner, workload), labels: {} };
  }
}

export function pod(workload: string, options: PodOptions = {}): FakeObject {
  const { namespace = 'shop', node = 'node-1', owner = 'Deployment', phase = 'Running' } = options;
  const { prefix, reference, labels } = ownership(workload, owner, node);
  const letters = 'bcdfghjklmnpqrstvwxz';
  serial++;
  const suffix =
    options.suffix ??
    Array.from({ length: 5 }, (_, index) => letters[Math.floor(serial / 20 ** index) % 20]).join('');
  const name = owner === 'Node' ? `${workload}-${node}` : owner === 'none' ? workload : `${prefix}${suffix}`;
  const ips = options.ips ?? (options.ip === undefined ? [] : [options.ip]);
  const status = (kind: string) => ({
    name: kind,
    containerID: `containerd://${containerId(`${namespace}/${name}/${kind}`)}`,
    state: { running: {} },
  });
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      uid: options.uid ?? uid(`${namespace}/${name}/${serial}`),
      creationTimestamp: new Date(CRON_MINUTE * 60_000 + 5000).toISOString(),
      labels: { ...labels, ...options.labels },
      ...(prefix && { generateName: prefix }),
      ...(options.annotations && { annotations: options.annotations }),
      ...(reference && { ownerReferences: [reference] }),
    },
    spec: {
      nodeName: node,
      ...(options.hostNetwork && { hostNetwork: true }),
      containers: [{ name: 'app', image: 'x' }],
    },
    status: {
      phase,
      ...(ips[0] && { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) }),
      containerStatuses: [status('app'), status('sidecar')],
      initContainerStatuses: [status('init')],
      ephemeralContainerStatuses: [status('debugger')],
    },
  };
}

export function service(
  name: string,
  spec: Record<string, unknown> = {},
  status: Record<string, unknown> = {},
  namespace = 'shop',
): FakeObject {
  const ip = spec.clusterIP as string | undefined;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace, uid: uid(`service ${namespace}/${name}`) },
    spec: {
      type: 'ClusterIP',
      ports: [{ port: 80, protocol: 'TCP' }],
      ...(ip && { clusterIPs: [ip] }),
      ...spec,
    },
    status,
  };
}

/** The slice of a service with these pods (or plain addresses) as endpoints. */
export function slice(
  serviceName: string,
  endpoints: readonly (FakeObject | string)[],
  port = 8080,
  namespace = 'shop',
): FakeObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${serviceName}-abcde`,
      namespace,
      uid: uid(`slice ${namespace}/${serviceName}`),
      labels: { 'kubernetes.io/service-name': serviceName },
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port, protocol: 'TCP' }],
    endpoints: endpoints.map((endpoint) =>
      typeof endpoint === 'string'
        ? { addresses: [endpoint] }
        : {
            addresses: [endpoint.status.podIP],
            conditions: { ready: true },
            nodeName: endpoint.spec.nodeName,
            targetRef: { kind: 'Pod', name: endpoint.metadata.name, namespace, uid: endpoint.metadata.uid },
          },
    ),
  };
}

export function node(name: string, address: string, podCidr?: string, zone?: string): FakeObject {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      uid: uid(`node ${name}`),
      labels: zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone },
    },
    spec: podCidr === undefined ? {} : { podCIDR: podCidr, podCIDRs: [podCidr] },
    status: {
      addresses: [
        { type: 'InternalIP', address },
        { type: 'Hostname', address: name },
      ],
    },
  };
}
