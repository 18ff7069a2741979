// From a cgroup's path to the container, pod or systemd unit that it stands for. Paths come from /proc/PID/cgroup, from
// a cgroup mount, or as the few leaf names that the kernel side captured. Called by host.ts, cgroup_mode.ts and kubernetes/.
import { kernelText } from './text.ts';
import type { KernelName } from './types.ts';

export type Runtime =
  | 'containerd'
  | 'cri-o'
  | 'docker'
  | 'podman'
  | 'lxc'
  | 'nspawn'
  | 'machine'
  | 'nomad'
  | 'ecs'
  | 'buildkit'
  | 'garden'
  /** A container by the shape of its id; the path does not say whose (the cgroupfs driver writes the bare id). */
  | 'unknown';

export type QosClass = 'guaranteed' | 'burstable' | 'besteffort';

export interface ContainerCgroup {
  readonly kind: 'container';
  /** The runtime's id: 64 hexadecimal digits mostly; a name for lxc, nspawn, machine and nomad. */
  readonly containerId: string;
  readonly runtime: Runtime;
  readonly podUid?: string;
  readonly qos?: QosClass;
}

export type CgroupName =
  | ContainerCgroup
  /** Inside a pod's slice but in no container: the pod's own processes (conmon, a shim). */
  | { readonly kind: 'pod'; readonly podUid: string; readonly qos?: QosClass }
  | { readonly kind: 'unit'; readonly unit: string }
  /** Holds many programs, or nothing that has a name: who runs in it must be named by its process. */
  | { readonly kind: 'process' }
  /** A name on the way was cut (see {@link KERNEL_NAME_LIMIT}) and what is left does not tell; ask by id. */
  | { readonly kind: 'cut'; readonly podUid?: string };

/** The kernel side keeps this many bytes of each directory's name, NUL not counted. */
export const KERNEL_NAME_LIMIT = 95;
/** And this many names. */
export const KERNEL_NAMES = 4;

/** Components of a path, root first; `/..` parts (seen from inside a cgroup namespace) dropped. */
export function splitCgroupPath(path: string): string[] {
  // /proc/PID/cgroup says so when the directory was removed under a living process.
  const clean = path.endsWith(' (deleted)') ? path.slice(0, -' (deleted)'.length) : path;
  return clean.split('/').filter((part) => part !== '' && part !== '.' && part !== '..');
}

/** Components of the leaf-first names captured in the kernel, root first. */
export function kernelComponents(path: readonly KernelName[]): string[] {
  const names: string[] = [];
  for (const name of path) {
    const text = kernelText(name);
    if (text === '' || text === '/') break;
    names.push(text);
  }
  return names.reverse();
}

/** Undoes systemd's escapes: `\x2d` → `-`. Bytes of one character may be several escapes. */
export function unescapeUnit(name: string): string {
  if (!name.includes('\\x')) return name;
  return name.replace(/(?:\\x[0-9a-f]{2})+/g, (run) =>
    Buffer.from(run.replaceAll('\\x', ''), 'hex').toString('utf8'),
  );
}

const UUID = '[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}';
// systemd driver: [<cgroup root>-]kubepods[-<qos>]-pod<uid>.slice; cgroupfs driver: pod<uid> below kubepods/<qos>.
// Static pods from files have the hash of their manifest as uid: 32 digits without dashes.
const POD = new RegExp(`^(?:(?:.*-)?kubepods(?:-[a-z]+)?-)?pod(${UUID}|[0-9a-f]{32})(?:\\.slice)?(?=$|:)`);
const HEX_ID = /^(?:([a-z][a-z0-9_.-]*)-)?([0-9a-f]{64})(?:\.scope)?$/;
// runc without systemd, told a systemd path, makes one directory of the three parts: <slice>:<prefix>:<id>.
const COLON_ID = /:([a-z-]*):([0-9a-f]{64})$/;
const COLON_CUT = /:([a-z-]*):[0-9a-f]*$/;

const RUNTIME_BY_PREFIX: Readonly<Record<string, Runtime>> = {
  'cri-containerd': 'containerd',
  containerd: 'containerd',
  nerdctl: 'containerd',
  docker: 'docker',
  crio: 'cri-o',
  'crio-conmon': 'cri-o',
  libpod: 'podman',
  'libpod-conmon': 'podman',
  'libpod-payload': 'podman',
  buildkit: 'buildkit',
};

const RUNTIME_BY_PARENT: Readonly<Record<string, Runtime>> = {
  docker: 'docker',
  libpod_parent: 'podman',
  'machine.slice': 'podman',
  moby: 'docker',
  'k8s.io': 'containerd',
  default: 'containerd',
  garden: 'garden',
  buildkit: 'buildkit',
};

interface Found {
  readonly id: string;
  readonly runtime: Runtime;
  readonly monitor: boolean;
}

function hexContainer(name: string, parent: string): Found | undefined {
  const match = HEX_ID.exec(name) ?? COLON_ID.exec(name);
  if (match === null) return undefined;
  const prefix = match[1] ?? '';
  const runtime =
    RUNTIME_BY_PREFIX[prefix] ?? RUNTIME_BY_PARENT[parent] ?? (parent.startsWith('ecs') ? 'ecs' : 'unknown');
  return { id: match[2] as string, runtime, monitor: prefix.endsWith('conmon') };
}

