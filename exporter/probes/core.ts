// What every probe shares, running: the core object with names. Its source is read first in every collection: it walks the
// sockets, reads the edges, gives them names, and lets go of those that are idle. The agent starts it before any probe.
import type { Config } from '../config/schema.ts';
import { parseCidr } from '../identity/address.ts';
import type { CgroupMode, Identity, OwnerInfo } from '../identity/types.ts';
import { type KernelCore, loadCore } from '../kernel/core.ts';
import type { EdgeBatch, EdgeTable, RangeEntry } from '../kernel/edge_table.ts';
import type { BpfLoader, LoadedProbe } from '../kernel/loader.ts';
import type { VariableValue } from '../kernel/object.ts';
import { runPaced } from '../telemetry/pacing.ts';
import { EdgeDirectory } from './edges.ts';
import type { RunningProbe } from './probe.ts';
import { EdgePruner } from './pruner.ts';

/** What the core does only where a probe needs it. `tcp_totals`: TCP's counts by edge, and resets. */
export type CoreFeature = 'tcp_totals';

export interface RunningCoreOptions {
  readonly loader: BpfLoader;
  readonly config: Pick<Config, 'limits'> & { readonly identity: Pick<Config['identity'], 'include_self'> };
  readonly identity: Identity & { readonly cgroupMode: CgroupMode };
  /** What probes have asked for. */
  readonly features: ReadonlySet<CoreFeature>;
  /** Process whose traffic is left out; default this one. */
  readonly self?: number;
}

/**
 * Open connections at the observed ends, those included that the kernel has and that were not found yet, and how many of all
 * these have an edge of their own.
 */
export interface Coverage {
  readonly connections: number;
  readonly named: number;
}

/** What a probe may hang on the core's collection. */
export interface CoreListener {
  /** Before the sockets are walked: what the walk counts anew is cleared here. */
  beforeWalk?(): void;
  /** An edge has left the table, with the record it ended with; it still has its names. */
  edgeRemoved?(id: number, last: Buffer | undefined): void;
}

/** It is read, shown and closed as a probe is. */
export interface RunningCore extends RunningProbe {
  readonly loaded: LoadedProbe;
  readonly table: EdgeTable;
  readonly directory: EdgeDirectory;
  readonly source: CoreSource;
  /** What the kernel side was told of owners; every object that includes owner.h wants the same. */
  readonly ownerRodata: Readonly<Record<string, VariableValue>>;
  /** Who listens on a port of this host, where exactly one process does. */
  listener(port: number): OwnerInfo | undefined;
  /** As last read. */
  coverage(): Coverage;
  /** Detaches everything. Idempotent. */
  close(): void;
}

/** Accepted sockets whose reader was not observed are looked for among the descriptors at most this often. */
const FIND_INTERVAL_MILLIS = 30_000;

/** About 0.1 ms of work. */
const EDGES_PER_STEP = 256;

/** Reads a 64-bit count; exact up to 2^53. */
function readCount(values: Buffer, at: number): number {
  return values.readUInt32LE(at) + values.readInt32LE(at + 4) * 0x1_0000_0000;
}

export class CoreSource {
  readonly name = 'edges';
  readonly #core: KernelCore;
  readonly #directory: EdgeDirectory;
  readonly #pruner: EdgePruner;
  readonly #listeners = new Set<CoreListener>();
  /** Connections opened by edge, as last read. */
  readonly #opened = new Map<number, number>();
  #batch: EdgeBatch | undefined;
  #coverage: Coverage = { connections: 0, named: 0 };
  #unconfirmed = 0;
  readonly #foundAtStart: number;
  /** Connections that waited in accept queues when the agent started and were not found since. */
  #unfound = Number.POSITIVE_INFINITY;
  #foundMillis = Number.NEGATIVE_INFINITY;
  #nowMillis = 0;

  constructor(core: KernelCore, directory: EdgeDirectory) {
    this.#core = core;
    this.#directory = directory;
    this.#pruner = new EdgePruner(core.table, directory);
    this.#foundAtStart = core.table.walked().oldFound;
  }

