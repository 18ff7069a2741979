// Names for edges: joins the kernel's edge table with identity, so that every probe labels an edge alike. Owns no
// counts. Used by the probes' sources; refreshed once per collection, before them.
import type { Detail } from '../config/schema.ts';
import type { Identity, OwnerInfo, RemoteIdentity, Workload } from '../identity/types.ts';
import type { EdgeBatch, EdgeKey, EdgeTable, EdgeTransport, Owner } from '../kernel/edge_table.ts';

/** The attributes that every metric about a pair carries (`EDGE` of the catalogue). */
export interface EdgeAttributes {
  readonly reporter: 'client' | 'server';
  readonly client_workload: string;
  readonly client_namespace: string;
  readonly client_kind: string;
  readonly server_workload: string;
  readonly server_namespace: string;
  readonly server_kind: string;
  readonly server_service: string | undefined;
  readonly server_port: string;
  readonly transport: EdgeTransport;
  readonly client_zone: string | undefined;
  readonly server_zone: string | undefined;
  readonly client_pod: string | undefined;
  readonly server_pod: string | undefined;
}

/** An edge with both ends named. Replaced, never changed, when a name changes. */
export interface NamedEdge {
  readonly key: EdgeKey;
  readonly client: Workload;
  readonly server: Workload;
  readonly service: string | undefined;
  readonly port: number;
}

export interface EdgeLabelOptions {
  readonly detail: Detail;
  readonly zones: boolean;
}

/** Edges that share `other` once the kernel's table is full. */
export const OTHER: Workload = Object.freeze({ name: 'other', namespace: 'other', kind: 'other' });

/** All edges of the last batch, named. */
export class EdgeDirectory {
  readonly #table: EdgeTable;
  readonly #identity: Identity;
  readonly #keys = new Map<number, EdgeKey>();
  #named = new Map<number, NamedEdge>();
  /** Names of before the last change of identity: most of them still hold. */
  #before = new Map<number, NamedEdge>();
  readonly #owners = new Map<number, OwnerInfo>();
  /** Ports of this host → owners that listen there. */
  readonly #listeners = new Map<number, Set<number>>();
  /** What was asked of the kernel since the last batch: a system call each, and thousands of edges share few owners. */
  readonly #namedOwners = new Set<number>();
  readonly #servers = new Map<number, Map<number, number>>();
  #revision = -1;

  constructor(table: EdgeTable, identity: Identity) {
    this.#table = table;
    this.#identity = identity;
  }

  /** Takes in the edges of a batch that are new. Call before asking for names. */
  learn(batch: EdgeBatch): void {
    this.#namedOwners.clear();
    this.#servers.clear();
    if (this.#identity.revision !== this.#revision) {
      this.#revision = this.#identity.revision;
      for (const [id, named] of this.#named) this.#before.set(id, named);
      this.#named = new Map();
    }
    for (let i = 0; i < batch.count; i++) {
      const id = batch.ids[i] ?? 0;
      if (this.#keys.has(id)) continue;
      const key = this.#table.key(id, batch.values, i * batch.stride);
      this.#keys.set(id, key);
      if (key.role === 'listener') this.#listenersOf(key.localPort).add(key.owner);
    }
  }

  /** An edge is gone. */
  forget(id: number): void {
    const key = this.#keys.get(id);
    this.#keys.delete(id);
    this.#named.delete(id);
    this.#before.delete(id);
    if (key?.role === 'listener') this.#listenersOf(key.localPort).delete(key.owner);
  }

  /** Owners that some edge still names. */
  usedOwners(): Set<number> {
    const used = new Set<number>();
    for (const key of this.#keys.values()) used.add(key.owner).add(key.peer);
    return used;
  }

  /** Owners that were ever asked for and not forgotten. */
  knownOwners(): readonly number[] {
    return [...this.#owners.keys()];
  }

  forgetOwner(id: number): void {
    this.#owners.delete(id);
  }

  /** Is it one that others were folded into, or not known at all? */
  isOther(id: number): boolean {
    const key = this.#keys.get(id);
    const { otherOwner } = this.#table;
    return key === undefined || key.other || key.owner === otherOwner || key.peer === otherOwner;
  }

  /** The key of a known edge. */
  key(id: number): EdgeKey | undefined {
    return this.#keys.get(id);
  }

  /**
   * Both ends of an edge. Undefined while the kernel is still writing down who its owner is; ask again at the
   * next collection. The object stays the same until a name changes.
   */
  name(id: number): NamedEdge | undefined {
    const known = this.#named.get(id);
    if (known !== undefined) return known;
    const key = this.#keys.get(id);
    const fresh = key && this.#resolve(key);
    if (fresh === undefined) return undefined;
    const before = this.#before.get(id);
    const named = before !== undefined && sameNames(before, fresh) ? before : fresh;
    this.#before.delete(id);
    this.#named.set(id, named);
    return named;
  }

  #resolve(key: EdgeKey): NamedEdge | undefined {
    const local = this.#local(key.role === 'listener' ? this.#server(key.owner, key.localPort) : key.owner);
    if (local === undefined) return undefined;
    if (key.role === 'listener')
      return { key, client: OTHER, server: local, service: undefined, port: key.localPort };
    const remote = this.#remote(key);
    if (remote === undefined) return undefined;
    return key.role === 'client'
      ? { key, client: local, server: remote.workload, service: remote.service, port: key.remotePort }
      : { key, client: remote.workload, server: local, service: undefined, port: key.localPort };
  }

  #local(owner: number): Workload | undefined {
    if (owner === this.#table.nodeOwner) return this.#identity.remote({ scope: 'local' }).workload;
    if (owner === this.#table.otherOwner) return OTHER;
    const info = this.ownerInfo(owner);
    if (info === undefined) return undefined;
    const workload = this.#identity.local(info);
    if (!this.#namedOwners.has(owner)) {
      this.#namedOwners.add(owner);
      if (this.#identity.cgroupNamesWorkload(info)) this.#table.nameCgroup(BigInt(info.cgroupId));
    }
    return workload;
  }

  #remote(key: EdgeKey): RemoteIdentity | undefined {
    if (key.other) return { workload: OTHER };
    const peerId =
      key.peer === 0 ? 0 : key.role === 'client' ? this.#server(key.peer, key.remotePort) : key.peer;
    if (peerId === this.#table.otherOwner) return { workload: OTHER };
    const peer = peerId === 0 ? undefined : this.ownerInfo(peerId);
    if (peerId !== 0 && peer === undefined) return undefined;
    const owner = this.ownerInfo(key.owner);
    const exact = key.scope === 'exact' ? { address: key.address } : {};
    const apart = key.role === 'client' && (peer !== undefined || key.reachedPort !== 0);
    const dialled =
      key.scope === 'exact' && apart ? { dialled: { address: key.address, port: key.remotePort } } : {};
    if (key.reachedPort !== 0)
      return this.#identity.remote({
        scope: 'exact',
        address: key.reached,
        port: key.reachedPort,
        ...dialled,
        ...(owner && { owner }),
      });
    return this.#identity.remote({
      scope: key.scope,
      ...exact,
      ...dialled,
      ...(key.role === 'client' ? { port: key.remotePort } : {}),
      ...(key.scope === 'range' ? { range: key.range } : {}),
      ...(peer && { peer }),
      ...(owner && { owner }),
    });
  }

  /** Who serves on a port for which `listener` listens: with socket activation that is another process. */
  #server(listener: number, port: number): number {
    let byPort = this.#servers.get(listener);
    if (byPort === undefined) {
      byPort = new Map();
      this.#servers.set(listener, byPort);
    }
    let server = byPort.get(port);
    if (server === undefined) {
      server = this.#table.acceptor(listener, port) ?? listener;
      byPort.set(port, server);
    }
    return server;
  }

