// The series of every metric. Probes ask it for handles once per series and add to these; at the end of each
// collection it applies the limits; the Prometheus writer and the OTLP producer read its families.
import {
  type AttributesOf,
  CATALOGUE,
  type MetricDefinition,
  type MetricName,
  type MetricNameOf,
} from './catalogue.ts';
import { Family, type FamilyLimits } from './family.ts';
import type { Counter, Gauge, Histogram } from './series.ts';

export type { Family } from './family.ts';
export type { Counter, Exemplar, Gauge, Histogram, Point } from './series.ts';

/** Settings of a store; every one has the configuration's default. */
export interface StoreOptions extends Partial<FamilyLimits> {
  /** Bucket bounds that replace the catalogue's. */
  readonly buckets?: Readonly<Partial<Record<string, readonly number[]>>>;
  /** Milliseconds since the Unix epoch from which on this store counts. */
  readonly startMillis?: number;
}

/** All series of the agent. Not for several threads. */
export class SeriesStore {
  readonly limits: FamilyLimits;
  private readonly byName: ReadonlyMap<string, Family>;

  constructor(options: StoreOptions = {}) {
    const {
      seriesPerMetric = 10_000,
      idleMillis = 300_000,
      startMillis = Date.now(),
      buckets = {},
    } = options;
    this.limits = { seriesPerMetric, idleMillis };
    const metrics: readonly MetricDefinition[] = CATALOGUE;
    this.byName = new Map(
      metrics.map((metric) => {
        const bounds = buckets[metric.name] ?? metric.buckets ?? [];
        return [metric.name, new Family(metric, bounds, this.limits, startMillis)];
      }),
    );
  }

  /** Handle of a counter; cache it. Throws when an attribute or its value is not in the catalogue. */
  counter<N extends MetricNameOf<'counter'>>(name: N, attributes: NoInfer<AttributesOf<N>>): Counter {
    return this.family(name).handle(attributes) as Counter;
  }

  /** Handle of a gauge or of a sum that may fall; cache it. Throws as `counter` does. */
  gauge<N extends MetricNameOf<'gauge' | 'updowncounter'>>(
    name: N,
    attributes: NoInfer<AttributesOf<N>>,
  ): Gauge {
    return this.family(name).handle(attributes) as Gauge;
  }

  /** Handle of a histogram; cache it. Throws as `counter` does. */
  histogram<N extends MetricNameOf<'histogram'>>(name: N, attributes: NoInfer<AttributesOf<N>>): Histogram {
    return this.family(name).handle(attributes) as Histogram;
  }

  /** Upper bounds of the buckets in use, in base units, without the overflow. */
  bounds(name: MetricNameOf<'histogram'>): readonly number[] {
    return this.family(name).bounds;
  }

  /** A collection begins. Called by the collector before it reads the sources. */
  begin(nowMillis: number): void {
    for (const family of this.byName.values()) family.begin(nowMillis);
  }

  /** Ends a collection: limits, expiry, new points to show. Yields where other work may run in between. */
  *settle(): Generator<void, void, void> {
    for (const family of this.byName.values()) {
      yield* family.settle();
      yield;
    }
  }

  /** `settle` in one go, for callers that hold few series (tests, one-shot commands). */
  settleNow(): void {
    for (const _ of this.settle());
  }

  /** Every metric in catalogue order, those without series too. */
  families(): Iterable<Family> {
    return this.byName.values();
  }

  /** One metric. */
  family(name: MetricName): Family {
    return this.byName.get(name) as Family;
  }
}