  /** Hangs a probe on the collections; what it answers takes it off. */
  listen(listener: CoreListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The edges as this collection has read them. Throws where that failed, so that no probe goes on with old ones. */
  get batch(): EdgeBatch {
    if (this.#batch === undefined) throw new Error('the edges could not be read');
    return this.#batch;
  }

  get coverage(): Coverage {
    return this.#coverage;
  }

  /** A probe has counted something on an edge: it is not idle. */
  active(id: number): void {
    this.#pruner.active(id, this.#nowMillis);
  }

  /** `nowMillis`: any clock that only goes forward. */
  collect(nowMillis: number): Promise<void> {
    return runPaced(this.steps(nowMillis));
  }

  /** `collect` in steps of well under a millisecond, but for the walk and the reading of the table. */
  *steps(nowMillis: number): Generator<void, void, void> {
    const { table } = this.#core;
    this.#batch = undefined;
    this.#nowMillis = nowMillis;
    for (const listener of this.#listeners) listener.beforeWalk?.();
    this.#walk(nowMillis);
    yield;
    const batch = table.read();
    yield;
    this.#directory.learn(batch);
    yield;
    yield* this.#look(batch, nowMillis);
    for (const { id, last } of this.#pruner.prune(batch, nowMillis)) {
      for (const listener of this.#listeners) listener.edgeRemoved?.(id, last);
      this.#opened.delete(id);
      this.#directory.forget(id);
    }
    this.#batch = batch;
  }

  #walk(nowMillis: number): void {
    const { table } = this.#core;
    this.#core.walk();
    const { unconfirmed, queuedNow } = table.walked();
    const waiting = this.#lookForQueued(queuedNow) > 0 || unconfirmed > this.#unconfirmed;
    this.#unconfirmed = unconfirmed;
    // A queue that is shorter than what has to come out of it: some came out.
    const accepted = queuedNow < this.#unfound;
    if (accepted || (waiting && nowMillis - this.#foundMillis >= FIND_INTERVAL_MILLIS)) {
      this.#foundMillis = nowMillis;
      this.#core.findOwners();
      this.#lookForQueued(queuedNow);
      this.#unfound = Math.min(this.#unfound, queuedNow); // the rest is closed
    }
  }

  /** How many of the connections that waited in accept queues at the start are still to be found. */
  #lookForQueued(queuedNow: number): number {
    const { queuedBefore, oldFound } = this.#core.table.walked();
    this.#unfound = Math.min(this.#unfound, Math.max(0, queuedBefore - (oldFound - this.#foundAtStart)));
    if (this.#core.walkFinds) this.#unfound = Math.min(this.#unfound, queuedNow);
    return this.#unfound;
  }

  /** Which edges are in use, and how many connections have one of their own. */
  *#look({ count, ids, values, stride }: EdgeBatch, nowMillis: number): Generator<void, void, void> {
    const { layout } = this.#core.table;
    const opened = layout.offset('opened');
    const open = layout.offset('open');
    const sockets = layout.offset('sockets');
    let connections = 0;
    let others = 0;
    for (let i = 0; i < count; i++) {
      const [id, at] = [ids[i] ?? 0, i * stride];
      const now = readCount(values, at + opened);
      if (readCount(values, at + sockets) !== 0 || this.#opened.get(id) !== now)
        this.#pruner.active(id, nowMillis);
      this.#opened.set(id, now);
      const held = readCount(values, at + open);
      connections += held;
      if (this.#directory.isOther(id)) others += held;
      if (i % EDGES_PER_STEP === EDGES_PER_STEP - 1) yield;
    }
    this.#coverage = { connections: connections + this.#unfound, named: connections - others };
  }
}

/** What is asked of the kernel's tables that fill up, by stage of loss. */
const FULL: readonly (readonly [stage: string, problem: string])[] = [
  ['edge_table_full', 'the edge table is full: raise limits.edges, or the rest stays under `other`'],
  ['owner_table_full', 'the owner table is full: raise limits.owners, or the rest stays under `other`'],
];

function ranges(identity: Identity): RangeEntry[] {
  return identity.ranges().flatMap(({ cidr, kind, id }) => {
    const parsed = parseCidr(cidr);
    return parsed === undefined ? [] : [{ address: parsed.bytes, bits: parsed.prefix, kind, id }];
  });
}

/**
 * Loads and attaches the core; connections are known from here on.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function startCore(options: RunningCoreOptions): RunningCore {
  const { loader, config, identity, features, self = process.pid } = options;
  const core = loadCore({
    loader,
    limits: config.limits,
    self,
    includeSelf: config.identity.include_self,
    cgroups: identity.cgroupMode,
    ranges: ranges(identity),
    tcpTotals: features.has('tcp_totals'),
  });
  const { loaded, table, ownerRodata } = core;
  const directory = new EdgeDirectory(table, identity);
  const source = new CoreSource(core, directory);
  const unsubscribe = identity.onChange(
    ({ ranges: changed }) => changed && table.setRanges(ranges(identity)),
  );
  const close = () => {
    unsubscribe();
    core.close();
  };
  return {
    loaded,
    table,
    directory,
    source,
    ownerRodata,
    listener: (port) => directory.listener(port),
    coverage: () => source.coverage,
    sources: [source],
    objects: [loaded],
    problems: () => FULL.filter(([stage]) => (table.lost()[stage] ?? 0) > 0).map(([, problem]) => problem),
    lost: () => table.lost(),
    close,
  };
}
