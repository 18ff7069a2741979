// Identity of a Linux host without Kubernetes: containers, systemd units and processes at the local end; this host, named
// ranges and `external` at the remote end. Also the base on which kubernetes/ builds.
import { readFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { type Cidr, canonicalAddress, isLoopback, PrefixTable, parseAddress, parseCidr } from './address.ts';
import { CgroupLookup } from './cgroup_lookup.ts';
import { detectCgroupMode, parseProcCgroup } from './cgroup_mode.ts';
import {
  type CgroupName,
  containerIds,
  KERNEL_NAMES,
  kernelComponents,
  nameCgroup,
  namesWorkload,
  splitCgroupPath,
} from './cgroup_path.ts';
import { Changes } from './changes.ts';
import { ContainerNames } from './container_names.ts';
import { processName } from './process_name.ts';
import { sanitise } from './text.ts';
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
} from './types.ts';
import { Workloads } from './workloads.ts';

/** How often the host's own addresses are read again. */
const ADDRESSES_INTERVAL_MILLIS = 10_000;

export interface NamedRange {
  readonly name: string;
  readonly cidr: string;
}

export interface HostIdentityOptions {
  /** Named ranges; the longest prefix wins, ranges of one name are one. */
  readonly ranges?: readonly NamedRange[];
  /** Name of this host; default: its host name. */
  readonly nodeName?: string;
  /** Hierarchy that {@link OwnerInfo.cgroupId} belongs to; default: detected. */
  readonly cgroup?: CgroupMode;
  /** Where the host's /proc is. */
  readonly proc?: string;
  /** Where the host's root is, for the names of containers. */
  readonly root?: string;
  /** This host's own addresses; default: those of the network namespace that the agent runs in. */
  readonly addresses?: () => Iterable<string>;
  /** Who listens on a port of this host, where the probe knows. */
  readonly listener?: (port: number) => OwnerInfo | undefined;
}

/** A malformed range in the configuration. */
export class InvalidRangeError extends Error {
  override readonly name = 'InvalidRangeError';
}

/** What the local end's cgroup and process tell, before Kubernetes is asked. */
export interface LocalEnd {
  readonly cgroup: CgroupName;
  /** Ids of all containers on the path, innermost first. */
  readonly containerIds: readonly string[];
}

function interfaceAddresses(): string[] {
  try {
    return Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((entry) => entry.address));
  } catch {
    return []; // A seccomp profile without netlink: nothing of this host is then recognised, nothing else is lost.
  }
}

export class HostIdentity implements Identity {
  readonly workloads = new Workloads();
  readonly changes = new Changes();
  readonly node: Workload;
  readonly #external: RemoteIdentity;
  readonly #options: HostIdentityOptions;
  readonly #cgroup: CgroupMode;
  readonly #lookup: CgroupLookup | undefined;
  readonly #containers: ContainerNames;
  readonly #named: { readonly cidr: Cidr; readonly id: number; readonly name: string }[] = [];
  readonly #rangeTable = new PrefixTable<number>();
  readonly #rangeById = new Map<number, RemoteIdentity>();
  readonly #locals = new WeakMap<OwnerInfo, Workload>();
  #addresses = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  readonly #unresolved = { local: 0, remote: 0, backend: 0 };

  /** @throws InvalidRangeError when a range is malformed */
  constructor(options: HostIdentityOptions = {}) {
    this.#options = options;
    this.#cgroup =
      options.cgroup ?? detectCgroupMode(options.proc === undefined ? {} : { proc: options.proc });
    const { mountpoint } = this.#cgroup;
    this.#lookup = mountpoint === undefined ? undefined : new CgroupLookup({ mountpoint });
    this.#containers = new ContainerNames(options.root ?? '/');
    this.node = this.workloads.of(options.nodeName ?? hostname(), 'Node');
    this.#external = Object.freeze({ workload: this.workloads.of('external', 'External') });
    this.#addRanges(options.ranges ?? []);
    this.refreshAddresses();
  }

