// A set of links that come and go while the agent runs: a scanner says which targets there are (files that processes
// map, interfaces, cgroups), and the set keeps its links where they are, within bounds. Used by probes whose programs sit
// on something that is not there when the agent starts; scanners lie beside this file.
import { setImmediate as turn } from 'node:timers/promises';

/** One attachment, as BpfLink is. */
export interface AttachedLink {
  /** Detaches without holding the event loop. */
  closeLater(): Promise<void>;
  /** False where the kernel has detached it on its own: the interface went away. */
  attached?(): boolean;
}

/** A place that programs are attached to. */
export interface Target {
  /** Names the place for as long as something is attached to it: never a path, nor a number that is given again. */
  readonly key: string;
  /** For people. */
  readonly description: string;
  /** How many links `attach` makes at most. */
  readonly links: number;
  /**
   * Makes the links one by one; all of them, or it throws, and then those made are closed again. Called at most once,
   * while the scan that gave the target waits.
   * @throws TargetGone where the target is no more, which is no failure
   */
  attach(): Iterable<AttachedLink>;
}

/** What `Target.attach` throws where the target vanished since it was found, or is not what was found. */
export class TargetGone extends Error {
  override readonly name = 'TargetGone';
}

/**
 * Finds the targets there are: each at least once, in turns that do not hold the event loop.
 * @returns whether this scan has, with those before it since the last that returned true, gone through everything. What
 * two such rounds did not find is no more. What a scan could not look at (it throws) is not taken for gone.
 */
export type Scan = () => AsyncGenerator<Target, boolean>;

export interface AttachmentSetOptions {
  /** For status. */
  readonly name: string;
  readonly scan: Scan;
  /** Beyond either bound a target is refused until there is room. */
  readonly maxTargets: number;
  readonly maxLinks: number;
  readonly rescanMillis: number;
  /** Wait before the second attempt at a target that failed; doubles with each. */
  readonly retryMillis: number;
  /** Attempts before a target is given up for as long as it exists. */
  readonly attempts: number;
  /** A clock in milliseconds; replaced in tests. */
  readonly now?: () => number;
}

/** Totals since the set was made; each only grows. */
export interface AttachmentCounts {
  readonly rescans: number;
  /** Rescans that ended with an error. */
  readonly scanErrors: number;
  /** Targets attached to, detached again, detached by the kernel. */
  readonly attached: number;
  readonly detached: number;
  readonly lost: number;
  /** Attempts that failed; targets given up; targets refused for want of room; links whose closing failed. */
  readonly failures: number;
  readonly givenUp: number;
  readonly refused: number;
  readonly closeErrors: number;
}

export interface FailedTarget {
  readonly description: string;
  readonly reason: string;
  readonly attempts: number;
  readonly givenUp: boolean;
}

export interface AttachmentStatus {
  readonly name: string;
  /** Descriptions of what is attached to. */
  readonly targets: readonly string[];
  readonly links: number;
  readonly failed: readonly FailedTarget[];
  /** Targets that there was no room for, in the last round of scans or, where that is more, in the present one. */
  readonly refused: number;
  /** Links on their way out. */
  readonly pendingCloses: number;
  /** Why the last scan failed; undefined where it did not. */
  readonly lastError: string | undefined;
  readonly counts: AttachmentCounts;
}

interface Entry {
  readonly key: string;
  readonly description: string;
  readonly links: AttachedLink[];
  state: 'attached' | 'failed' | 'closing';
  /** Links that are being closed. Nothing is attached under this key before it is 0. */
  pending: number;
  failures: number;
  retryAt: number;
  reason: string;
  /** The last round of scans that found it. */
  round: number;
  /** Found again while closing. */
  wanted: boolean;
}

type Counts = { -readonly [Name in keyof AttachmentCounts]: number };

/**
 * Rounds that must not have found a target before it counts as vanished: a process that forks and ends while a scan goes
 * through the processes hides what it holds from that one scan.
 */
