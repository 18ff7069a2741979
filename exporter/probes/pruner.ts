// Keeps the kernel's edge and owner tables small: what has long been idle is removed, in two steps that no program
// can fall between. Used by core.ts.
import type { EdgeBatch, EdgeTable } from '../kernel/edge_table.ts';
import type { EdgeDirectory } from './edges.ts';

/** How long nothing may happen on an edge, and no socket hold it, before it goes; the same again for an owner. */
const IDLE_MILLIS = 300_000;

/** An edge that has left the table, and the record it left with. */
export interface Pruned {
  readonly id: number;
  readonly last: Buffer | undefined;
}

export class EdgePruner {
  readonly #table: EdgeTable;
  readonly #directory: EdgeDirectory;
  readonly #active = new Map<number, number>();
  readonly #unlinked = new Set<number>();
  readonly #idleOwners = new Map<number, number>();
  readonly #idleMillis: number;

  constructor(table: EdgeTable, directory: EdgeDirectory, idleMillis = IDLE_MILLIS) {
    this.#table = table;
    this.#directory = directory;
    this.#idleMillis = idleMillis;
  }

  /** Something was counted on the edge. */
  active(id: number, nowMillis: number): void {
    this.#active.set(id, nowMillis);
  }

  /**
   * Removes what is idle. The first step takes the edge's key away, so that new sockets make a new edge; the second,
   * at a later call, takes the edge itself, if still no socket holds its number.
   */
  prune(batch: EdgeBatch, nowMillis: number): Pruned[] {
    const held = this.#table.layout.offset('sockets');
    const pruned: Pruned[] = [];
    for (let i = 0; i < batch.count; i++) {
      const id = batch.ids[i] ?? 0;
      if (this.#directory.key(id)?.other !== false) continue;
      const since = this.#active.get(id) ?? nowMillis;
      if (!this.#active.has(id)) this.#active.set(id, nowMillis);
      const at = i * batch.stride;
      if (nowMillis - since < this.#idleMillis || batch.values.readBigInt64LE(at + held) !== 0n) continue;
      if (!this.#unlinked.has(id)) {
        this.#table.unlink(batch.values, at);
        this.#unlinked.add(id);
        continue;
      }
      pruned.push({ id, last: this.#table.take(id) });
      this.#active.delete(id);
      this.#unlinked.delete(id);
    }
    this.#pruneOwners(nowMillis);
    return pruned;
  }

  /** A socket may hold an owner's number before it has an edge, so an unused owner stays for a while, unreachable. */
  #pruneOwners(nowMillis: number): void {
    const used = this.#directory.usedOwners();
    for (const id of this.#directory.knownOwners()) {
      if (used.has(id)) {
        this.#idleOwners.delete(id);
        continue;
      }
      const since = this.#idleOwners.get(id);
      if (since === undefined) {
        this.#table.unlinkOwner(id);
        this.#idleOwners.set(id, nowMillis);
      } else if (nowMillis - since >= this.#idleMillis) {
        this.#table.removeOwner(id);
        this.#directory.forgetOwner(id);
        this.#idleOwners.delete(id);
      }
    }
  }
}
