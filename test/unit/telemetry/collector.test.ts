// The collector: shared collections, failing and hanging sources, what may be shown after a failure.
import { expect, test, vi } from 'vitest';
import { Collector, type Source } from '../../../exporter/telemetry/collector.ts';
import { SILENT } from '../../../exporter/telemetry/log.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { edge } from './helpers.ts';

function setup(sources: readonly Source[], sourceTimeoutMillis = 5000) {
  const store = new SeriesStore();
  const log = { ...SILENT, error: vi.fn(), info: vi.fn() };
  return { store, log, collector: new Collector({ store, sources, log, sourceTimeoutMillis }) };
}

const names = (families: Iterable<{ readonly name: string; readonly points: readonly unknown[] }>) =>
  [...families].filter((family) => family.points.length > 0).map((family) => family.name);

test('sources run in order, one after the other, and share one collection among all who ask', async () => {
  const order: string[] = [];
  const { collector } = setup([
    {
      name: 'slow',
      async collect() {
        order.push('slow begins');
        await new Promise((resolve) => setTimeout(resolve, 5));
        order.push('slow ends');
      },
    },
    { name: 'quick', collect: () => void order.push('quick') },
  ]);
  const results = await Promise.all(Array.from({ length: 100 }, () => collector.collect()));
  expect(new Set(results).size).toBe(1);
  expect(order).toEqual(['slow begins', 'slow ends', 'quick']);
  expect(await collector.collect()).not.toBe(results[0]);
  expect(order).toHaveLength(6);
});

test('a failing source is counted and logged once per outage; the others go on', async () => {
  let broken = true;
  const store = new SeriesStore();
  const log = { ...SILENT, error: vi.fn(), info: vi.fn() };
  const collector = new Collector({
    store,
    log,
    sources: [
      {
        name: 'tcp',
        owns: ['tcp'],
        collect() {
          if (broken) throw new Error('map is gone');
        },
      },
      { name: 'http', owns: ['http'], collect: () => Promise.reject('no reason given') },
      {
        name: 'agent',
        owns: ['agent'],
        collect: () => store.counter('knp.agent.lost', { stage: 'x' }).add(1),
      },
    ],
  });
  for (let i = 0; i < 3; i++) {
    const { failures, valid } = await collector.collect();
    expect(Object.fromEntries(failures)).toEqual({ tcp: 'map is gone', http: 'no reason given' });
    expect(valid).toBe(true);
  }
  expect(log.error).toHaveBeenCalledTimes(2);
  expect(log.error.mock.calls[0]?.[0]).toEqual({ source: 'tcp', reason: 'map is gone' });
  broken = false;
  await collector.collect();
  expect(log.info).toHaveBeenCalledTimes(1);
  const { points } = store.family('knp.agent.source.failures');
  expect(Object.fromEntries(points.map((p) => [p.labels, p.value]))).toEqual({
    'source="tcp"': 3,
    'source="http"': 4,
    'source="agent"': 0,
  });
  expect([collector.wasRead('tcp'), collector.wasRead('http'), collector.wasRead('agent')]).toEqual([
    true,
    false,
    true,
  ]);
});

test('metrics of a source that failed are not shown, and come back with their totals', async () => {
  let broken = false;
  const store = new SeriesStore();
  const sent = store.counter('knp.tcp.sent_bytes', edge(1));
  const collector = new Collector({
    store,
    sources: [
      {
        name: 'tcp',
        owns: ['tcp'],
        collect() {
          if (broken) throw new Error('no');
          sent.add(1);
        },
      },
      { name: 'agent', owns: ['agent'], collect() {} },
    ],
  });
  expect(names((await collector.collect()).families)).toContain('knp.tcp.sent_bytes');
  broken = true;
  const during = names((await collector.collect()).families);
  expect(during).not.toContain('knp.tcp.sent_bytes');
  expect(during).toContain('knp.agent.source.failures');
  broken = false;
  const { families } = await collector.collect();
  expect(families.find((family) => family.name === 'knp.tcp.sent_bytes')?.points[0]?.value).toBe(2);
});

test('when every source fails, nothing is valid', async () => {
  const fail = () => Promise.reject(new Error('no'));
  const { collector } = setup([
    { name: 'tcp', owns: ['tcp'], collect: fail },
    { name: 'http', owns: ['http'], collect: fail },
  ]);
  expect((await collector.collect()).valid).toBe(false);
});

test('a source that hangs fails after its time, is not asked again meanwhile, and may recover', async () => {
  let release = () => {};
  let asked = 0;
  const { collector } = setup(
    [
      {
        name: 'hangs',
        collect() {
          asked++;
          return new Promise<void>((resolve) => {
            release = resolve;
          });
        },
      },
      { name: 'works', collect() {} },
    ],
    20,
  );
  expect((await collector.collect()).failures.get('hangs')).toBe('not done after 20 ms');
  expect((await collector.collect()).failures.get('hangs')).toBe('still busy with an earlier collection');
  expect([asked, collector.wasRead('works'), collector.wasRead('hangs')]).toEqual([1, true, false]);
  release();
  await new Promise((resolve) => setImmediate(resolve));
  // Too late for that collection, but read.
  expect(collector.wasRead('hangs')).toBe(true);
  const next = collector.collect();
  release();
  expect((await next).failures.size).toBe(0);
  expect(asked).toBe(2);
});

test('a source that fails after it was given up does no harm', async () => {
  let reject = (_: Error) => {};
  const { collector } = setup(
    [{ name: 'late', collect: () => new Promise<void>((_, no) => (reject = no)) }],
    5,
  );
  expect((await collector.collect()).failures.size).toBe(1);
  reject(new Error('too late to matter'));
  await new Promise((resolve) => setImmediate(resolve));
  expect(collector.wasRead('late')).toBe(false);
});

test('two sources of one name are a bug', () => {
  expect(() =>
    setup([
      { name: 'a', collect() {} },
      { name: 'a', collect() {} },
    ]),
  ).toThrow('source "a" already');
});

test('ending a collection of many series gives way to other work', async () => {
  const store = new SeriesStore({ seriesPerMetric: 100_000 });
  for (let i = 0; i < 60_000; i++) store.counter('knp.tcp.sent_bytes', edge(i)).add(1);
  const collector = new Collector({ store });
  let turns = 0;
  let running = true;
  const tick = () => {
    turns++;
    if (running) setImmediate(tick);
  };
  setImmediate(tick);
  const collection = await collector.collect();
  running = false;
  expect(collection.families.find((f) => f.name === 'knp.tcp.sent_bytes')?.points.length).toBe(60_000);
  expect(turns).toBeGreaterThan(0);
});
