// Identity on a node of a Kubernetes cluster: what host.ts knows, and above it pods, services and nodes from the API
// server. Created by create.ts. Works from the first moment without the API server; names arrive late and are announced.
import { canonicalAddress, isLoopback } from '../address.ts';
import { namesWorkload } from '../cgroup_path.ts';
import type { HostIdentity, LocalEnd } from '../host.ts';
import {
  type CgroupMode,
  type Identity,
  type IdentityChange,
  type IdentityRange,
  type IdentityStats,
  OWNER_FLAGS,
  type OwnerInfo,
  type RemoteAddress,
  type RemoteIdentity,
  type Workload,
} from '../types.ts';
import { Cluster, type PodRef, type ServiceEndpoint, type ServiceRef } from './cluster.ts';
import { ClusterRanges } from './cluster_ranges.ts';
import type { Connection } from './connection.ts';
import type { Controller, Node } from './objects.ts';
import { PodLookup } from './pod_lookup.ts';
import { type ReflectorOptions, type ReflectorSet, startReflectors } from './watchers.ts';

export interface KubernetesIdentityOptions {
  readonly host: HostIdentity;
  readonly connection: Connection;
  /** Name of the own Node object. */
  readonly nodeName: string;
  /** Where remote pods come from: their services' EndpointSlices, or a watch of all pods. */
  readonly remote: 'endpointslices' | 'pods';
  readonly log?: { readonly warn: (message: string) => void; readonly info: (message: string) => void };
  readonly now?: () => number;
  /** Timing of the watches, for tests. */
  readonly tuning?: Pick<ReflectorOptions<never>, 'backoff' | 'pageSize' | 'watchSeconds' | 'random'> & {
    readonly lookupsPerSecond?: number;
  };
}

type PodName = Pick<PodRef, 'name' | 'namespace' | 'node'>;

interface NamedPod {
  readonly controller: Controller;
  readonly zone: string;
  readonly workload: Workload;
}

export class KubernetesIdentity implements Identity {
  readonly #host: HostIdentity;
  readonly #options: KubernetesIdentityOptions;
  readonly #now: () => number;
  readonly #cluster: Cluster;
  readonly #lookup: PodLookup;
  readonly #problems = new Map<string, string>();
  readonly #ends = new WeakMap<OwnerInfo, LocalEnd>();
  readonly #locals = new WeakMap<OwnerInfo, { readonly revision: number; readonly workload: Workload }>();
  /** The last answer for each pod object: thousands of edges ask for the same few after every change. */
  readonly #podWorkloads = new WeakMap<PodName, NamedPod>();
  #targets = new Map<string, Workload | undefined>();
  #targetsRevision = 0;
  readonly #ranges: ClusterRanges;
  #reflectors: ReflectorSet | undefined;

