// A small cluster on one machine: the real API server, nodes and pods that run, and this module in the roles of
// kubelet, the scheduler, the controllers and kube-proxy: what they write, it writes.
import { randomBytes } from 'node:crypto';
import type { KubeObject } from './api-client.ts';
import { availableCgroupVersions } from './cgroups.ts';
import type {
  ClusterOptions,
  External,
  ExtraContainer,
  ExtraContainerOptions,
  Pod,
  PodOptions,
  Workload,
  WorkloadSpec,
} from './cluster-types.ts';
import { type ControlPlane, startControlPlane } from './control-plane.ts';
import { Kubelet } from './kubelet.ts';
import { type Slot, takeSlot } from './leftovers.ts';
import { type NodeNetwork, TestbedNetwork } from './network.ts';
import {
  intermediateObject,
  nodeObject,
  nodeStatus,
  type PodTemplate,
  podName,
  podObject,
  workloadObject,
} from './objects.ts';
import { type CallOptions, type Counts, type PeerProgram, startPeer } from './peers.ts';
import { type ServiceSpec, Services } from './services.ts';
import { Truth } from './truth.ts';

export type {
  ClusterOptions,
  External,
  ExtraContainer,
  Pod,
  Workload,
  WorkloadSpec,
} from './cluster-types.ts';

const DEFAULTS = { kind: 'Deployment', replicas: 1, hostNetwork: false, qosClass: 'Burstable' } as const;

export class Cluster {
  readonly slot: Slot;
  readonly network: TestbedNetwork;
  readonly controlPlane: ControlPlane;
  readonly truth = new Truth();
  readonly workloads = new Map<string, Workload>();
  readonly externals = new Map<string, External>();
  readonly services: Services;
  readonly kubelet: Kubelet;
  readonly #options: Required<Omit<ClusterOptions, 'apiServerFlags'>>;
  readonly #nodeObjects = new Map<string, KubeObject>();
  readonly #namespaces = new Set<string>();
  #scheduled = 0;

  private constructor(
    slot: Slot,
    network: TestbedNetwork,
    controlPlane: ControlPlane,
    options: Required<Omit<ClusterOptions, 'apiServerFlags'>>,
  ) {
    this.slot = slot;
    this.network = network;
    this.controlPlane = controlPlane;
    this.#options = options;
    this.kubelet = new Kubelet(slot, controlPlane.admin, options);
    this.services = new Services(network, controlPlane, options, (node) => this.#zone(node));
  }

  /** Starts the control plane, then one network namespace and Node object per node. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const [cgroupVersion] = availableCgroupVersions();
    const all = {
      nodes: [{ name: 'node-a' }],
      proxyMode: 'iptables' as const,
      dualStack: false,
      cgroupDriver: 'systemd' as const,
      cgroupVersion: cgroupVersion ?? 'v2',
      runtime: 'containerd' as const,
      kubeletRoot: '',
      ...options,
    };
    const slot = await takeSlot();
    try {
      const network = new TestbedNetwork(slot);
      const controlPlane = await startControlPlane({
        slot,
        address: network.hostAddress,
        serviceRange: network.serviceRange,
        apiServerFlags: [
          ...(all.dualStack
            ? [`--service-cluster-ip-range=${network.serviceRange},${network.serviceRange6}`]
            : []),
          ...(options.apiServerFlags ?? []),
        ],
      });
      const cluster = new Cluster(slot, network, controlPlane, all);
      for (const node of all.nodes) await cluster.#addNode(node.name, node.zone);
      cluster.services.applyRules();
      return cluster;
    } catch (error) {
      await slot.release();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.controlPlane.stop();
    await this.slot.release();
  }

  #zone(node: string): string | undefined {
    return this.#options.nodes.find(({ name }) => name === node)?.zone;
  }

  async #addNode(name: string, zone: string | undefined): Promise<void> {
    const node = this.network.addNode(name);
    const { dualStack } = this.#options;
    const ranges = dualStack ? [node.podRange, node.podRange6] : [node.podRange];
    const addresses = dualStack ? [node.address, node.address6] : [node.address];
    const object = await this.controlPlane.admin.create(nodeObject(name, zone, ...ranges));
    this.#nodeObjects.set(name, object);
    await this.controlPlane.admin.patchStatus(object, nodeStatus(name, ...addresses));
  }

  async #ensureNamespace(name: string): Promise<void> {
    if (this.#namespaces.has(name)) return;
    await this.controlPlane.createNamespace(name);
    this.#namespaces.add(name);
  }

  /** Creates the workload's objects and starts its pods. */
  async createWorkload(given: WorkloadSpec, podOptions: PodOptions = {}): Promise<Workload> {
    const spec = { ...DEFAULTS, ...given };
    const { namespace, name, kind, replicas, hostNetwork, qosClass, program, port } = spec;
    await this.#ensureNamespace(namespace);
    const template: PodTemplate = {
      labels: { app: name },
      hostNetwork,
      qosClass,
      containers: [{ name: 'main', image: `testbed/${program}:1`, ...(port && { port }) }],
    };
    const wanted = workloadObject(kind, namespace, name, replicas, template);
    const object = wanted && (await this.controlPlane.admin.create(wanted));
    const id = `${namespace}/${name}`;
    const workload: Workload = {
      id,
      spec,
      template,
      object,
      owner: object,
      revision: 1,
      ordinals: 0,
      pods: [],
    };
    await this.#createIntermediate(workload);
    this.workloads.set(id, workload);
    await this.#startPods(workload, replicas, podOptions);
    return workload;
  }

  async #createIntermediate(workload: Workload): Promise<void> {
    if (!workload.object) return;
    const wanted = intermediateObject(workload.object, workload.revision, workload.template);
    workload.owner = wanted ? await this.controlPlane.admin.create(wanted) : workload.object;
  }

