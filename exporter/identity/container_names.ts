// Names of containers that run without Kubernetes, read from the files in which Docker, Podman and containerd keep them.
// Called by host.ts. No runtime's socket is opened: that would be root on the host for an attacker who takes over the agent.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerCgroup } from './cgroup_path.ts';
import { sanitise } from './text.ts';

const MAX_REMEMBERED = 8192;
const MAX_FILE_BYTES = 4 << 20;
const SHORT_ID = 12;
const ID = /^[0-9a-f]{64}$/;

function readJson(path: string): unknown {
  try {
    if (statSync(path).size > MAX_FILE_BYTES) return undefined;
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

function field(value: unknown, ...path: (string | number)[]): unknown {
  let current = value;
  for (const key of path) {
    if (typeof current !== 'object' || current === null) return undefined;
    current = (current as Record<string | number, unknown>)[key];
  }
  return current;
}

function text(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined;
  const name = sanitise(value.replace(/^\//, ''));
  return name === '' ? undefined : name;
}

/** Swarm and Compose run many containers of one service: the service is the workload. */
function docker(root: string, id: string): string | undefined {
  const config = readJson(join(root, 'var/lib/docker/containers', id, 'config.v2.json'));
  const labels = field(config, 'Config', 'Labels');
  const swarm = text(field(labels, 'com.docker.swarm.service.name'));
  if (swarm !== undefined) return swarm;
  const project = text(field(labels, 'com.docker.compose.project'));
  const service = text(field(labels, 'com.docker.compose.service'));
  if (project !== undefined && service !== undefined) return `${project}-${service}`;
  return text(field(config, 'Name'));
}

function podman(root: string, id: string): string | undefined {
  for (const driver of ['overlay', 'vfs', 'btrfs', 'zfs']) {
    const list = readJson(
      join(root, 'var/lib/containers/storage', `${driver}-containers`, 'containers.json'),
    );
    if (!Array.isArray(list)) continue;
    const entry: unknown = list.find((item) => field(item, 'id') === id);
    const name = text(field(entry, 'names', 0));
    if (name !== undefined) return name;
  }
  return undefined;
}

function containerd(root: string, id: string): string | undefined {
  for (const namespace of ['default', 'moby', 'k8s.io']) {
    const spec = readJson(
      join(root, 'run/containerd/io.containerd.runtime.v2.task', namespace, id, 'config.json'),
    );
    const name =
      text(field(spec, 'annotations', 'nerdctl/name')) ??
      text(field(spec, 'annotations', 'io.kubernetes.cri.container-name'));
    if (name !== undefined) return name;
  }
  return undefined;
}

export class ContainerNames {
  readonly #root: string;
  #known = new Map<string, string>();

  /** @param root where the host's / is */
  constructor(root: string) {
    this.#root = root;
  }

  /** The container's name; the first 12 digits of its id where no file tells it. */
  name({ containerId, runtime }: ContainerCgroup): string {
    if (!ID.test(containerId)) return containerId;
    const known = this.#known.get(containerId);
    if (known !== undefined) return known;
    const readers = { docker, podman, containerd };
    const first = readers[runtime as keyof typeof readers];
    // The bare id of the cgroupfs driver does not say whose it is: ask all.
    const order = first === undefined ? Object.values(readers) : [first];
    let name: string | undefined;
    for (const reader of order) name ??= reader(this.#root, containerId);
    const result = name ?? containerId.slice(0, SHORT_ID);
    if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
    this.#known.set(containerId, result);
    return result;
  }
}