const UUID_DASHES = UUID.replaceAll('[-_]', '-');
/** Containers whose directory is no 64-digit id; each line is one product's form. */
const OTHER_FORMS: readonly { runtime: Runtime; parent?: RegExp; name: RegExp }[] = [
  { runtime: 'lxc', name: /^lxc\.payload\.(.+)$/ },
  { runtime: 'lxc', parent: /^lxc(?:\.payload)?$/, name: /^([^.].*)$/ },
  { runtime: 'nspawn', name: /^systemd-nspawn@(.+)\.service$/ },
  // libvirt numbers every start of a machine: machine-qemu-<n>-<name>.scope.
  { runtime: 'machine', name: /^machine-(?:qemu-\d+-|lxc-\d+-)?(.+)\.scope$/ },
  { runtime: 'nomad', name: new RegExp(`^${UUID_DASHES}\\.(.+)\\.scope$`) },
  { runtime: 'ecs', name: /^([0-9a-f]{32}-\d+)$/ },
  { runtime: 'garden', parent: /^garden$/, name: new RegExp(`^(${UUID_DASHES})$`) },
  { runtime: 'buildkit', parent: /^buildkit$/, name: /^([a-z0-9]{25})$/ },
];

function container(name: string, parent: string): Found | undefined {
  const found = hexContainer(name, parent);
  if (found !== undefined) return found;
  for (const form of OTHER_FORMS) {
    if (form.parent !== undefined && !form.parent.test(parent)) continue;
    const match = form.name.exec(name);
    if (match !== null) return { id: match[1] as string, runtime: form.runtime, monitor: false };
  }
  return undefined;
}

const UNIT = /\.(?:service|scope|socket|mount|swap)$/;
// Scopes and services that systemd-run, logind and init number: a name per start, not per program.
const TRANSIENT =
  /^(?:session-.*\.scope|init\.scope|run-(?:r[0-9a-f]{32}|[up]?\d+(?:-i\d+)?)\.(?:service|scope)|(?:app|dbus|vte-spawn)-.*\.scope)$/;
const USER_MANAGER = /^user@\d+\.service$/;
// Accept=yes sockets start one instance per connection: <n>-<address>:<port>-<address>:<port>, or <n>-<pid>-<uid>.
const PER_CONNECTION = /^([^@]+@)(?:\d+-.*:\d+-.*:\d+|\d+-\d+-\d+)(\.service)$/;

function unit(components: readonly string[]): string | undefined {
  if (components.some((name) => USER_MANAGER.test(name))) return undefined;
  const name = components.findLast((part) => UNIT.test(part));
  if (name === undefined) {
    const openrc = components.find((part) => part.startsWith('openrc.'));
    return openrc?.slice('openrc.'.length) || undefined;
  }
  if (TRANSIENT.test(name)) return undefined;
  // systemd puts `_` before names that collide with a file of the cgroup file system (cpu.service).
  return name.replace(/^_/, '').replace(PER_CONNECTION, '$1$2');
}

interface Pod {
  readonly uid: string;
  readonly qos: QosClass | undefined;
  readonly index: number;
}

function findPod(components: readonly string[]): Pod | undefined {
  // The innermost pod: a kind or k3s node is itself a container, or a pod of an outer cluster.
  for (let index = components.length - 1; index >= 0; index--) {
    const match = POD.exec(components[index] as string);
    if (match === null) continue;
    const above = components.slice(0, index + 1).join('/');
    let qos: QosClass | undefined;
    if (/\bbesteffort\b/.test(above)) qos = 'besteffort';
    else if (/\bburstable\b/.test(above)) qos = 'burstable';
    else if (/\bkubepods\b/.test(above)) qos = 'guaranteed';
    return { uid: (match[1] as string).replaceAll('_', '-'), qos, index };
  }
  return undefined;
}

function inPod(components: readonly string[], pod: Pod): CgroupName {
  const qos = pod.qos === undefined ? {} : { qos: pod.qos };
  // The first container below the pod is the one Kubernetes knows; what it runs inside (Docker in Docker) is its own affair.
  for (let index = pod.index; index < components.length; index++) {
    const found = container(components[index] as string, components[index - 1] ?? '');
    if (found === undefined) continue;
    if (found.monitor) return { kind: 'pod', podUid: pod.uid, ...qos };
    return { kind: 'container', containerId: found.id, runtime: found.runtime, podUid: pod.uid, ...qos };
  }
  if (COLON_CUT.test(components[pod.index] as string)) return { kind: 'cut', podUid: pod.uid };
  return { kind: 'pod', podUid: pod.uid, ...qos };
}

/** Whether a cgroup says who its processes are, so that process names need not tell them apart. */
export function namesWorkload({ kind }: CgroupName): boolean {
  return kind === 'container' || kind === 'pod' || kind === 'unit';
}

/**
 * Names a cgroup by its path.
 * @param components directory names, root first, as {@link splitCgroupPath} and {@link kernelComponents} give them. The
 *   upper part may be missing.
 */
export function nameCgroup(components: readonly string[]): CgroupName {
  const names = components.map(unescapeUnit);
  const pod = findPod(names);
  if (pod !== undefined) return inPod(names, pod);
  for (let index = names.length - 1; index >= 0; index--) {
    const found = container(names[index] as string, names[index - 1] ?? '');
    if (found === undefined) continue;
    if (found.monitor) return { kind: 'process' };
    return { kind: 'container', containerId: found.id, runtime: found.runtime };
  }
  if (components.some((name) => Buffer.byteLength(name) === KERNEL_NAME_LIMIT)) return { kind: 'cut' };
  const name = unit(names);
  return name === undefined ? { kind: 'process' } : { kind: 'unit', unit: name };
}

/** Ids of all containers on the path, innermost first: with nested runtimes the API server may know an outer one only. */
export function containerIds(components: readonly string[]): string[] {
  const ids: string[] = [];
  for (let index = components.length - 1; index >= 0; index--) {
    const found = container(unescapeUnit(components[index] as string), components[index - 1] ?? '');
    if (found !== undefined && !found.monitor) ids.push(found.id);
  }
  return ids;
}
