// All series of one metric: registration, the limit with its exact fold into `other`, and expiry. Used by store.ts.
import {
  allowedValues,
  attributeDefinition,
  labelName,
  type MetricDefinition,
  partOf,
  prometheusName,
} from './catalogue.ts';
import { cleanLabelValue, escapeLabelValue, OTHER } from './label_text.ts';
import { Counter, Gauge, type Handle, Histogram, Point } from './series.ts';

/** Bounds and times that hold for all families of a store. */
export interface FamilyLimits {
  /** Series of one metric that keep their name. */
  readonly seriesPerMetric: number;
  /** A series goes after this time without activity. */
  readonly idleMillis: number;
}

interface Label {
  readonly attribute: string;
  readonly prefix: string;
  readonly allowed: readonly string[] | undefined;
  /** Open, but kept when a series folds. */
  readonly keep: boolean;
  /** Left out when a series folds. */
  readonly drop: boolean;
}

/** How many series one step of `settle` looks at before it lets others run. */
const STEP = 4096;
/** Weight that remains of a series' activity from one collection to the next. */
const DECAY = 0.8;
/** A demoted series stays exposed, unchanged, until it expires; this many at once, as a share of the limit. */
const GHOST_SHARE = 0.1;
/** Folded series that are remembered one by one, beyond the limit itself, so that they can win their name back. */
const REMEMBERED = 65_536;

/** One metric's series. */
export class Family {
  readonly definition: MetricDefinition;
  /** OpenTelemetry name. */
  readonly name: string;
  /** Prometheus name. */
  readonly prometheusName: string;
  readonly bounds: readonly number[];
  /** What the outputs show. Replaced, never changed, so that a writer may keep it while others collect. */
  points: readonly Point[] = [];
  /** Series counted under `other` now. */
  foldedCount = 0;
  /** The limit was reached at least once. */
  everFolded = false;
  /** Values refused because they were no number, negative or infinite. */
  refused = 0;
  /** Takes what has no room at all among gauges: their values cannot be told apart any more, so they are refused. */
  readonly overflow: Gauge | undefined;

  private readonly limits: FamilyLimits;
  private readonly labels: readonly Label[];
  private readonly additive: boolean;
  private readonly expires: boolean;
  private readonly handles = new Map<string, Handle>();
  private readonly folds = new Map<string, Handle>();
  private readonly ghosts = new Set<Handle>();
  private namedCount = 0;
  private round = 0;
  private nowMillis: number;
  /** When the last collection began: whatever is counted for the first time now happened after it. */
  private sinceMillis: number;

  constructor(
    definition: MetricDefinition,
    bounds: readonly number[],
    limits: FamilyLimits,
    nowMillis: number,
  ) {
    this.definition = definition;
    this.name = definition.name;
    this.prometheusName = prometheusName(definition);
    this.bounds = bounds;
    this.limits = limits;
    this.nowMillis = nowMillis;
    this.sinceMillis = nowMillis;
    this.additive = definition.kind === 'counter' || definition.kind === 'histogram';
    this.expires = partOf(definition).series === 'expire';
    this.labels = definition.attributes.map((attribute) => {
      const allowed = allowedValues(definition, attribute);
      const { keepWhenFolded: keep = false, optIn: drop = false } = attributeDefinition(attribute);
      return { attribute, prefix: `${labelName(attribute)}="`, allowed, keep, drop };
    });
    if (!this.additive) this.overflow = this.create('', 'fold') as Gauge;
  }

  /** The handle of a series; made on first use. Throws when an attribute or its value is not in the catalogue. */
  handle(attributes: Readonly<Record<string, string | number | undefined>>): Handle {
    const key = this.keyOf(attributes);
    const known = this.handles.get(key);
    if (known) return known;
    if (this.handles.size >= this.limits.seriesPerMetric + REMEMBERED) {
      return this.overflow ?? this.foldOf(key, false);
    }
    const isOther = key.includes(`"${OTHER}"`) && this.foldKey(key, false) === key;
    const handle = this.create(key, isOther ? 'other' : 'series');
    this.handles.set(key, handle);
    return handle;
  }

  /** Registers an expired handle again; returns the handle that took over in the meantime, if one did. */
  revive(handle: Handle): Handle | undefined {
    const registry = handle.role === 'fold' ? this.folds : this.handles;
    handle.gone = false;
    const other = registry.get(handle.key);
    if (other) return other;
    handle.named = false;
    handle.dirty = true;
    handle.born = this.round;
    handle.seen = 0;
    handle.weight = 0;
    handle.point = this.point(handle.key);
    registry.set(handle.key, handle);
    return undefined;
  }

  /** Series remembered one by one: named and folded. */
  get size(): number {
    return this.handles.size;
  }

  /** Counts a value that cannot be kept. */
  refuse(): void {
    this.refused++;
  }

  /** A collection begins: what is new from now on happened after the last one began. */
  begin(nowMillis: number): void {
    this.nowMillis = nowMillis;
  }

