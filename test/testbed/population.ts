// Thousands of pods that are objects only: for measuring what a large cluster costs the agent and the API server.
// Called by benches; the pods have addresses, owners and statuses as kubelet writes them, but nothing runs.
import { randomBytes } from 'node:crypto';
import type { ApiClient, KubeObject } from './api-client.ts';
import type { ControlPlane } from './control-plane.ts';
import {
  endpointSliceObject,
  intermediateObject,
  nodeObject,
  nodeStatus,
  type PodTemplate,
  podObject,
  randomSuffix,
  runningStatus,
  type SliceEndpoint,
  workloadObject,
} from './objects.ts';

export interface PopulationOptions {
  readonly pods: number;
  /** Each selects the pods of one Deployment; also the number of Deployments. */
  readonly services: number;
  readonly nodes: number;
  /** Requests in flight at once. */
  readonly concurrency?: number;
  /** Called now and then with the number of pods made so far. */
  readonly onProgress?: (pods: number) => void;
}

interface Group {
  readonly replicaSet: KubeObject;
  readonly service: KubeObject;
  readonly template: PodTemplate;
  readonly pods: { object: KubeObject; address: string; node: string }[];
}

export interface Population {
  readonly pods: number;
  /** Replaces this many pods by new ones with new addresses, spread over all Deployments; slices follow. */
  churn(pods: number): Promise<void>;
}

/** Runs tasks with a bounded number in flight; the first failure stops it. */
async function inParallel<T>(
  items: readonly T[],
  concurrency: number,
  task: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await task(items[next++] as T);
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}

/** Pod addresses 172.16.0.0/12, node addresses 192.168.0.0/16: nothing routes there. */
function address(base: [number, number], index: number): string {
  const [first, second] = base;
  return `${first}.${second + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
}

export async function populate(plane: ControlPlane, options: PopulationOptions): Promise<Population> {
  const { pods, services, nodes, concurrency = 8, onProgress } = options;
  // The admin's connection pool of its own size, so that a bench's other requests do not wait behind these.
  const admin = plane.client(plane.adminToken);
  const names = Array.from({ length: nodes }, (_, index) => `fake-node-${index}`);
  await inParallel([...names.entries()], concurrency, async ([index, name]) => {
    const object = await admin.create(nodeObject(name, `zone-${index % 3}`, `172.16.${index % 256}.0/24`));
    await admin.patchStatus(object, nodeStatus(name, address([192, 168], index)));
  });
  const namespaces = Array.from({ length: Math.min(20, services) }, (_, index) => `load-${index}`);
  for (const namespace of namespaces) await plane.createNamespace(namespace);

  const state: State = { admin, names, made: 0 };
  const groups: Group[] = [];
  const indices = Array.from({ length: services }, (_, index) => index);
  const share = (index: number): number => Math.floor(pods / services) + (index < pods % services ? 1 : 0);
  await inParallel(indices, concurrency, async (index) => {
    const group = await createGroup(
      admin,
      namespaces[index % namespaces.length] ?? 'default',
      index,
      share(index),
    );
    for (let n = share(index); n > 0; n--) group.pods.push(await createPod(state, group));
    await writeSlice(admin, group);
    groups.push(group);
    onProgress?.(state.made);
  });
  let turn = 0;
  return {
    pods,
    churn: async (count) => {
      for (let n = 0; n < count; n++) {
        const group = groups[turn++ % groups.length];
        if (!group) return;
        const old = group.pods.shift();
        group.pods.push(await createPod(state, group));
        await writeSlice(admin, group);
        if (old) await admin.delete(old.object);
      }
    },
  };
}

interface State {
  readonly admin: ApiClient;
  readonly names: readonly string[];
  made: number;
}

async function createGroup(
  admin: ApiClient,
  namespace: string,
  index: number,
  replicas: number,
): Promise<Group> {
  const name = `service-${index}`;
  const template: PodTemplate = {
    labels: { app: name, team: `team-${index % 7}`, 'app.kubernetes.io/part-of': 'load' },
    hostNetwork: false,
    qosClass: 'Burstable',
    containers: [{ name: 'main', image: 'testbed/fake:1', port: 8080 }],
  };
  const wanted = workloadObject('Deployment', namespace, name, replicas, template);
  if (!wanted) throw new Error('a Deployment has an object');
  const replicaSet = intermediateObject(await admin.create(wanted), 1, template);
  if (!replicaSet) throw new Error('a Deployment has a ReplicaSet');
  const service = await admin.create({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: { selector: { app: name }, ports: [{ name: 'main', port: 80, targetPort: 8080, protocol: 'TCP' }] },
  });
  return { replicaSet: await admin.create(replicaSet), service, template, pods: [] };
}

async function createPod(state: State, group: Group): Promise<Group['pods'][number]> {
  const { replicaSet, template } = group;
  const index = state.made++;
  const { namespace = 'default', name } = replicaSet.metadata;
  const node = state.names[index % state.names.length] ?? '';
  const object = await state.admin.create(
    podObject({ namespace, name: `${name}-${randomSuffix()}`, node, owner: replicaSet, template }),
  );
  const podAddress = address([172, 16], index + 1);
  const containers = [
    {
      name: 'main',
      image: 'testbed/fake:1',
      containerId: `containerd://${randomBytes(32).toString('hex')}`,
      restartCount: 0,
    },
  ];
  const hostAddress = address([192, 168], index % state.names.length);
  await state.admin.patchStatus(
    object,
    runningStatus({ hostAddress, podAddress, qosClass: 'Burstable', containers }),
  );
  return { object, address: podAddress, node };
}

async function writeSlice(admin: ApiClient, group: Group): Promise<void> {
  const endpoints: SliceEndpoint[] = group.pods.map((pod) => ({
    address: pod.address,
    node: pod.node,
    pod: pod.object,
  }));
  await admin.apply(endpointSliceObject(group.service, endpoints));
}
