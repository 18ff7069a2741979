// Thousands of pods that are objects only: for measuring what a large cluster costs the agent and the API server.
// Called by benches; the pods have addresses, owners, managed fields and statuses as in a real cluster, but nothing
// runs. The bulk is written into etcd directly (10,000 pods in seconds); what changes later goes through the API.
import { randomBytes, randomUUID } from 'node:crypto';
import type { KubeObject } from './api-client.ts';
import type { ControlPlane, StoredObject } from './control-plane.ts';
import {
  endpointSliceObject,
  nodeObject,
  nodeStatus,
  type PodTemplate,
  podObject,
  randomSuffix,
  runningStatus,
  templateHash,
} from './objects.ts';

export interface PopulationOptions {
  readonly pods: number;
  /** Each selects the pods of one Deployment; also the number of Deployments. */
  readonly services: number;
  readonly nodes: number;
}

interface FakePod {
  readonly object: KubeObject;
  readonly address: string;
  readonly node: string;
}

interface Group {
  readonly replicaSet: KubeObject;
  readonly service: KubeObject;
  readonly template: PodTemplate;
  readonly pods: FakePod[];
}

export interface Population {
  readonly nodes: readonly string[];
  /** Replaces this many pods by new ones with new addresses, over all Deployments in turn; slices follow. */
  churn(pods: number): Promise<void>;
  close(): void;
}

/** Pods have 172.16.0.0/12, nodes 192.168.0.0/16: nothing is routed there. */
function address(first: number, second: number, index: number): string {
  return `${first}.${second + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
}

function born(object: KubeObject): KubeObject {
  const creationTimestamp = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  return { ...object, metadata: { ...object.metadata, uid: randomUUID(), creationTimestamp } };
}

/** Fills an empty control plane. */
export async function populate(plane: ControlPlane, options: PopulationOptions): Promise<Population> {
  const { pods, services, nodes } = options;
  const names = Array.from({ length: nodes }, (_, index) => `fake-node-${index}`);
  const builder = new Builder(plane, names);
  await plane.store(names.map((name, index) => storedNode(name, index)));
  const namespaces = Array.from({ length: Math.min(20, services) }, (_, index) => `load-${index}`);
  for (const namespace of namespaces) await plane.createNamespace(namespace);
  await builder.learn(namespaces[0] ?? 'default');

  const indices = Array.from({ length: services }, (_, index) => index);
  const share = (index: number): number => Math.floor(pods / services) + (index < pods % services ? 1 : 0);
  const groups = await Promise.all(
    indices.map((index) => builder.group(namespaces[index % namespaces.length] ?? 'default', index)),
  );
  const stored: StoredObject[] = [];
  for (const [index, group] of groups.entries()) {
    for (let n = share(index); n > 0; n--) group.pods.push(builder.pod(group));
    stored.push(...group.pods.map(({ object }) => ({ key: keyOf('pods', object), object })));
    const slice = born(builder.slice(group));
    stored.push({ key: keyOf('endpointslices', slice), object: slice });
  }
  await plane.store(stored);
  let turn = 0;
  return {
    nodes: names,
    churn: async (count) => {
      for (let n = 0; n < count; n++) await builder.replaceOne(groups[turn++ % groups.length] as Group);
    },
    close: () => builder.close(),
  };
}

function keyOf(resource: string, { metadata }: KubeObject): string {
  return `${resource}/${metadata.namespace}/${metadata.name}`;
}

function storedNode(name: string, index: number): StoredObject {
  const object = born(nodeObject(name, `zone-${index % 3}`, `172.16.${index % 256}.0/24`));
  return {
    key: `minions/${name}`,
    object: { ...object, status: nodeStatus(name, address(192, 168, index)) },
  };
}

class Builder {
  readonly #nodes: readonly string[];
  readonly #admin;
  /** Of a pod that went through the API: who wrote which field is half of a pod's size. */
  #managedFields: unknown;
  #made = 0;

  constructor(plane: ControlPlane, nodes: readonly string[]) {
    // Connections of its own, so that a bench's other requests do not wait behind these.
    this.#admin = plane.client(plane.adminToken);
    this.#nodes = nodes;
  }

  close(): void {
    this.#admin.close();
  }

  async learn(namespace: string): Promise<void> {
    const template = templateOf('learn');
    const pod = podObject({ namespace, name: 'learn', node: this.#nodes[0] ?? '', template });
    await this.#admin.create(pod);
    const written = await this.#admin.patchStatus(pod, this.#status(0));
    this.#managedFields = written.metadata.managedFields;
    await this.#admin.delete(pod);
  }

  #status(index: number): object {
    return runningStatus({
      hostAddresses: [address(192, 168, index % this.#nodes.length)],
      podAddresses: [address(172, 16, index + 1)],
      qosClass: 'Burstable',
      containers: [
        {
          name: 'main',
          image: 'testbed/fake:1',
          containerId: `containerd://${randomBytes(32).toString('hex')}`,
          restartCount: 0,
        },
      ],
    });
  }

  async group(namespace: string, index: number): Promise<Group> {
    const name = `service-${index}`;
    const labels = { 'pod-template-hash': templateHash(name) };
    const metadata = { name: `${name}-${templateHash(name)}`, namespace, uid: randomUUID(), labels };
    const service = await this.#admin.create({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace },
      spec: {
        selector: { app: name },
        ports: [{ name: 'main', port: 80, targetPort: 8080, protocol: 'TCP' }],
      },
    });
    const replicaSet = { apiVersion: 'apps/v1', kind: 'ReplicaSet', metadata };
    return { replicaSet, service, template: templateOf(name), pods: [] };
  }

  #bare(group: Group): { object: KubeObject; index: number; node: string } {
    const index = this.#made++;
    const { replicaSet, template } = group;
    const { namespace = 'default', name } = replicaSet.metadata;
    const node = this.#nodes[index % this.#nodes.length] ?? '';
    const podName = `${name}-${randomSuffix()}`;
    return {
      object: podObject({ namespace, name: podName, node, owner: replicaSet, template }),
      index,
      node,
    };
  }

  pod(group: Group): FakePod {
    const { object: bare, index, node } = this.#bare(group);
    const object = { ...born(bare), status: this.#status(index) };
    object.metadata.managedFields = this.#managedFields;
    return { object, address: address(172, 16, index + 1), node };
  }

  slice(group: Group): KubeObject {
    const endpoints = group.pods.map(({ object, address, node }) => ({ address, node, pod: object }));
    return endpointSliceObject(group.service, endpoints);
  }

  /** One pod goes and another comes, as in a rolling update. */
  async replaceOne(group: Group): Promise<void> {
    const old = group.pods.shift();
    const { object: bare, index, node } = this.#bare(group);
    const object = await this.#admin.create(bare);
    await this.#admin.patchStatus(object, this.#status(index));
    group.pods.push({ object, address: address(172, 16, index + 1), node });
    await this.#admin.apply(this.slice(group));
    if (old) await this.#admin.delete(old.object);
  }
}

function templateOf(name: string): PodTemplate {
  return {
    labels: { app: name, 'app.kubernetes.io/part-of': 'load' },
    hostNetwork: false,
    qosClass: 'Burstable',
    containers: [{ name: 'main', image: 'testbed/fake:1', port: 8080 }],
  };
}