  /**
   * Ends a collection: expires what is idle, gives names to the largest, folds the rest, renews {@link points}.
   * Yields after every few thousand series.
   */
  *settle(): Generator<void, void, void> {
    this.round++;
    const points: Point[] = [];
    const unnamed: Handle[] = [];
    const others: Handle[] = [];
    let steps = 0;
    for (const handle of this.handles.values()) {
      if (++steps % STEP === 0) yield;
      if (handle.born === this.round || this.expired(handle)) continue;
      this.weigh(handle);
      if (handle.named) points.push(handle.point);
      else (handle.role === 'other' ? others : unnamed).push(handle);
    }
    const room = this.limits.seriesPerMetric - this.namedCount;
    if (unnamed.length <= room) {
      for (const handle of unnamed) {
        if (++steps % STEP === 0) yield;
        points.push(this.promote(handle));
      }
      this.foldedCount = 0;
      yield* this.fold(others);
    } else {
      const rest = this.chooseNamed(unnamed, room, points);
      this.foldedCount = rest.length;
      this.everFolded = true;
      yield;
      yield* this.fold(others.concat(rest));
    }
    this.addGhosts(points);
    this.addFolds(points);
    this.points = points;
    this.sinceMillis = this.nowMillis;
  }

  private keyOf(attributes: Readonly<Record<string, string | number | undefined>>): string {
    let key = '';
    let used = 0;
    for (const { attribute, prefix, allowed } of this.labels) {
      const value = attributes[attribute];
      if (value !== undefined) used++;
      if (value === undefined || value === '') continue;
      if (allowed && !allowed.includes(value as string)) {
        throw new Error(
          `${this.name}: ${attribute} may be ${allowed.join(', ')}, not ${JSON.stringify(value).slice(0, 80)}`,
        );
      }
      key += `${key === '' ? '' : ','}${prefix}${escapeLabelValue(cleanLabelValue(value))}"`;
    }
    if (used < Object.keys(attributes).length) this.refuseUnknown(attributes);
    return key;
  }

