// The kernel's edge table as userspace sees it: who talks to whom, what each edge has counted, who the owners
// are, what was lost. Reads and prunes the shared maps of bpf/core/edge.h; gives no names. Used by every probe.
import type { StructLayout } from './btf.ts';
import {
  type EdgeRole,
  type EdgeScope,
  type EdgeTableLayouts,
  type EdgeTransport,
  numberOf,
} from './edge_layouts.ts';
import type { BpfMap } from './native.ts';

export type { EdgeRole, EdgeScope, EdgeTransport };

/** One edge: the two ends of its connections, as numbers. */
export interface EdgeKey {
  readonly id: number;
  readonly role: EdgeRole;
  readonly scope: EdgeScope;
  readonly transport: EdgeTransport;
  readonly family: 4 | 6;
  readonly owner: number;
  /** Owner of the other end where it is on this host, else 0. */
  readonly peer: number;
  /** Id of the named range for scope `range`, else 0. */
  readonly range: number;
  readonly localPort: number;
  readonly remotePort: number;
  /** 16 bytes, IPv4 as v4-mapped; zero unless the scope is `exact`. */
  readonly address: Uint8Array;
  /** What answers where something else was dialled and `peer` is not known; `reachedPort` is 0 where there is none. */
  readonly reached: Uint8Array;
  readonly reachedPort: number;
  /** The edge that everything folds into once the table is full. */
  readonly other: boolean;
}

/** The local end of edges: `struct owner_info`. */
export interface Owner {
  readonly id: number;
  readonly pid: number;
  readonly cgroupId: bigint;
  readonly flags: number;
  readonly comm: Uint8Array;
  readonly exe: Uint8Array;
  /** Directory names of its cgroup, leaf first. */
  readonly path: readonly Uint8Array[];
}

/** One pass over `edges`: `count` records of `stride` bytes in `values`, laid out as `layout` says. */
export interface EdgeBatch {
  readonly count: number;
  readonly ids: Uint32Array;
  readonly values: Buffer;
  readonly stride: number;
}

export interface EdgeTableMaps {
  readonly edges: BpfMap;
  readonly edge_ids: BpfMap;
  readonly owners: BpfMap;
  readonly owner_ids: BpfMap;
  readonly named_cgroups: BpfMap;
  readonly pairs: BpfMap;
  readonly acceptors: BpfMap;
  readonly ranges: BpfMap;
  readonly edge_state: BpfMap;
}

/** A prefix for the kernel's trie. */
export interface RangeEntry {
  /** 16 bytes, v4-mapped, host bits zero. */
  readonly address: Uint8Array;
  /** 0 to 128; an IPv4 prefix counts 96 more. */
  readonly bits: number;
  readonly kind: 'exact' | 'range';
  readonly id: number;
}

/** What walks have seen since start. */
export interface WalkState {
  readonly walkedSockets: number;
  readonly unconfirmed: number;
  /** Connections in accept queues when the agent started: no process held them. */
  readonly queuedBefore: number;
  /** In the queues of the same listeners, at the last walk. */
  readonly queuedNow: number;
  /** Accepted sockets from before the agent that were found with the process that holds them. */
  readonly oldFound: number;
}

const HERTZ = [100, 250, 300, 1000] as const;

/** Everything of the edge table that is not naming. One per agent; owns no handle (the loader closes the maps). */
export class EdgeTable {
  readonly #maps: EdgeTableMaps;
  readonly #layouts: EdgeTableLayouts;
  readonly #owners = new Map<number, Owner>();
  readonly #ranges = new Map<string, RangeEntry>();
  #clock: { jiffies: bigint; nanos: bigint } | undefined;
  #hertz: number | undefined;

  constructor(maps: EdgeTableMaps, layouts: EdgeTableLayouts) {
    this.#maps = maps;
    this.#layouts = layouts;
  }

  /** Layout of `struct edge`, for readers of {@link EdgeBatch}. */
  get layout(): StructLayout {
    return this.#layouts.edge;
  }

  /** Entries the table holds at most. */
  get capacity(): number {
    return this.#maps.edges.maxEntries;
  }

  /** The owner that stands for the host itself. */
  get nodeOwner(): number {
    return this.#layouts.ids.node;
  }

  /** The owner that the rest folds into once the owner table is full. */
  get otherOwner(): number {
    return this.#layouts.ids.other;
  }

