// What holds for every registered probe, whichever it is.
import { describe, expect, test } from 'vitest';
import { startOrder } from '../../../exporter/agent/probe_set.ts';
import { configSchema } from '../../../exporter/config/schema.ts';
import { PROBES } from '../../../exporter/probes/definitions.ts';
import { COMMON_ATTRIBUTES } from '../../../exporter/telemetry/attributes.ts';
import {
  allowedValues,
  attributeDefinition,
  CATALOGUE,
  type MetricDefinition,
  PARTS,
  partOf,
  prometheusName,
} from '../../../exporter/telemetry/catalogue.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { ownFiles } from '../../../scripts/architecture/files.ts';

const metrics: readonly MetricDefinition[] = CATALOGUE;
const IDLE_MILLIS = 300_000;

/** A series of a metric, with some value for every attribute. */
function sample(store: SeriesStore, metric: MetricDefinition): void {
  const attributes = Object.fromEntries(
    metric.attributes.map((name) => [name, allowedValues(metric, name)?.[0] ?? '1']),
  ) as never;
  const name = metric.name as never;
  if (metric.kind === 'counter') store.counter(name, attributes).add(1);
  else if (metric.kind === 'histogram') store.histogram(name, attributes).observe(1);
  // A sum that is not 0 stands for something that is still open.
  else store.gauge(name, attributes).set(metric.kind === 'updowncounter' ? 0 : 1);
}

/** Series of a metric that are left after one that was used once has been idle. */
function leftWhenIdle(metric: MetricDefinition): number {
  const store = new SeriesStore({ startMillis: 0, idleMillis: IDLE_MILLIS });
  sample(store, metric);
  for (const now of [1000, 2000, 2000 + IDLE_MILLIS]) {
    store.begin(now);
    store.settleNow();
    if (now < IDLE_MILLIS) expect(store.family(metric.name as never).points).toHaveLength(1);
  }
  return store.family(metric.name as never).points.length;
}

test('metrics and attributes have one owner each', () => {
  const unique = (names: readonly string[]) => expect(names).toEqual([...new Set(names)]);
  unique(metrics.map(({ name }) => name));
  unique(metrics.map(prometheusName));
  unique(PARTS.map(({ name }) => name));
  unique([
    ...Object.keys(COMMON_ATTRIBUTES),
    ...PROBES.flatMap(({ attributes }) => Object.keys(attributes ?? {})),
  ]);
  for (const metric of metrics) {
    expect(partOf(metric).name).toBe(metric.probe);
    for (const name of metric.attributes) expect(attributeDefinition(name).description).not.toBe('');
  }
});

test('each probe starts after those that it needs', () => {
  const order = startOrder(PROBES);
  expect(new Set(order)).toEqual(new Set(PROBES));
  for (const [at, { needs }] of order.entries())
    for (const need of needs) expect(order.slice(0, at).map(({ name }) => name)).toContain(need);
});

describe.each(PROBES.map((probe) => [probe.name, probe] as const))('%s', (name, probe) => {
  test('is named as its folder', () => {
    expect(name).toMatch(/^[a-z][a-z0-9]*$/);
    const files = ownFiles(new RegExp(`^exporter/probes/${name}/(settings|metrics|definition|index)\\.ts$`));
    expect(files).toHaveLength(4);
  });

  test('has settings, metrics of its own, a title, and programs that are built', () => {
    const settings = configSchema.parse({}).probes as Readonly<Record<string, { enabled: boolean }>>;
    expect(typeof settings[name]?.enabled).toBe('boolean');
    expect(probe.title).toMatch(/^[A-Z]/);
    for (const metric of probe.metrics) expect(metric.probe).toBe(name);
    for (const object of probe.objects)
      expect(ownFiles(/\.bpf\.c$/).filter((path) => path.endsWith(`/${object}.bpf.c`))).toHaveLength(1);
  });

  test('bounds only histograms that there are', () => {
    const settings = configSchema.parse({}).probes as unknown as Readonly<Record<string, never>>;
    for (const metric of Object.keys(probe.buckets?.(settings[name] as never) ?? {}))
      expect(metrics.find((known) => known.name === metric)?.kind).toBe('histogram');
  });

  test('lets go of series that are idle, or has few', () => {
    for (const metric of probe.metrics) {
      expect([metric.name, leftWhenIdle(metric)]).toEqual([metric.name, probe.series === 'expire' ? 0 : 1]);
      // Series that stay for ever must be bounded by what their labels may say.
      if (probe.series === 'keep')
        for (const attribute of metric.attributes) expect(allowedValues(metric, attribute)).toBeDefined();
    }
  });

  test('can be loaded', async () => {
    expect(typeof (await probe.load()).probe.start).toBe('function');
  });
});

test('what the agent says about itself stays', () => {
  const own = metrics.filter(
    (metric) => partOf(metric).series === 'keep' && !PROBES.some(({ name }) => name === metric.probe),
  );
  expect(own.length).toBeGreaterThan(10);
  for (const metric of own) expect([metric.name, leftWhenIdle(metric)]).toEqual([metric.name, 1]);
});
