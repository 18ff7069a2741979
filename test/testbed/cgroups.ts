// cgroups of containers, named and nested as kubelet and the container runtimes do it, in the hierarchies this
// machine has: the unified one (version 2), the controllers' own (version 1), or both, as a hybrid host has them.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Slot } from './leftovers.ts';

export type CgroupDriver = 'systemd' | 'cgroupfs';
/** `cri-o-crun`: crun puts the processes of a CRI-O container one level deeper, in `container`. */
export type ContainerRuntime = 'containerd' | 'cri-o' | 'cri-o-crun' | 'docker';
export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';
export type CgroupVersion = 'v1' | 'v2' | 'hybrid';

export interface ContainerCgroup {
  readonly driver: CgroupDriver;
  readonly runtime: ContainerRuntime;
  readonly qosClass: QosClass;
  /** The pod's uid; of a static pod the hash of its manifest. */
  readonly podUid: string;
  readonly containerId: string;
  /** kubelet's --cgroup-root without the `.slice`, such as `kubelet` in kind's nodes; empty on other nodes. */
  readonly root?: string;
}

const SYSTEMD_SCOPES: Record<ContainerRuntime, string> = {
  containerd: 'cri-containerd-',
  'cri-o': 'crio-',
  'cri-o-crun': 'crio-',
  docker: 'docker-',
};

/**
 * Path below a hierarchy's root. Sources: kubelet's pkg/kubelet/cm/{cgroup_manager,pod_container_manager}_linux.go,
 * containerd's internal/cri/server/podsandbox/helpers_linux.go, CRI-O's internal/config/cgmgr.
 */
export function containerCgroupPath(container: ContainerCgroup): string {
  const { driver, runtime, qosClass, podUid, containerId, root = '' } = container;
  const qos = qosClass === 'Guaranteed' ? [] : [qosClass.toLowerCase()];
  const names = [...(root ? [root] : []), 'kubepods', ...qos];
  const leaf = runtime === 'cri-o-crun' ? ['container'] : [];
  if (driver === 'cgroupfs') {
    const id = runtime.startsWith('cri-o') ? `crio-${containerId}` : containerId;
    return [...names, `pod${podUid}`, id, ...leaf].join('/');
  }
  // systemd names a slice by its whole path with dashes, so dashes within a name become underscores.
  const all = [...names, `pod${podUid.replaceAll('-', '_')}`];
  const slices = all.map((_, depth) => `${all.slice(0, depth + 1).join('-')}.slice`);
  return [...slices, `${SYSTEMD_SCOPES[runtime]}${containerId}.scope`, ...leaf].join('/');
}

interface Hierarchy {
  readonly mount: string;
  readonly version: 1 | 2;
  readonly cpuset: boolean;
}

function hierarchies(): Hierarchy[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .map(([, mount = '', type, options = '']) => ({
      mount,
      version: type === 'cgroup2' ? 2 : 1,
      cpuset: options.split(',').includes('cpuset'),
    }));
}

/** What this machine can offer, best first. */
export function availableCgroupVersions(): CgroupVersion[] {
  const versions = new Set(hierarchies().map(({ version }) => version));
  if (versions.has(1) && versions.has(2)) return ['v2', 'v1', 'hybrid'];
  return versions.has(2) ? ['v2'] : versions.has(1) ? ['v1'] : [];
}

/**
 * Makes the directory in every hierarchy of this version and returns the paths; a process that writes its pid into
 * `cgroup.procs` of each is in the container. Slices above the pod are shared with whoever else uses them.
 */
export function makeCgroups(slot: Slot, version: CgroupVersion, path: string): string[] {
  const wanted = hierarchies().filter((each) => version === 'hybrid' || version === `v${each.version}`);
  if (wanted.length === 0) throw new Error(`this machine has no cgroup ${version}`);
  return wanted.map((hierarchy) => {
    const parts = path.split('/');
    const podDepth = parts.findIndex((part) => /(^|-)pod[0-9a-f]/.test(part));
    parts.forEach((_, depth) => {
      const directory = join(hierarchy.mount, ...parts.slice(0, depth + 1));
      const shared = podDepth >= 0 && depth < podDepth;
      slot.note({ kind: 'cgroup', path: directory, shared });
    });
    const directories = parts.map((_, depth) => join(hierarchy.mount, ...parts.slice(0, depth + 1)));
    makeNested(directories, hierarchy);
    return join(hierarchy.mount, path);
  });
}

/** Another testbed may remove an empty shared slice between two steps here: then once more from the top. */
function makeNested(directories: string[], hierarchy: Hierarchy): void {
  for (let attempt = 1; ; attempt++) {
    try {
      for (const directory of directories) makeCgroup(directory, hierarchy);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 10) throw error;
    }
  }
}

function makeCgroup(directory: string, hierarchy: Hierarchy): void {
  if (existsSync(directory)) return;
  mkdirSync(directory, { recursive: true });
  if (!hierarchy.cpuset || hierarchy.version === 2) return;
  // A cpuset of version 1 begins empty and takes no process before it has processors and memory.
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    writeFileSync(join(directory, file), readFileSync(join(dirname(directory), file)));
  }
}