  /** Who listens on a port of this host, where exactly one does; for {@link Identity}. */
  listener(port: number): OwnerInfo | undefined {
    const owners = this.#listeners.get(port);
    if (owners?.size !== 1) return undefined;
    const [owner] = owners;
    return owner === undefined ? undefined : this.ownerInfo(this.#server(owner, port));
  }

  #listenersOf(port: number): Set<number> {
    let owners = this.#listeners.get(port);
    if (owners === undefined) {
      owners = new Set();
      this.#listeners.set(port, owners);
    }
    return owners;
  }

  /** What the kernel noted of an owner; the same object every time. */
  ownerInfo(id: number): OwnerInfo | undefined {
    const known = this.#owners.get(id);
    if (known !== undefined) return known;
    const owner = this.#table.owner(id);
    if (owner === undefined) return undefined;
    const info = describe(owner);
    this.#owners.set(id, info);
    return info;
  }
}

/** Workloads are interned, so identity tells. */
function sameNames(a: NamedEdge, b: NamedEdge): boolean {
  return a.client === b.client && a.server === b.server && a.service === b.service;
}

function describe(owner: Owner): OwnerInfo {
  return {
    id: owner.id,
    pid: owner.pid,
    cgroupId: owner.cgroupId,
    comm: owner.comm,
    exe: owner.exe,
    flags: owner.flags,
    path: owner.path,
  };
}

/** The attributes of an edge at a level of detail. */
export function edgeAttributes(edge: NamedEdge, { detail, zones }: EdgeLabelOptions): EdgeAttributes {
  const { client, server } = edge;
  const pod = detail === 'pod';
  const name = (workload: Workload) =>
    detail === 'namespace' && workload.namespace !== '' ? '' : workload.name;
  return {
    reporter: edge.key.role === 'client' ? 'client' : 'server',
    client_workload: name(client),
    client_namespace: client.namespace,
    client_kind: detail === 'namespace' && client.namespace !== '' ? 'Namespace' : client.kind,
    server_workload: name(server),
    server_namespace: server.namespace,
    server_kind: detail === 'namespace' && server.namespace !== '' ? 'Namespace' : server.kind,
    server_service: detail === 'namespace' ? undefined : edge.service,
    server_port: String(edge.port),
    transport: edge.key.transport,
    client_zone: zones ? client.zone : undefined,
    server_zone: zones ? server.zone : undefined,
    client_pod: pod ? client.pod : undefined,
    server_pod: pod ? server.pod : undefined,
  };
}

/** The part of an edge's attributes that a listening socket has. */
export function listenerAttributes(edge: EdgeAttributes) {
  return {
    server_workload: edge.server_workload,
    server_namespace: edge.server_namespace,
    server_kind: edge.server_kind,
    server_port: edge.server_port,
    transport: edge.transport,
    server_zone: edge.server_zone,
    server_pod: edge.server_pod,
  };
}