  private refuseUnknown(attributes: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined && !this.definition.attributes.includes(name)) {
        throw new Error(`${this.name} has no attribute "${name.slice(0, 80)}"`);
      }
    }
  }

  private create(key: string, role: Handle['role']): Handle {
    const kinds = { counter: Counter, gauge: Gauge, updowncounter: Gauge, histogram: Histogram } as const;
    return new kinds[this.definition.kind](this, key, this.point(key), this.nowMillis, this.round, role);
  }

  private point(key: string): Point {
    return new Point(
      key,
      this.sinceMillis,
      this.definition.kind === 'histogram' ? this.bounds.length + 1 : 0,
    );
  }

  /** Notes activity; removes the handle when it was idle for too long. */
  private expired(handle: Handle): boolean {
    if (handle.dirty) {
      handle.dirty = false;
      handle.lastActiveMillis = this.nowMillis;
      return false;
    }
    if (!this.expires || this.nowMillis - handle.lastActiveMillis < this.limits.idleMillis) return false;
    // Connections that are open and idle are still open.
    if (this.definition.kind === 'updowncounter' && handle.point.value !== 0) return false;
    this.handles.delete(handle.key);
    handle.gone = true;
    if (handle.named) this.namedCount--;
    this.dropGhost(handle);
    return true;
  }

  private weigh(handle: Handle): void {
    const { value } = handle.point;
    if (this.additive) {
      handle.weight = handle.weight * DECAY + (value - handle.seen);
      handle.seen = value;
    } else handle.weight = Number.isFinite(value) ? Math.abs(value) : 0;
  }

  private promote(handle: Handle): Point {
    handle.named = true;
    this.namedCount++;
    if (handle.ghost) {
      const { point } = handle.ghost;
      point.absorb(handle.point);
      handle.point = point;
      handle.seen = point.value;
      this.dropGhost(handle);
    }
    return handle.point;
  }

  private demote(handle: Handle): void {
    handle.named = false;
    this.namedCount--;
    if (!this.additive) return;
    // What was exposed stays exposed until it expires: moved into `other` it would be counted twice by `rate`.
    handle.ghost = { point: handle.point, sinceMillis: this.nowMillis, round: this.round };
    this.ghosts.add(handle);
    handle.point = this.point(handle.key);
    handle.seen = 0;
  }

  private dropGhost(handle: Handle): void {
    handle.ghost = undefined;
    this.ghosts.delete(handle);
  }

  /** Names the largest of `unnamed`, in free places and in those of clearly smaller ones; returns who has to fold. */
  private chooseNamed(unnamed: Handle[], room: number, points: Point[]): Handle[] {
    const ghostLimit = Math.max(1, Math.floor(this.limits.seriesPerMetric * GHOST_SHARE));
    const candidates = largest(unnamed, room + ghostLimit);
    for (const handle of candidates.slice(0, room)) points.push(this.promote(handle));
    this.replaceSmaller(candidates.slice(room), ghostLimit, points);
    if (this.additive) return unnamed.filter((handle) => !handle.named);
    return [...this.handles.values()].filter(
      (handle) => !handle.named && handle.role === 'series' && handle.born !== this.round,
    );
  }

  private replaceSmaller(challengers: readonly Handle[], ghostLimit: number, points: Point[]): void {
    if (challengers.length === 0) return;
    const named = [...this.handles.values()].filter((handle) => handle.named);
    const smallest = largest(named, challengers.length, -1);
    for (const [i, challenger] of challengers.entries()) {
      const holder = smallest[i];
      // Twice as large: names must not change hands at every collection.
      if (!holder || challenger.weight <= 2 * holder.weight) break;
      // The holder becomes a ghost; a challenger that is one itself makes the place.
      if (this.ghosts.size >= ghostLimit && !challenger.ghost) continue;
      const { point } = holder;
      this.demote(holder);
      const promoted = this.promote(challenger);
      if (this.additive) points.push(promoted);
      else points[points.indexOf(point)] = promoted;
    }
  }

  /** Moves what the given series counted since the last collection into their `other` series. */
  private *fold(rest: readonly Handle[]): Generator<void, void, void> {
    // A gauge's share of `other` is its present value, so the sum is made anew each time.
    if (!this.additive) for (const fold of this.folds.values()) fold.point.value = 0;
    let steps = 0;
    for (const handle of rest) {
      if (++steps % STEP === 0) yield;
      const { point } = handle;
      if (!this.additive) {
        const fold = this.foldOf(handle.key, false);
        if (Number.isFinite(point.value)) fold.point.value += point.value;
        fold.dirty = true;
      } else if (point.value > 0 || handle.lastActiveMillis === this.nowMillis) {
        const fold = this.foldOf(handle.key, false);
        fold.point.absorb(point);
        fold.dirty = true;
        point.reset(this.nowMillis);
        handle.seen = 0;
      }
    }
  }

  /** The series that stands for all folded ones with the same values of the kept labels. */
  private foldOf(key: string, strict: boolean): Handle {
    const foldKey = this.foldKey(key, strict);
    let fold = this.folds.get(foldKey);
    if (!fold) {
      // Kept labels have few values, unless a client invents them: then they fold too.
      if (!strict && this.folds.size >= Math.max(16, this.limits.seriesPerMetric / 8))
        return this.foldOf(key, true);
      fold = this.create(foldKey, 'fold');
      this.folds.set(foldKey, fold);
    }
    return fold;
  }

  private foldKey(key: string, strict: boolean): string {
    const present = new Map(splitLabels(key));
    const parts: string[] = [];
    for (const { prefix, allowed, keep, drop } of this.labels) {
      const part = present.get(prefix);
      if (drop) continue;
      if (allowed === undefined && (!keep || strict)) parts.push(`${prefix}${OTHER}"`);
      else if (part !== undefined) parts.push(prefix + part);
    }
    return parts.join(',');
  }

  private addGhosts(points: Point[]): void {
    for (const handle of this.ghosts) {
      const { ghost } = handle;
      if (!ghost || this.nowMillis - ghost.sinceMillis >= this.limits.idleMillis) this.dropGhost(handle);
      // One demoted in this round is among the points already.
      else if (ghost.round !== this.round) points.push(ghost.point);
    }
  }

  private addFolds(points: Point[]): void {
    for (const [key, fold] of this.folds) {
      if (this.expiredFold(fold)) {
        this.folds.delete(key);
        fold.gone = true;
      } else points.push(fold.point);
    }
  }

  private expiredFold(fold: Handle): boolean {
    if (fold.dirty) {
      fold.dirty = false;
      fold.lastActiveMillis = this.nowMillis;
      return false;
    }
    if (!this.additive) return true;
    return this.expires && this.nowMillis - fold.lastActiveMillis >= this.limits.idleMillis;
  }
}

/** `a="1",b="2"` as [`a="`, `1"`] pairs; the values stay escaped. */
function splitLabels(key: string): [prefix: string, rest: string][] {
  return [...key.matchAll(/([a-zA-Z0-9_]+=")((?:[^"\\]|\\.)*")/gs)].map((match) => [
    match[1] ?? '',
    match[2] ?? '',
  ]);
}

/** The `n` handles of greatest weight, in falling order (`sign` -1: smallest, rising). */
function largest(handles: readonly Handle[], n: number, sign: 1 | -1 = 1): Handle[] {
  if (n <= 0) return [];
  let chosen = handles;
  if (handles.length > n) {
    const weights = Float64Array.from(handles, (handle) => sign * handle.weight).sort();
    const threshold = weights[handles.length - n] as number;
    chosen = handles.filter((handle) => sign * handle.weight >= threshold);
  }
  return [...chosen].sort((a, b) => sign * (b.weight - a.weight)).slice(0, n);
}