  async #startPods(workload: Workload, count: number, options: PodOptions): Promise<void> {
    // Four at a time: programs that start compete for few processors.
    let left = count;
    const worker = async (): Promise<void> => {
      while (left-- > 0) await this.#createPod(workload, options);
    };
    await Promise.all(Array.from({ length: Math.min(4, count) }, worker));
    await this.services.sync(this.pods());
  }

  /** Adds one pod to a workload. */
  async createPod(workload: Workload, options: PodOptions = {}): Promise<Pod> {
    const pod = await this.#createPod(workload, options);
    await this.services.sync(this.pods());
    return pod;
  }

  #schedule(workload: Workload): NodeNetwork {
    const nodes = [...this.network.nodes.values()];
    const node = workload.spec.node
      ? this.network.nodes.get(workload.spec.node)
      : nodes[this.#scheduled++ % nodes.length];
    if (!node) throw new Error(`${workload.id}: no node ${workload.spec.node}`);
    return node;
  }

  async #createPod(workload: Workload, options: PodOptions): Promise<Pod> {
    const { namespace, kind, hostNetwork } = workload.spec;
    const node = this.#schedule(workload);
    const isStatic = kind === 'StaticPod';
    const owner = isStatic ? this.#nodeObjects.get(node.name) : workload.owner;
    const name = podName(owner, workload.spec.name, workload.ordinals++, node.name);
    const staticHash = isStatic ? randomBytes(16).toString('hex') : undefined;
    const object = await this.controlPlane.admin.create(
      podObject({
        namespace,
        name,
        node: node.name,
        owner,
        template: workload.template,
        ...(staticHash && { staticHash }),
      }),
    );
    const fileName = `${namespace}.${name}`;
    const network = hostNetwork
      ? { netns: node.netns, address: node.address, address6: node.address6 }
      : this.network.addPod(node, fileName, options.address);
    const id = `${namespace}/${name}`;
    const sandbox = this.kubelet.startSandbox(workload, object, fileName, network);
    const container = await this.kubelet.startContainer(workload, object, id, network);
    const pod: Pod = {
      id,
      object,
      workload,
      node,
      network,
      ...container,
      restarts: 0,
      announced: false,
      extras: [],
      sandbox,
    };
    if (options.announce !== false) await this.announce(pod);
    workload.pods.push(pod);
    return pod;
  }

  /** Writes the pod's status as kubelet does once its containers run. */
  announce(pod: Pod): Promise<void> {
    return this.kubelet.announce(pod);
  }

  /** Starts an init, sidecar or ephemeral container in a pod that runs, and says so in its status. */
  startContainer(pod: Pod, options: ExtraContainerOptions): Promise<ExtraContainer> {
    return this.kubelet.startExtra(pod, options, (report) => this.truth.retire(pod.id, report));
  }

  /** The container dies and comes back under another id, in the same sandbox with the same address. */
  async restartContainer(pod: Pod): Promise<void> {
    await this.#retire(pod);
    Object.assign(pod, await this.kubelet.startContainer(pod.workload, pod.object, pod.id, pod.network));
    pod.restarts++;
    await this.announce(pod);
  }

  /** Notes what the pod's server counted, then ends it. */
  async #retire(pod: Pod): Promise<void> {
    for (const extra of [...pod.extras]) await extra.stop();
    this.truth.retire(pod.id, await pod.peer.report());
    await pod.peer.stop('SIGKILL');
  }

  async deletePod(pod: Pod): Promise<void> {
    await this.#retire(pod);
    await pod.sandbox.stop('SIGKILL');
    if (!pod.workload.spec.hostNetwork) this.network.removePod(pod.network);
    await this.controlPlane.admin.delete(pod.object);
    pod.workload.pods.splice(pod.workload.pods.indexOf(pod), 1);
    await this.services.sync(this.pods());
  }

  async scale(workload: Workload, replicas: number): Promise<void> {
    if (workload.object) await this.controlPlane.admin.patch(workload.object, { spec: { replicas } });
    await this.#startPods(workload, replicas - workload.pods.length, {});
    for (const pod of workload.pods.slice(replicas)) await this.deletePod(pod);
  }

  /** A rolling update: each pod is replaced by one of the next revision, the new one first. */
  async roll(workload: Workload): Promise<void> {
    const old = [...workload.pods];
    workload.revision++;
    await this.#createIntermediate(workload);
    for (const pod of old) {
      if (workload.spec.kind === 'Deployment') await this.createPod(workload);
      await this.deletePod(pod);
      if (workload.spec.kind !== 'Deployment') await this.createPod(workload);
    }
  }

  pods(): Pod[] {
    return [...this.workloads.values()].flatMap((workload) => workload.pods);
  }

  async createService(spec: ServiceSpec): Promise<void> {
    await this.#ensureNamespace(spec.namespace);
    await this.services.create(spec);
    await this.services.sync(this.pods());
  }

  /** A host outside the cluster with one peer. */
  async addExternal(name: string, program: PeerProgram, port?: number): Promise<External> {
    const { netns, address } = this.network.addExternal(name);
    const id = `external/${name}`;
    const peer = await startPeer(this.slot, { name: id, program, netns, ...(port && { port }) });
    const external: External = { id, address, port, peer };
    this.externals.set(name, external);
    return external;
  }

  /** Makes a peer call and notes what came of it. */
  async call(from: Pod | External, options: CallOptions, service?: string): Promise<Record<string, Counts>> {
    const result = await from.peer.call(options);
    this.truth.addCall(from.id, `${options.host}:${options.port}`, service, result);
    return result;
  }

  /** Asks every server what it counted; from then on `truth.disagreements()` is complete. */
  async settle(): Promise<Truth> {
    const pods = this.pods().map((pod) => ({
      id: pod.id,
      peers: [pod.peer, ...pod.extras.map(({ peer }) => peer)],
    }));
    const hosts = [...this.externals.values()].map(({ id, peer }) => ({ id, peers: [peer] }));
    await Promise.all(
      [...pods, ...hosts].map(async ({ id, peers }) => {
        this.truth.setServed(id, ...(await Promise.all(peers.map((peer) => peer.report()))));
      }),
    );
    return this.truth;
  }
}