const ROUNDS_ABSENT = 2;
/** Sightings that are dealt with in one turn of the event loop where none of them is attached to. */
const SIGHTINGS_PER_TURN = 64;
/** Refused keys that are told apart, as a multiple of `maxTargets`; beyond it one may count twice in a round. */
const REFUSED_REMEMBERED = 16;

export class AttachmentSet {
  readonly #options: AttachmentSetOptions;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #closes = new Set<Promise<void>>();
  readonly #counts: Counts = {
    rescans: 0,
    scanErrors: 0,
    attached: 0,
    detached: 0,
    lost: 0,
    failures: 0,
    givenUp: 0,
    refused: 0,
    closeErrors: 0,
  };
  #round = 1;
  #refused = new Set<string>();
  #refusedBefore = new Set<string>();
  #lastError: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  /** Does nothing until the first `poke`. */
  constructor(options: AttachmentSetOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /**
   * Rescans now, then again every `rescanMillis`. Never two at once: while one is under way another follows it.
   * @returns when a scan that began after the call has ended; never rejects
   */
  poke(): Promise<void> {
    if (this.#closed !== undefined) return Promise.resolve();
    if (this.#running === undefined) return this.#begin();
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.#running ?? this.#begin();
    });
    return this.#next;
  }

  status(): AttachmentStatus {
    const entries = [...this.#entries.values()];
    const failed = entries.filter((entry) => entry.state === 'failed');
    return {
      name: this.#options.name,
      targets: entries.filter((entry) => entry.state === 'attached').map((entry) => entry.description),
      links: this.#links(),
      failed: failed.map(({ description, reason, failures }) => ({
        description,
        reason,
        attempts: failures,
        givenUp: failures >= this.#options.attempts,
      })),
      refused: Math.max(this.#refused.size, this.#refusedBefore.size),
      pendingCloses: entries.reduce((sum, entry) => sum + entry.pending, 0),
      lastError: this.#lastError,
      counts: { ...this.#counts },
    };
  }

  /** Detaches everything; nothing is attached from now on. Idempotent. @returns when all is detached; never rejects */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    clearTimeout(this.#timer);
    await undefined; // until then #closed is not set
    for (const entry of this.#entries.values()) this.#remove(entry);
    await this.#running;
    await Promise.all(this.#closes);
  }

  #begin(): Promise<void> {
    if (this.#closed !== undefined) return Promise.resolve();
    clearTimeout(this.#timer);
    this.#running = this.#rescan().finally(() => {
      this.#running = undefined;
      if (this.#closed !== undefined) return;
      this.#timer = setTimeout(() => void this.poke(), this.#options.rescanMillis);
      this.#timer.unref();
    });
    return this.#running;
  }

  /** Never rejects. */
  async #rescan(): Promise<void> {
    this.#counts.rescans++;
    try {
      if (await this.#goThrough(this.#options.scan())) this.#endRound();
      this.#lastError = undefined;
    } catch (error) {
      this.#counts.scanErrors++;
      this.#lastError = sentence(error);
    }
  }

  async #goThrough(scan: AsyncGenerator<Target, boolean>): Promise<boolean> {
    let sightings = 0;
    for (;;) {
      const next = await scan.next();
      if (next.done) return next.value;
      if (this.#closed !== undefined) {
        await scan.return(false);
        return false;
      }
      const attempted = this.#meet(next.value);
      if (attempted || ++sightings % SIGHTINGS_PER_TURN === 0) await turn();
    }
  }

  /** Everything was looked at: what was not found, now for the second time, is gone. */
  #endRound(): void {
    for (const entry of this.#entries.values()) {
      if (entry.round <= this.#round - ROUNDS_ABSENT) this.#remove(entry);
    }
    this.#round++;
    this.#refusedBefore = this.#refused;
    this.#refused = new Set();
  }

  /** A target was found. Returns whether it was tried to attach to it. */
  #meet(target: Target): boolean {
    const entry = this.#entries.get(target.key);
    if (entry === undefined) return this.#admit(target);
    entry.round = this.#round;
    if (entry.state === 'closing') {
      entry.wanted = true;
    } else if (entry.state === 'attached') {
      if (entry.links.every((link) => link.attached?.() !== false)) return false;
      this.#counts.lost++;
      this.#remove(entry);
      entry.wanted = true;
    } else if (
      entry.pending === 0 &&
      entry.failures < this.#options.attempts &&
      this.#now() >= entry.retryAt
    ) {
      if (!this.#hasRoom(target, 'retry')) return false;
      this.#attach(target, entry);
      return true;
    }
    return false;
  }

  #admit(target: Target): boolean {
    if (!this.#hasRoom(target, 'new')) {
      this.#refuse(target.key);
      return false;
    }
    this.#refused.delete(target.key);
    const entry: Entry = {
      key: target.key,
      description: target.description,
      links: [],
      state: 'failed',
      pending: 0,
      failures: 0,
      retryAt: 0,
      reason: '',
      round: this.#round,
      wanted: false,
    };
    this.#entries.set(target.key, entry);
    this.#attach(target, entry);
    return true;
  }

  /** Failures that are remembered have as much room as what is attached, so that neither crowds out the other. */
  #hasRoom(target: Target, kind: 'new' | 'retry'): boolean {
    const { maxTargets, maxLinks } = this.#options;
    if (this.#links() + target.links > maxLinks) return false;
    let [failed, held] = [0, 0];
    for (const entry of this.#entries.values()) {
      if (entry.state === 'failed') failed++;
      else held++;
    }
    return held < maxTargets && (kind === 'retry' || failed < maxTargets);
  }

  #refuse(key: string): void {
    if (this.#refused.has(key)) return;
    if (!this.#refusedBefore.has(key)) this.#counts.refused++;
    if (this.#refused.size < REFUSED_REMEMBERED * this.#options.maxTargets) this.#refused.add(key);
  }

  #attach(target: Target, entry: Entry): void {
    try {
      for (const link of target.attach()) {
        entry.links.push(link);
        if (entry.links.length > target.links) {
          throw new Error(`more than the ${target.links} links that it was to have`);
        }
      }
      entry.state = 'attached';
      entry.failures = 0;
      this.#counts.attached++;
    } catch (error) {
      if (error instanceof TargetGone) {
        this.#remove(entry);
        return;
      }
      entry.reason = sentence(error);
      entry.failures++;
      entry.retryAt = this.#now() + this.#options.retryMillis * 2 ** (entry.failures - 1);
      this.#counts.failures++;
      if (entry.failures === this.#options.attempts) this.#counts.givenUp++;
      this.#closeLinks(entry);
    }
  }

  /** Closes its links and forgets it when they are closed; until then nothing is attached in its place. */
  #remove(entry: Entry): void {
    if (entry.state === 'attached') this.#counts.detached++;
    entry.state = 'closing';
    entry.wanted = false;
    this.#closeLinks(entry);
    if (entry.pending === 0) this.#forget(entry);
  }

  #forget(entry: Entry): void {
    this.#entries.delete(entry.key);
    if (entry.wanted) void this.poke(); // never rejects
  }

  /** In the reverse of the order in which they were made. */
  #closeLinks(entry: Entry): void {
    for (const link of entry.links.splice(0).reverse()) {
      entry.pending++;
      const close = link
        .closeLater()
        .catch((error: unknown) => {
          this.#counts.closeErrors++;
          this.#lastError = sentence(error);
        })
        .then(() => {
          this.#closes.delete(close);
          entry.pending--;
          if (entry.pending === 0 && entry.state === 'closing') this.#forget(entry);
        });
      this.#closes.add(close);
    }
  }

  /** Held and on their way out: both are the kernel's. */
  #links(): number {
    let links = 0;
    for (const entry of this.#entries.values()) links += entry.links.length + entry.pending;
    return links;
  }
}

function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