  /** Makes the edges that take the overflow, one per role, numbered like it. Once, before anything is attached. */
  initialise(): void {
    const { edge, ids, roles, scopes, transports } = this.#layouts;
    for (const role of [...roles.keys()].filter((number) => number > 0)) {
      const value = Buffer.alloc(edge.size);
      value.writeUInt32LE(ids.other, edge.offset('key.owner'));
      value.writeUInt8(role, edge.offset('key.role'));
      value.writeUInt8(numberOf(scopes, 'external'), edge.offset('key.scope'));
      value.writeUInt8(numberOf(transports, 'tcp'), edge.offset('key.transport'));
      value.writeUInt8(4, edge.offset('key.family'));
      this.#maps.edges.update(u32(role), value);
    }
  }

  /** All edges with their totals, in no order. */
  read(): EdgeBatch {
    const { count, keys, values } = this.#maps.edges.readAll();
    const ids = new Uint32Array(count);
    for (let i = 0; i < count; i++) ids[i] = keys.readUInt32LE(i * 4);
    return { count, ids, values, stride: this.#layouts.edge.size };
  }

  /** The key of the edge at byte `at` of a batch. */
  key(id: number, values: Buffer, at: number): EdgeKey {
    const { edge, ids, roles, scopes, transports } = this.#layouts;
    const role = roles.get(values.readUInt8(at + edge.offset('key.role')));
    const scope = scopes.get(values.readUInt8(at + edge.offset('key.scope')));
    const transport = transports.get(values.readUInt8(at + edge.offset('key.transport')));
    if (role === undefined || scope === undefined || transport === undefined)
      throw new Error(`edge ${id} has no role, scope or transport that is known`);
    const address = at + edge.offset('key.address');
    const reached = at + edge.offset('key.reached');
    return {
      id,
      role,
      scope,
      transport,
      family: values[at + edge.offset('key.family')] === 6 ? 6 : 4,
      owner: values.readUInt32LE(at + edge.offset('key.owner')),
      peer: values.readUInt32LE(at + edge.offset('key.peer')),
      range: values.readUInt32LE(at + edge.offset('key.range')),
      localPort: values.readUInt16LE(at + edge.offset('key.local_port')),
      remotePort: values.readUInt16LE(at + edge.offset('key.remote_port')),
      address: Uint8Array.from(values.subarray(address, address + 16)),
      reached: Uint8Array.from(values.subarray(reached, reached + 16)),
      reachedPort: values.readUInt16LE(at + edge.offset('key.reached_port')),
      other: id < ids.first,
    };
  }

  /** Who owner `id` is; undefined for the node itself, for `other`, and while the kernel is still writing. */
  owner(id: number): Owner | undefined {
    const known = this.#owners.get(id);
    if (known !== undefined || id < this.#layouts.ids.first) return known;
    const value = this.#maps.owners.lookup(u32(id));
    if (value === undefined) return undefined;
    const owner = this.#decodeOwner(value);
    if (owner.id !== id) return undefined;
    this.#owners.set(id, owner);
    return owner;
  }

  #decodeOwner(value: Buffer): Owner {
    const layout = this.#layouts.owner_info;
    const textAt = (at: number, size: number) => {
      const bytes = value.subarray(at, at + size);
      const end = bytes.indexOf(0);
      return Uint8Array.from(end < 0 ? bytes : bytes.subarray(0, end));
    };
    const text = (path: string) => textAt(layout.offset(path), layout.field(path).size);
    const path = layout.field('path');
    const levelSize = path.size / path.type.length;
    const levels: Uint8Array[] = [];
    for (let level = 0; level < path.type.length; level++) {
      const name = textAt(path.offset + level * levelSize, levelSize);
      if (name.length === 0) break;
      levels.push(name);
    }
    return {
      id: value.readUInt32LE(layout.offset('id')),
      pid: value.readUInt32LE(layout.offset('pid')),
      cgroupId: value.readBigUInt64LE(layout.offset('key.cgroup_id')),
      flags: value.readUInt32LE(layout.offset('flags')),
      comm: text('comm'),
      exe: text('exe'),
      path: levels,
    };
  }

  /** Who serves what `listener` listens for on `port`, where that is another process (socket activation). */
  acceptor(listener: number, port: number): number | undefined {
    const { acceptor_key: layout } = this.#layouts;
    const key = Buffer.alloc(layout.size);
    key.writeUInt32LE(listener, layout.offset('listener_owner'));
    key.writeUInt32LE(port, layout.offset('port'));
    return this.#maps.acceptors.lookup(key)?.readUInt32LE(0);
  }

  /** Tells the kernel that a cgroup names its workload, so process names need not tell owners apart there. */
  nameCgroup(cgroupId: bigint): void {
    const key = Buffer.alloc(8);
    key.writeBigUInt64LE(cgroupId);
    this.#maps.named_cgroups.update(key, u32(1));
  }

  /** Makes the kernel's ranges equal to `entries`: adds, changes and removes. */
  setRanges(entries: readonly RangeEntry[]): void {
    const { range, range_key, rangeKinds } = this.#layouts;
    const wanted = new Map(entries.map((entry) => [rangeKey(range_key, entry).toString('hex'), entry]));
    for (const [hex, entry] of wanted) {
      const before = this.#ranges.get(hex);
      if (before !== undefined && before.kind === entry.kind && before.id === entry.id) continue;
      const value = Buffer.alloc(range.size);
      value.writeUInt32LE(rangeKinds[entry.kind], range.offset('kind'));
      value.writeUInt32LE(entry.id, range.offset('id'));
      this.#maps.ranges.update(Buffer.from(hex, 'hex'), value);
      this.#ranges.set(hex, entry);
    }
    for (const hex of [...this.#ranges.keys()].filter((key) => !wanted.has(key))) {
      this.#maps.ranges.delete(Buffer.from(hex, 'hex'));
      this.#ranges.delete(hex);
    }
  }

  /** What the kernel lost since start, by stage. */
  lost(): Record<string, number> {
    const { edge_state: layout, lostStages } = this.#layouts;
    const state = this.#state();
    const at = layout.offset('lost');
    return Object.fromEntries(
      lostStages.map((stage, i) => [stage, Number(state.readBigUInt64LE(at + i * 8))]),
    );
  }

  /** After a walk: what it saw, as counts since start. */
  walked(): WalkState {
    const { edge_state: layout } = this.#layouts;
    const state = this.#state();
    this.#learnHertz(
      state.readBigUInt64LE(layout.offset('jiffies')),
      state.readBigUInt64LE(layout.offset('now_ns')),
    );
    return {
      walkedSockets: Number(state.readBigUInt64LE(layout.offset('walked_sockets'))),
      unconfirmed: Number(state.readBigUInt64LE(layout.offset('unconfirmed'))),
      queuedBefore: Number(state.readBigUInt64LE(layout.offset('queued_before'))),
      queuedNow: Number(state.readBigUInt64LE(layout.offset('queued_now'))),
      oldFound: Number(state.readBigUInt64LE(layout.offset('old_found'))),
    };
  }

  /**
   * Jiffies per second, measured: two readings of both clocks at least 100 ms apart tell CONFIG_HZ's four
   * values apart. Undefined until then.
   */
  get hertz(): number | undefined {
    return this.#hertz;
  }

  #learnHertz(jiffies: bigint, nanos: bigint): void {
    if (this.#hertz !== undefined || jiffies === 0n) return;
    if (this.#clock === undefined) {
      this.#clock = { jiffies, nanos };
      return;
    }
    const seconds = Number(nanos - this.#clock.nanos) / 1e9;
    if (seconds < 0.1) return;
    const measured = Number(jiffies - this.#clock.jiffies) / seconds;
    this.#hertz = HERTZ.reduce((best, hz) =>
      Math.abs(hz - measured) < Math.abs(best - measured) ? hz : best,
    );
  }

  /**
   * First step of removing an edge: new sockets make a new one. The second, {@link take}, comes at least one
   * collection later, when no program can still be at work with the old number.
   */
  unlink(values: Buffer, at: number): void {
    const { edge, edge_key: key } = this.#layouts;
    const start = at + edge.offset('key');
    this.#maps.edge_ids.delete(values.subarray(start, start + key.size));
  }

  /** Second step: takes the edge out, with the totals it ended with. */
  take(id: number): Buffer | undefined {
    return this.#maps.edges.lookupAndDelete(u32(id));
  }

  /** First step of removing an owner: an owner that comes now with the same name is a new one. */
  unlinkOwner(id: number): void {
    const value = this.#maps.owners.lookup(u32(id));
    if (value === undefined) return;
    const { owner_info: layout, owner_key: key } = this.#layouts;
    const start = layout.offset('key');
    this.#maps.owner_ids.delete(value.subarray(start, start + key.size));
  }

  /** Second step. */
  removeOwner(id: number): void {
    this.#owners.delete(id);
    this.#maps.owners.delete(u32(id));
  }

  #state(): Buffer {
    const state = this.#maps.edge_state.lookup(u32(0));
    if (state === undefined) throw new Error('the map edge_state is empty');
    return state;
  }
}

function rangeKey(layout: StructLayout, entry: RangeEntry): Buffer {
  const key = Buffer.alloc(layout.size);
  key.writeUInt32LE(entry.bits, layout.offset('prefix_bits'));
  key.set(entry.address, layout.offset('address'));
  return key;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
