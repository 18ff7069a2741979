// What kubelet and the container runtime do on a testbed's nodes: sandboxes, containers and pod statuses. Called by
// cluster.ts, and by agent.ts for a pod whose program is not a peer.
import { randomBytes } from 'node:crypto';
import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { type ApiClient, type KubeObject, objectPath } from './api-client.ts';
import { containerCgroupPath, makeCgroups, type QosClass } from './cgroups.ts';
import type {
  ClusterOptions,
  ExtraContainer,
  ExtraContainerOptions,
  ForeignPod,
  Pod,
  Workload,
  WorkloadSpec,
} from './cluster-types.ts';
import type { Slot } from './leftovers.ts';
import type { NodeNetwork, PodNetwork } from './network.ts';
import { containerStatus, ownedBy, randomSuffix, runningStatus } from './objects.ts';
import { type Counts, type Peer, startPeer } from './peers.ts';
import { type RunningProcess, startProcess } from './processes.ts';

type KubeletOptions = Required<
  Pick<ClusterOptions, 'cgroupDriver' | 'cgroupVersion' | 'runtime' | 'kubeletRoot' | 'dualStack'>
>;

export class Kubelet {
  readonly #slot: Slot;
  readonly #admin: ApiClient;
  readonly #options: KubeletOptions;

  constructor(slot: Slot, admin: ApiClient, options: KubeletOptions) {
    this.#slot = slot;
    this.#admin = admin;
    this.#options = options;
  }

  /** The pod's pause process, which holds its namespaces. */
  startSandbox(workload: Workload, pod: KubeObject, fileName: string, network: PodNetwork): RunningProcess {
    return startProcess(this.#slot, {
      name: `${fileName}.pause`,
      command: this.#pauseProgram(),
      args: ['infinity'],
      netns: network.netns,
      cgroups: this.#cgroups(workload.spec.qosClass, pod, randomBytes(32).toString('hex')),
    });
  }

  /** sleep(1) under the name of a sandbox's only process. */
  #pauseProgram(): string {
    const path = join(this.#slot.directory, 'pause');
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
    return makeCgroups(this.#slot, cgroupVersion, path);
  }

  /** Runs a peer in a new container of a pod; the workload's own program by default. */
  async startContainer(
    workload: Workload,
    pod: KubeObject,
    id: string,
    network: PodNetwork,
    {
      program,
      port,
      suffix = '',
    }: Pick<WorkloadSpec, 'program' | 'port'> & { suffix?: string } = workload.spec,
  ): Promise<{ containerId: string; peer: Peer }> {
    const containerId = randomBytes(32).toString('hex');
    const cgroups = this.#cgroups(workload.spec.qosClass, pod, containerId);
    const peer = await startPeer(this.#slot, {
      name: id,
      logName: `${id.replace('/', '.')}${suffix}`,
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
    const object = await this.#admin.create({
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
      hostAddresses: this.#addresses(node),
      podAddresses: this.#addresses(node),
      qosClass,
      containers: [
        { name: containerName, image, containerId: `containerd://${containerId}`, restartCount: 0 },
      ],
    });
    return {
      object,
      cgroups: this.#cgroups(qosClass, object, containerId),
      announce: async () => void (await this.#admin.patchStatus(object, status)),
    };
  }

  #addresses({ address, address6 }: { readonly address: string; readonly address6: string }): string[] {
    return this.#options.dualStack ? [address, address6] : [address];
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
      hostAddresses: this.#addresses(pod.node),
      podAddresses: this.#addresses(pod.network),
      qosClass,
      containers,
    });
    await this.#admin.patchStatus(pod.object, status);
    pod.announced = true;
  }

  /** Starts an init, sidecar or ephemeral container in a pod that runs, and says so in its status. */
  async startExtra(
    pod: Pod,
    options: ExtraContainerOptions,
    onStop: (served: Record<string, Counts>) => void,
  ): Promise<ExtraContainer> {
    const { name, type, program, port } = options;
    const image = `testbed/${program}:1`;
    if (type === 'ephemeral') {
      const container = { name, image, targetContainerName: 'main' };
      await this.#admin.patch(
        pod.object,
        { spec: { ephemeralContainers: [container] } },
        'ephemeralcontainers',
      );
    }
    const { containerId, peer } = await this.startContainer(pod.workload, pod.object, pod.id, pod.network, {
      program,
      port,
      suffix: `.${name}`,
    });
    const extra: ExtraContainer = {
      name,
      containerId,
      peer,
      stop: async () => {
        onStop(await peer.report());
        await peer.stop('SIGKILL');
        pod.extras.splice(pod.extras.indexOf(extra), 1);
      },
    };
    pod.extras.push(extra);
    const status = containerStatus({ name, image, containerId, restartCount: 0 });
    const field = {
      init: 'initContainerStatuses',
      sidecar: 'containerStatuses',
      ephemeral: 'ephemeralContainerStatuses',
    };
    const { status: before } = await this.#admin.get(objectPath(pod.object));
    await this.#admin.patchStatus(pod.object, { [field[type]]: [...(before[field[type]] ?? []), status] });
    return extra;
  }
}
