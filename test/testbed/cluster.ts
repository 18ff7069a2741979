// A small cluster on one machine: the real API server, nodes and pods that run, and this module in the roles of
// kubelet, the scheduler, the controllers and kube-proxy: what they write, it writes.
import { randomBytes } from 'node:crypto';
import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import type { KubeObject } from './api-client.ts';
import {
  availableCgroupVersions,
  type CgroupDriver,
  type CgroupVersion,
  type ContainerRuntime,
  containerCgroupPath,
  makeCgroups,
  type QosClass,
} from './cgroups.ts';
import { type ControlPlane, startControlPlane } from './control-plane.ts';
import { type Slot, takeSlot } from './leftovers.ts';
import { type NodeNetwork, type PodNetwork, TestbedNetwork } from './network.ts';
import {
  intermediateObject,
  nodeObject,
  nodeStatus,
  ownedBy,
  type PodTemplate,
  podName,
  podObject,
  randomSuffix,
  runningStatus,
  type WorkloadKind,
  workloadObject,
} from './objects.ts';
import { type CallOptions, type Counts, type Peer, type PeerProgram, startPeer } from './peers.ts';
import { type RunningProcess, startProcess } from './processes.ts';
import type { ProxyMode } from './proxy-rules.ts';
import { type ServiceSpec, Services } from './services.ts';
import { Truth } from './truth.ts';

export interface ClusterOptions {
  readonly nodes?: readonly { name: string; zone?: string | undefined }[];
  readonly proxyMode?: ProxyMode;
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
  readonly sandbox: RunningProcess;
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

const DEFAULTS = { kind: 'Deployment', replicas: 1, hostNetwork: false, qosClass: 'Burstable' } as const;

export class Cluster {
  readonly slot: Slot;
  readonly network: TestbedNetwork;
  readonly controlPlane: ControlPlane;
  readonly truth = new Truth();
  readonly workloads = new Map<string, Workload>();
  readonly externals = new Map<string, External>();
  readonly services: Services;
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
    this.services = new Services(network, controlPlane, options.proxyMode, (node) => this.#zone(node));
  }

  /** Starts the control plane, then one network namespace and Node object per node. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const [cgroupVersion] = availableCgroupVersions();
    const all = {
      nodes: [{ name: 'node-a' }],
      proxyMode: 'iptables' as const,
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
        ...(options.apiServerFlags && { apiServerFlags: options.apiServerFlags }),
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
    const object = await this.controlPlane.admin.create(nodeObject(name, zone, node.podRange));
    this.#nodeObjects.set(name, object);
    await this.controlPlane.admin.patchStatus(object, nodeStatus(name, node.address));
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
      ? { netns: node.netns, address: node.address }
      : this.network.addPod(node, fileName, options.address);
    const id = `${namespace}/${name}`;
    const sandbox = startProcess(this.slot, {
      name: `${fileName}.pause`,
      command: this.#pauseProgram(),
      args: ['infinity'],
      netns: network.netns,
      cgroups: this.#cgroups(workload.spec.qosClass, object, randomBytes(32).toString('hex')),
    });
    const container = await this.#startContainer(workload, object, id, network);
    const pod: Pod = {
      id,
      object,
      workload,
      node,
      network,
      ...container,
      restarts: 0,
      announced: false,
      sandbox,
    };
    if (options.announce !== false) await this.announce(pod);
    workload.pods.push(pod);
    return pod;
  }

  /** sleep(1) under the name of a sandbox's only process. */
  #pauseProgram(): string {
    const path = join(this.slot.directory, 'pause');
    if (!existsSync(path)) copyFileSync('/bin/sleep', path);
    return path;
  }

  #cgroups(qosClass: QosClass, pod: KubeObject, containerId: string): string[] {
    const { cgroupDriver, cgroupVersion, runtime, kubeletRoot } = this.#options;
    const path = containerCgroupPath({
      driver: cgroupDriver,
      runtime,
      qosClass,
      podUid: pod.metadata.annotations?.['kubernetes.io/config.hash'] ?? pod.metadata.uid ?? '',
      containerId,
      root: kubeletRoot,
    });
    return makeCgroups(this.slot, cgroupVersion, path);
  }

  async #startContainer(
    workload: Workload,
    pod: KubeObject,
    id: string,
    network: PodNetwork,
  ): Promise<{ containerId: string; peer: Peer }> {
    const containerId = randomBytes(32).toString('hex');
    const { program, port } = workload.spec;
    const cgroups = this.#cgroups(workload.spec.qosClass, pod, containerId);
    const peer = await startPeer(this.slot, {
      name: id,
      program,
      netns: network.netns,
      cgroups,
      ...(port && { port }),
    });
    const scheme = this.#options.runtime === 'cri-o-crun' ? 'cri-o' : this.#options.runtime;
    return { containerId: `${scheme}://${containerId}`, peer };
  }

  /**
   * A pod from a DaemonSet that is not a workload of this cluster: its object and its container's cgroups. What runs
   * in it is the caller's business.
   */
  async createForeignPod(
    daemonSet: KubeObject,
    template: { metadata: object; spec: { containers: { name: string; image: string }[] } },
    node: NodeNetwork,
  ): Promise<ForeignPod> {
    const { namespace = 'default', name } = daemonSet.metadata;
    const { admin } = this.controlPlane;
    const object = await admin.create({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        ...template.metadata,
        name: `${name}-${randomSuffix()}`,
        namespace,
        ownerReferences: [ownedBy(daemonSet)],
      },
      spec: { ...template.spec, nodeName: node.name },
    });
    const containerId = randomBytes(32).toString('hex');
    const qosClass = 'Burstable';
    const [container] = template.spec.containers;
    if (!container) throw new Error(`${name} has no container`);
    const { name: containerName, image } = container;
    const status = runningStatus({
      hostAddress: node.address,
      podAddress: node.address,
      qosClass,
      containers: [
        { name: containerName, image, containerId: `containerd://${containerId}`, restartCount: 0 },
      ],
    });
    return {
      object,
      cgroups: this.#cgroups(qosClass, object, containerId),
      announce: async () => void (await admin.patchStatus(object, status)),
    };
  }

  /** Writes the pod's status as kubelet does once its containers run. */
  async announce(pod: Pod): Promise<void> {
    const { qosClass } = pod.workload.spec;
    const containers = pod.workload.template.containers.map(({ name, image }) => ({
      name,
      image,
      containerId: pod.containerId,
      restartCount: pod.restarts,
    }));
    const status = runningStatus({
      hostAddress: pod.node.address,
      podAddress: pod.network.address,
      qosClass,
      containers,
    });
    await this.controlPlane.admin.patchStatus(pod.object, status);
    pod.announced = true;
  }

  /** The container dies and comes back under another id, in the same sandbox with the same address. */
  async restartContainer(pod: Pod): Promise<void> {
    await this.#retire(pod);
    Object.assign(pod, await this.#startContainer(pod.workload, pod.object, pod.id, pod.network));
    pod.restarts++;
    await this.announce(pod);
  }

  /** Notes what the pod's server counted, then ends it. */
  async #retire(pod: Pod): Promise<void> {
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
    const all = [...this.pods(), ...this.externals.values()];
    await Promise.all(all.map(async ({ id, peer }) => this.truth.setServed(id, await peer.report())));
    return this.truth;
  }
}
