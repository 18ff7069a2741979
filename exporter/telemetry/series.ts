// Points (what is exposed) and handles (what probes hold and add to). A handle always writes into its own point;
// family.ts decides at the end of each collection whether that point has a name of its own or folds into `other`.
import type { Family } from './family.ts';

/** A trace that an observation belongs to. Times in milliseconds since the Unix epoch. */
export interface Exemplar {
  readonly value: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly timestampMillis: number;
}

/** One series as the outputs read it. A counter's value only grows for as long as the point exists. */
export class Point {
  /** Label string without braces: `a="1",b="2"`, escaped. */
  readonly labels: string;
  /** Everything in this point happened after this time, in milliseconds since the Unix epoch. */
  startMillis: number;
  /** Value; for histograms the number of observations. */
  value = 0;
  /** Histograms: sum of the observations. */
  sum = 0;
  /** Histograms: observations per bucket (not cumulative), the last one is the overflow. */
  readonly counts: Float64Array | undefined;
  /** Last exemplar per bucket. */
  exemplars: (Exemplar | undefined)[] | undefined;
  /** Attributes by OpenTelemetry name; made by the OTLP producer on first use. */
  attributes: Record<string, string | number> | undefined;

  constructor(labels: string, startMillis: number, buckets: number) {
    this.labels = labels;
    this.startMillis = startMillis;
    this.counts = buckets === 0 ? undefined : new Float64Array(buckets);
  }

  /** Adds everything of `other` to this point. */
  absorb(other: Point): void {
    this.value += other.value;
    this.sum += other.sum;
    if (this.counts && other.counts) {
      for (let i = 0; i < this.counts.length; i++) {
        this.counts[i] = (this.counts[i] as number) + (other.counts[i] as number);
      }
    }
    if (other.exemplars) {
      this.exemplars ??= [];
      for (const [i, exemplar] of other.exemplars.entries()) if (exemplar) this.exemplars[i] = exemplar;
    }
  }

  /** Back to nothing counted. */
  reset(startMillis: number): void {
    this.startMillis = startMillis;
    this.value = 0;
    this.sum = 0;
    this.counts?.fill(0);
    this.exemplars = undefined;
  }
}

/** What probes hold: cache it per edge, add to it as often as you like, call `retain` while its workload is active. */
export class Handle {
  readonly family: Family;
  /** Label string, the key of the series within its family. */
  readonly key: string;
  point: Point;
  /** Something happened since the last collection ended. */
  dirty = true;
  /** Exposed under its own name; else its point waits to be folded at the end of the collection. */
  named = false;
  /** Stands for folded series itself, or was registered under their labels: never gets a place of its own. */
  readonly role: 'series' | 'fold' | 'other';
  /** Expired: the next addition registers it again. */
  gone = false;
  /** Set when another handle took over the series while this one was expired. */
  successor: this | undefined;
  /** The point exposed under this name before the series was demoted. */
  ghost: { readonly point: Point; readonly sinceMillis: number; readonly round: number } | undefined;
  lastActiveMillis: number;
  /** Round of {@link Family.settle} in which it was registered. */
  born: number;
  /** Decayed activity: decides who keeps the name. */
  weight = 0;
  /** `point.value` at the end of the last collection. */
  seen = 0;

  constructor(
    family: Family,
    key: string,
    point: Point,
    nowMillis: number,
    born: number,
    role: Handle['role'],
  ) {
    this.family = family;
    this.key = key;
    this.point = point;
    this.lastActiveMillis = nowMillis;
    this.born = born;
    this.role = role;
  }

  /** Keeps the series alive although nothing is added: its workload is still active. */
  retain(): void {
    this.live().dirty = true;
  }

  /** The handle that holds the series now: itself, registered again if it had expired. */
  protected live(): this {
    if (this.gone) this.successor = this.family.revive(this) as this | undefined;
    return this.successor?.live() ?? this;
  }
}

/** Handle of a counter. */
export class Counter extends Handle {
  /** Adds `n` ≥ 0 (base units). Other values are refused and counted as lost. */
  add(n: number): void {
    if (this.gone || this.successor) {
      if (n !== 0) this.live().addLive(n);
    } else this.addLive(n);
  }

  private addLive(n: number): void {
    if (n > 0 && n < Number.POSITIVE_INFINITY) {
      this.point.value += n;
      this.dirty = true;
    } else if (n !== 0) this.family.refuse();
  }
}

/** Handle of a gauge or of a sum that may fall. */
export class Gauge extends Handle {
  /** Sets the value (base units). */
  set(value: number): void {
    const live = this.live();
    if (live.hasPlace()) live.point.value = value;
  }

  /** Adds a difference, for several owners of one series. */
  add(difference: number): void {
    const live = this.live();
    if (!Number.isFinite(difference)) this.family.refuse();
    else if (live.hasPlace()) live.point.value += difference;
  }

  private hasPlace(): boolean {
    this.dirty = true;
    const lost = this.family.overflow === this;
    if (lost) this.family.refuse();
    return !lost;
  }
}

/** Handle of a histogram. */
export class Histogram extends Handle {
  /**
   * Adds observations per bucket.
   * @param counts as many as bounds + 1, not cumulative, the last is the overflow
   * @param sum sum of these observations in base units
   */
  addBuckets(counts: ArrayLike<number>, sum: number): void {
    const { bounds, name } = this.family;
    if (counts.length !== bounds.length + 1) {
      throw new Error(`${name}: ${counts.length} buckets given, ${bounds.length + 1} expected`);
    }
    let total = 0;
    let valid = Number.isFinite(sum);
    for (let i = 0; i < counts.length; i++) {
      const n = counts[i] as number;
      valid &&= n >= 0 && n < Number.POSITIVE_INFINITY;
      total += n;
    }
    if (!valid) this.family.refuse();
    if (!valid || total === 0) return;
    const live = this.live();
    const own = live.point.counts as Float64Array;
    for (let i = 0; i < own.length; i++) own[i] = (own[i] as number) + (counts[i] as number);
    live.point.value += total;
    live.point.sum += sum;
    live.dirty = true;
  }

  /** Adds `n` observations of one value. */
  observe(value: number, n = 1): void {
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY && n >= 0 && n < Number.POSITIVE_INFINITY)) {
      this.family.refuse();
      return;
    }
    if (n === 0) return;
    const live = this.live();
    const { point } = live;
    const own = point.counts as Float64Array;
    const bucket = bucketOf(this.family.bounds, value);
    own[bucket] = (own[bucket] as number) + n;
    point.value += n;
    point.sum += value * n;
    live.dirty = true;
  }

  /** Remembers a trace for the bucket of `value`; it does not count as an observation. */
  exemplar(exemplar: Exemplar): void {
    const { point } = this.live();
    point.exemplars ??= [];
    point.exemplars[bucketOf(this.family.bounds, exemplar.value)] = exemplar;
  }
}

/** Index of the bucket that holds `value`: bounds are inclusive upper bounds. */
export function bucketOf(bounds: readonly number[], value: number): number {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value <= (bounds[middle] as number)) high = middle;
    else low = middle + 1;
  }
  return low;
}