  #addRanges(ranges: readonly NamedRange[]): void {
    const ids = new Map<string, number>();
    for (const { name, cidr: text } of ranges) {
      const cidr = parseCidr(text);
      if (cidr === undefined)
        throw new InvalidRangeError(
          `range ${JSON.stringify(name)}: ${JSON.stringify(text)} is not a CIDR such as 10.0.0.0/8 or 2001:db8::/32`,
        );
      const id = ids.get(name) ?? ids.size + 1;
      ids.set(name, id);
      this.#named.push({ cidr, id, name });
      this.#rangeTable.set(cidr, id);
      this.#rangeById.set(id, Object.freeze({ workload: this.workloads.of(name, 'CIDR') }));
    }
  }

  get revision(): number {
    return this.changes.revision;
  }

  /** Which hierarchy the kernel side has to read. */
  get cgroupMode(): CgroupMode {
    return this.#cgroup;
  }

  onChange(listener: (change: IdentityChange) => void): () => void {
    return this.changes.subscribe(listener);
  }

  /** Names an owner's cgroup: from the captured names, else from the living process, else by the cgroup's id. */
  localEnd(owner: OwnerInfo): LocalEnd {
    let components = kernelComponents(owner.path);
    let cgroup = nameCgroup(components);
    const nothing = components.length === 0 && owner.cgroupId !== 0 && owner.cgroupId !== 0n;
    // What lies above may say that this is a user session or a nested container; below a pod all is known.
    const upperPartLost = components.length === KERNEL_NAMES && !('podUid' in cgroup);
    if (cgroup.kind === 'cut' || nothing || upperPartLost) {
      const full = this.#fullPath(owner, components, !upperPartLost || cgroup.kind === 'cut');
      if (full !== undefined) {
        components = full;
        cgroup = nameCgroup(components);
      }
    }
    return { cgroup, containerIds: containerIds(components) };
  }

  /** The whole path where it ends in what was captured: the process may have moved, its id may be another's by now. */
  #fullPath(owner: OwnerInfo, captured: readonly string[], walk: boolean): string[] | undefined {
    const hierarchy = this.#cgroup.mode === 'v2' ? 'v2' : (this.#cgroup.controller ?? '');
    const fits = (path: string | undefined): string[] | undefined => {
      if (path === undefined) return undefined;
      const components = splitCgroupPath(path);
      const tail = components.slice(components.length - captured.length);
      return captured.every((name, index) => tail[index]?.startsWith(name)) ? components : undefined;
    };
    let live: string | undefined;
    try {
      const file = join(this.#options.proc ?? '/proc', String(owner.pid), 'cgroup');
      live = parseProcCgroup(readFileSync(file, 'utf8')).get(hierarchy);
    } catch {
      // Gone already.
    }
    if (!walk) return fits(live);
    // Without captured names nothing ties the living process' path to the owner, so the id goes first.
    const byId = (): string[] | undefined => fits(this.#lookup?.path(owner.cgroupId));
    return captured.length > 0 ? (fits(live) ?? byId()) : (byId() ?? fits(live));
  }

  cgroupNamesWorkload(owner: OwnerInfo): boolean {
    return namesWorkload(this.localEnd(owner).cgroup);
  }

  local(owner: OwnerInfo): Workload {
    const known = this.#locals.get(owner);
    if (known !== undefined) return known;
    const workload = this.nameLocal(owner, this.localEnd(owner).cgroup);
    this.#locals.set(owner, workload);
    return workload;
  }

  /** The name of a local end outside Kubernetes. */
  nameLocal(owner: OwnerInfo, cgroup: CgroupName): Workload {
    if ((owner.flags & (OWNER_FLAGS.kernelThread | OWNER_FLAGS.self)) === 0) {
      if (cgroup.kind === 'container') return this.workloads.of(this.#containers.name(cgroup), 'Container');
      if (cgroup.kind === 'unit') return this.workloads.of(cgroup.unit, 'Unit');
    }
    return this.workloads.of(processName(owner), 'Process');
  }

  remote(address: RemoteAddress): RemoteIdentity {
    if (address.peer !== undefined) return { workload: this.local(address.peer) };
    switch (address.scope) {
      case 'external':
        return this.#external;
      case 'range':
        return this.#rangeById.get(address.range ?? 0) ?? this.unknown();
      case 'loopback':
        return this.loopback(address);
      case 'local':
        return this.#listener(address) ?? { workload: this.node };
      case 'exact':
        return this.#exact(address);
    }
  }

  /** Loopback of a container is the container; of the host, who listens there or the host. */
  loopback(address: RemoteAddress): RemoteIdentity {
    if (address.owner !== undefined) {
      const workload = this.local(address.owner);
      if (workload.kind === 'Container') return { workload };
    }
    return this.#listener(address) ?? { workload: this.node };
  }

  #listener({ port }: RemoteAddress): RemoteIdentity | undefined {
    const owner = port ? this.#options.listener?.(port) : undefined;
    return owner === undefined ? undefined : { workload: this.local(owner) };
  }

  #exact(address: RemoteAddress): RemoteIdentity {
    const text = address.address === undefined ? undefined : canonicalAddress(address.address);
    if (text === undefined) return this.unknown();
    if (isLoopback(text)) return this.loopback(address);
    if (this.#addresses.has(text)) return this.#listener(address) ?? { workload: this.node };
    return this.namedRange(text) ?? this.#external;
  }

  /** The named range that an address falls into. */
  namedRange(canonical: string): RemoteIdentity | undefined {
    const bytes = parseAddress(canonical);
    const id = bytes === undefined ? undefined : this.#rangeTable.lookup(bytes);
    return id === undefined ? undefined : this.#rangeById.get(id);
  }

  /** True for an address of this host (canonical text). */
  isOwn(canonical: string): boolean {
    return this.#addresses.has(canonical);
  }

  /** The answer for an end that ought to have a name and has none (yet); counted. */
  unknown(end: 'local' | 'remote' = 'remote'): RemoteIdentity {
    this.#unresolved[end]++;
    return { workload: this.workloads.of('unknown', 'Unknown') };
  }

  /** Counts an answer that names a Service as a whole, because nothing says which of its pods answers. */
  countBackend(): void {
    this.#unresolved.backend++;
  }

  ranges(): readonly IdentityRange[] {
    // Later entries overwrite earlier ones of the same prefix, as in the trie.
    const ranges = new Map<string, IdentityRange>();
    for (const { cidr, id, name } of this.#named)
      ranges.set(cidr.text, { cidr: cidr.text, kind: 'range', id, name });
    for (const address of this.#addresses) {
      const cidr = parseCidr(address) as Cidr;
      ranges.set(cidr.text, { cidr: cidr.text, kind: 'exact', id: 0 });
    }
    return [...ranges.values()];
  }

  /** Reads the host's own addresses again; a change is announced. Also done every 10 s after {@link start}. */
  refreshAddresses(): void {
    const fresh = new Set<string>();
    for (const address of (this.#options.addresses ?? interfaceAddresses)()) {
      const text = canonicalAddress(address);
      if (text !== undefined && !isLoopback(text)) fresh.add(text);
    }
    if (fresh.size === this.#addresses.size && [...fresh].every((text) => this.#addresses.has(text))) return;
    this.#addresses = fresh;
    this.changes.bump(true);
  }

  stats(): IdentityStats {
    return {
      unknown: this.#unresolved.local + this.#unresolved.remote,
      unresolved: { ...this.#unresolved },
      known: {
        addresses: this.#addresses.size,
        ranges: this.#named.length,
        cgroups: this.#lookup?.size ?? 0,
      },
      counters: { cgroup_walks: this.#lookup?.walks ?? 0 },
      resources: {},
      problems: [],
    };
  }

  async start(): Promise<void> {
    this.#timer ??= setInterval(() => this.refreshAddresses(), ADDRESSES_INTERVAL_MILLIS).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/**
 * Identity of this host without Kubernetes.
 * @throws when a range of the configuration is malformed; the message says which.
 */
export function createHostIdentity(
  options: HostIdentityOptions = {},
): Identity & { readonly cgroupMode: CgroupMode } {
  return new HostIdentity({ ...options, ...(options.nodeName && { nodeName: sanitise(options.nodeName) }) });
}