  constructor(options: KubernetesIdentityOptions) {
    this.#options = options;
    this.#host = options.host;
    this.#now = options.now ?? Date.now;
    this.#cluster = new Cluster({
      now: this.#now,
      onChange: (ranges) => {
        if (ranges) this.#ranges.invalidate();
        this.#host.changes.bump(ranges);
      },
    });
    this.#ranges = new ClusterRanges(this.#cluster, () => this.synced);
    const rate = options.tuning?.lookupsPerSecond;
    this.#lookup = new PodLookup({
      connection: options.connection,
      now: this.#now,
      onProblem: (problem) => this.#report('lookups', problem),
      onResult: (pod) => (pod === undefined ? this.#host.changes.bump() : this.#cluster.learn(pod)),
      ...(rate === undefined ? {} : { ratePerSecond: rate }),
    });
  }

  get revision(): number {
    return this.#host.revision;
  }

  get cgroupMode(): CgroupMode {
    return this.#host.cgroupMode;
  }

  /** True once every kind of object was listed. */
  get synced(): boolean {
    return this.#reflectors?.synced ?? false;
  }

  onChange(listener: (change: IdentityChange) => void): () => void {
    return this.#host.onChange(listener);
  }

  async start(): Promise<void> {
    await this.#host.start();
    const { connection, nodeName, remote, tuning } = this.#options;
    this.#reflectors ??= startReflectors({
      connection,
      nodeName: remote === 'pods' ? undefined : nodeName,
      cluster: this.#cluster,
      onProblem: (resource, problem) => this.#report(resource, problem),
      onSynced: () => {
        this.#ranges.invalidate();
        this.#host.changes.bump(true);
      },
      tuning: tuning ?? {},
    });
  }

  async stop(): Promise<void> {
    await Promise.all([this.#reflectors?.stop(), this.#lookup.stop(), this.#host.stop()]);
    this.#options.connection.close();
  }

  /** One line per thing that goes wrong, however many watches it hits, and one when all is well. */
  #report(source: string, problem: string | undefined): void {
    const before = this.#problems.get(source);
    if (problem === before) return;
    if (problem === undefined) {
      this.#problems.delete(source);
      if (this.#problems.size === 0)
        this.#options.log?.info('names from the API server are up to date again');
      return;
    }
    const known = [...this.#problems.values()].includes(problem);
    this.#problems.set(source, problem);
    if (!known) this.#options.log?.warn(problem);
  }

  // --- local ends ---

  #end(owner: OwnerInfo): LocalEnd {
    let end = this.#ends.get(owner);
    if (end === undefined) {
      end = this.#host.localEnd(owner);
      this.#ends.set(owner, end);
    }
    return end;
  }

  cgroupNamesWorkload(owner: OwnerInfo): boolean {
    return namesWorkload(this.#end(owner).cgroup);
  }

  local(owner: OwnerInfo): Workload {
    const known = this.#locals.get(owner);
    if (known?.revision === this.revision) return known.workload;
    const workload = this.#nameLocal(owner);
    this.#locals.set(owner, { revision: this.revision, workload });
    return workload;
  }

  #nameLocal(owner: OwnerInfo): Workload {
    if (owner.flags & OWNER_FLAGS.kernelThread) return this.#host.local(owner);
    const { cgroup, containerIds } = this.#end(owner);
    const podUid = 'podUid' in cgroup ? cgroup.podUid : undefined;
    const pod = this.#cluster.podOfCgroup(containerIds, podUid);
    if (pod !== undefined) return this.#podWorkload(pod, pod.controller, '');
    if (podUid !== undefined) return this.#host.unknown('local').workload;
    return this.#host.nameLocal(owner, cgroup);
  }

  #podWorkload(pod: PodName, controller: Controller, sliceZone: string): Workload {
    const zone = this.#cluster.zoneOf(pod.node) || sliceZone;
    const known = this.#podWorkloads.get(pod);
    if (known?.controller === controller && known.zone === zone) return known.workload;
    const workload = this.#host.workloads.of(controller.name, controller.kind, {
      namespace: pod.namespace,
      pod: pod.name,
      ...(zone === '' ? {} : { zone }),
    });
    this.#podWorkloads.set(pod, { controller, zone, workload });
    return workload;
  }

  // --- remote ends ---

  remote(address: RemoteAddress): RemoteIdentity {
    const text = address.address === undefined ? undefined : canonicalAddress(address.address);
    const dialled = this.#dialled(address, text);
    const service = dialled === undefined ? {} : { service: dialled.name };
    if (address.peer !== undefined) return { workload: this.local(address.peer), ...service };
    switch (address.scope) {
      case 'external':
      case 'range':
        return { ...this.#host.remote(address), ...service };
      case 'loopback':
        return { ...this.#loopback(address), ...service };
      case 'local':
        return { workload: this.#nodeWorkload(undefined), ...service };
      case 'exact':
        return text === undefined ? this.#host.unknown() : { ...this.#exact(text, address), ...service };
    }
  }

  /** The service that was dialled: by what the client dialled, or by the address itself where that is a service's. */
  #dialled({ dialled, port = 0 }: RemoteAddress, text: string | undefined): ServiceRef | undefined {
    if (dialled !== undefined) {
      const address = canonicalAddress(dialled.address);
      if (address === undefined) return undefined;
      const found = this.#cluster.serviceAt(address, dialled.port);
      if (found !== undefined) return found;
      const isNode =
        this.#host.isOwn(address) || isLoopback(address) || this.#cluster.nodeAt(address) !== undefined;
      return isNode ? this.#cluster.serviceByNodePort(dialled.port) : undefined;
    }
    if (text === undefined) return undefined;
    const found = this.#cluster.serviceAt(text, port);
    if (found !== undefined) return found;
    const isNode = this.#host.isOwn(text) || this.#cluster.nodeAt(text) !== undefined;
    // Who listens there himself was reached without a service.
    return isNode && this.#cluster.endpointAt(text, port) === undefined
      ? this.#cluster.serviceByNodePort(port)
      : undefined;
  }

  /** Loopback stays inside a pod, unless the pod is on its node's network. */
  #loopback(address: RemoteAddress): RemoteIdentity {
    if (address.owner === undefined) return this.#host.loopback(address);
    const { cgroup, containerIds } = this.#end(address.owner);
    const podUid = 'podUid' in cgroup ? cgroup.podUid : undefined;
    const pod = this.#cluster.podOfCgroup(containerIds, podUid);
    if (pod === undefined && podUid === undefined) return this.#host.loopback(address);
    if (pod?.hostNetwork) return { workload: this.#nodeWorkload(undefined) };
    return { workload: this.local(address.owner) };
  }

  #exact(text: string, address: RemoteAddress): RemoteIdentity {
    if (isLoopback(text)) return this.#loopback(address);
    const { port = 0, at = this.#now() } = address;
    const node = this.#cluster.nodeAt(text);
    if (node !== undefined) return this.#onNode(text, port, node);
    const pod = this.#podAt(text, at);
    if (pod !== undefined) return pod;
    // After the pods: an agent that is not on its node's network has its own pod's address.
    if (this.#host.isOwn(text)) return this.#onNode(text, port, undefined);
    const service = this.#cluster.serviceAt(text, port);
    if (service !== undefined) return this.#someBackend(service);
    const endpoint = this.#cluster.endpointAt(text, port) ?? this.#cluster.endpointAtAddress(text);
    if (endpoint !== undefined) return this.#endpoint(endpoint, at);
    return this.#stranger(text);
  }

  #podAt(text: string, at: number): RemoteIdentity | undefined {
    const tenure = this.#cluster.podAt(text, at);
    if (tenure === undefined) return undefined;
    if (tenure.ended !== undefined) {
      // A pod that no slice names may have the address by now.
      const result = this.#lookup.byAddress(text);
      if (result.state === 'found' && result.at > tenure.ended && result.pod.uid !== tenure.holder.uid) {
        return { workload: this.#podWorkload(result.pod, result.pod.controller, '') };
      }
    }
    return { workload: this.#refWorkload(tenure.holder) };
  }

  /** A node's address: a pod on its network, a node port, or the node itself. */
  #onNode(text: string, port: number, node: Node | undefined): RemoteIdentity {
    if (port > 0) {
      const endpoint = this.#cluster.endpointAt(text, port);
      if (endpoint !== undefined) return this.#endpoint(endpoint, this.#now());
      const service = this.#cluster.serviceByNodePort(port);
      if (service !== undefined) return this.#someBackend(service);
    }
    return { workload: this.#nodeWorkload(node) };
  }

  /** A service that was dialled, where nothing says which of its pods answers. */
  #someBackend(service: ServiceRef): RemoteIdentity {
    this.#host.countBackend();
    return { workload: this.#serviceTarget(service) ?? this.#serviceWorkload(service) };
  }

  #nodeWorkload(node: Node | undefined): Workload {
    const name = node?.name ?? this.#options.nodeName;
    const zone = this.#cluster.zoneOf(name);
    return this.#host.workloads.of(name, 'Node', zone === '' ? {} : { zone });
  }

  #endpoint(endpoint: ServiceEndpoint, _at: number): RemoteIdentity {
    if (endpoint.pod !== undefined) return { workload: this.#refWorkload(endpoint.pod) };
    return { workload: this.#serviceWorkload({ name: endpoint.service, namespace: endpoint.namespace }) };
  }

  /** A service where no pod behind it can be named: the API server, or the service itself. */
  #serviceWorkload(service: ServiceRef): Workload {
    if (service.name === 'kubernetes' && service.namespace === 'default') {
      return this.#host.workloads.of('kube-apiserver', 'ControlPlane', { namespace: 'kube-system' });
    }
    return this.#host.workloads.of(service.name, 'Service', { namespace: service.namespace });
  }

  #refWorkload(ref: PodRef): Workload {
    const known = this.#cluster.controllerOf(ref);
    if (known !== undefined) return this.#podWorkload(ref, known, ref.zone);
    const result = this.#lookup.byName(ref.namespace, ref.name, ref.uid);
    if (result.state === 'found') return this.#podWorkload(ref, result.pod.controller, ref.zone);
    // The slice says at least which service it is; a name for a moment only would be a series for nothing.
    if (result.state === 'pending' || ref.service === '') return this.#host.unknown().workload;
    return this.#serviceWorkload({ name: ref.service, namespace: ref.namespace });
  }

  /** The workload behind a service, if all its pods are of one; undefined otherwise. For connections whose pod is not known. */
  #serviceTarget(service: ServiceRef): Workload | undefined {
    if (this.#targetsRevision !== this.revision) {
      this.#targets = new Map();
      this.#targetsRevision = this.revision;
    }
    const key = `${service.namespace}/${service.name}`;
    if (!this.#targets.has(key)) this.#targets.set(key, this.#commonWorkload(service));
    return this.#targets.get(key);
  }

  #commonWorkload(service: ServiceRef): Workload | undefined {
    const { pods, others } = this.#cluster.backends(service);
    if (others > 0) return undefined;
    let common: Workload | undefined;
    for (const ref of pods) {
      const workload = this.#refWorkload(ref);
      if (workload.kind === 'Unknown') return workload; // Being asked for: the others can wait for that.
      if (common !== undefined && (workload.name !== common.name || workload.kind !== common.kind))
        return undefined;
      common ??= workload;
    }
    if (common === undefined) return undefined;
    return this.#host.workloads.of(common.name, common.kind, { namespace: common.namespace });
  }

  /** An address that no watch told of: a pod without a service, a node's tunnel, something late, or nobody of the cluster. */
  #stranger(text: string): RemoteIdentity {
    const place = this.#ranges.place(text);
    if (place === undefined) return this.#outside(text);
    if (place.kind === 'early' || place.kind === 'services') return this.#host.unknown();
    const result = this.#lookup.byAddress(text);
    if (result.state === 'found')
      return { workload: this.#podWorkload(result.pod, result.pod.controller, '') };
    if (result.state !== 'absent') return this.#host.unknown();
    if (place.kind === 'pods') return this.#outside(text);
    // In a node's range and nobody's: the node's own end of its pods' network.
    const zone = this.#cluster.zoneOf(place.node);
    return { workload: this.#host.workloads.of(place.node, 'Node', zone === '' ? {} : { zone }) };
  }

  #outside(text: string): RemoteIdentity {
    return this.#host.namedRange(text) ?? this.#host.remote({ scope: 'external' });
  }

  ranges(): readonly IdentityRange[] {
    return this.#ranges.list(this.#host.ranges());
  }

  stats(): IdentityStats {
    const host = this.#host.stats();
    const problems = new Set(this.#problems.values());
    const { nodeName } = this.#options;
    if (this.#cluster.hasNode(nodeName) === false) {
      problems.add(`the cluster has no node ${nodeName}: set kubernetes.node_name to the name of this node`);
    }
    return {
      ...host,
      known: { ...host.known, ...this.#cluster.sizes },
      counters: { ...host.counters, ...this.#reflectors?.counters(), lookups: this.#lookup.requests },
      resources: this.#reflectors?.resources(this.#cluster.sizes) ?? {},
      problems: [...problems],
    };
  }
}
