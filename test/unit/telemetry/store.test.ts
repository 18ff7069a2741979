// The store: exact sums under folding and churn, expiry, hostile values, bounded memory.
import { describe, expect, test } from 'vitest';
import { CATALOGUE } from '../../../exporter/telemetry/catalogue.ts';
import { parseLabels } from '../../../exporter/telemetry/label_text.ts';
import { type Counter, type Gauge, type Point, SeriesStore } from '../../../exporter/telemetry/store.ts';
import { collect, edge, random } from './helpers.ts';

const SENT = 'knp.tcp.sent_bytes';
const total = (points: readonly Point[]) => points.reduce((sum, point) => sum + point.value, 0);
const named = (points: readonly Point[]) =>
  points.filter((p) => !p.labels.includes('client_workload="other"'));
const other = (points: readonly Point[]) =>
  points.filter((p) => p.labels.includes('client_workload="other"'));
const client = (point: Point) => Object.fromEntries(parseLabels(point.labels)).client_workload;

describe('handles', () => {
  test('one series per set of attributes, whatever the order and however often asked for', () => {
    const store = new SeriesStore();
    const a = store.counter(SENT, edge(1));
    const { transport, ...rest } = edge(1);
    const b = store.counter(SENT, { transport, ...rest });
    expect(b).toBe(a);
    collect(store, 1, () => {
      a.add(2);
      b.add(3);
    });
    expect(store.family(SENT).points.map((p) => p.value)).toEqual([5]);
  });

  test('an empty and an absent attribute are the same series', () => {
    const store = new SeriesStore();
    const bare = store.counter(SENT, { ...edge(1), client_namespace: '' });
    expect(store.counter(SENT, { ...edge(1), client_namespace: '', server_service: undefined })).toBe(bare);
    collect(store, 1);
    expect(store.family(SENT).points[0]?.labels).not.toContain('client_namespace');
  });

  test('a value outside a closed set and an unknown attribute are bugs, and say so', () => {
    const store = new SeriesStore();
    expect(() => store.counter('knp.tcp.resets', { ...edge(1), direction: 'up' as 'sent' })).toThrow(
      'knp.tcp.resets: direction may be sent, received, not "up"',
    );
    const wrong = { ...edge(1), colour: 'red' };
    expect(() => store.counter(SENT, wrong)).toThrow('knp.tcp.sent_bytes has no attribute "colour"');
  });

  test('counters refuse what would make them wrong, and count the refusal', () => {
    const store = new SeriesStore();
    const counter = store.counter(SENT, edge(1));
    collect(store, 1, () => {
      for (const n of [1, -1, Number.NaN, Number.POSITIVE_INFINITY, 0]) counter.add(n);
    });
    expect(store.family(SENT).points[0]?.value).toBe(1);
    expect(store.family(SENT).refused).toBe(3);
  });

  test('counters are exact up to 2^53', () => {
    const store = new SeriesStore();
    const counter = store.counter(SENT, edge(1));
    collect(store, 1, () => {
      counter.add(2 ** 53 - 2);
      counter.add(1);
    });
    expect(store.family(SENT).points[0]?.value).toBe(9_007_199_254_740_991);
  });

  test('histograms: buckets are inclusive upper bounds, sums and counts follow', () => {
    const store = new SeriesStore({ buckets: { 'knp.tcp.rtt': [1, 2, 4] } });
    const histogram = store.histogram('knp.tcp.rtt', edge(1));
    expect(store.bounds('knp.tcp.rtt')).toEqual([1, 2, 4]);
    collect(store, 1, () => {
      histogram.addBuckets([1, 0, 2, 3], 50);
      for (const value of [0, 1, 1.5, 2, 4, 4.1]) histogram.observe(value);
      histogram.observe(3, 10);
    });
    const [point] = store.family('knp.tcp.rtt').points;
    expect([...(point?.counts ?? [])]).toEqual([3, 2, 13, 4]);
    expect(point?.value).toBe(22);
    expect(point?.sum).toBeCloseTo(50 + 12.6 + 30, 9);
    expect(() => histogram.addBuckets([1], 1)).toThrow('1 buckets given, 4 expected');
    histogram.addBuckets([1, -1, 0, 0], 1);
    histogram.addBuckets([1, 1, 0, 0], Number.NaN);
    histogram.observe(-1);
    expect(store.family('knp.tcp.rtt').refused).toBe(3);
    expect(point?.value).toBe(22);
  });
});

describe('the limit', () => {
  test('up to the limit nothing folds', () => {
    const store = new SeriesStore({ seriesPerMetric: 10 });
    collect(store, 1, () => {
      for (let i = 0; i < 10; i++) store.counter(SENT, edge(i)).add(1);
    });
    const { points, foldedCount } = store.family(SENT);
    expect([named(points).length, other(points).length, foldedCount]).toEqual([10, 0, 0]);
  });

  test('beyond it the largest keep their names and the rest is one series, sums exact', () => {
    const store = new SeriesStore({ seriesPerMetric: 10 });
    collect(store, 1, () => {
      for (let i = 0; i < 1000; i++) store.counter(SENT, edge(i)).add(i + 1);
    });
    const { points, foldedCount } = store.family(SENT);
    expect(named(points).map(client).sort()).toEqual(
      Array.from({ length: 10 }, (_, i) => `client-${990 + i}`).sort(),
    );
    expect(other(points).map((p) => p.value)).toEqual([(990 * 991) / 2]);
    expect(total(points)).toBe(500_500);
    expect(foldedCount).toBe(990);
  });

  test('closed labels and the status code keep their value in the fold', () => {
    const store = new SeriesStore({ seriesPerMetric: 10 });
    const rest = { 'http.request.method': 'GET', 'url.scheme': 'http' } as const;
    collect(store, 1, () => {
      for (let i = 0; i < 100; i++) {
        const status = i % 2 === 0 ? 200 : 500;
        const attributes = {
          ...edge(i),
          ...rest,
          'http.response.status_code': status,
          'http.route': `/${i}`,
        };
        store.histogram('http.server.request.duration', attributes).observe(0.01);
      }
    });
    const folds = other(store.family('http.server.request.duration').points);
    expect(folds.map((p) => Object.fromEntries(parseLabels(p.labels)).http_response_status_code)).toEqual([
      '200',
      '500',
    ]);
    expect(folds[0]?.labels).toContain('reporter="client"');
    expect(folds[0]?.labels).toContain('http_route="other"');
    expect(folds[0]?.labels).not.toContain('zone');
  });

  test('invented status codes cannot grow the folds: they fold as well, sums exact', () => {
    const store = new SeriesStore({ seriesPerMetric: 10 });
    collect(store, 1, () => {
      for (let i = 0; i < 5000; i++) {
        const attributes = {
          ...edge(i),
          'http.request.method': 'GET',
          'http.response.status_code': i,
        } as const;
        store.histogram('http.server.request.duration', attributes).observe(0.01);
      }
    });
    const { points } = store.family('http.server.request.duration');
    expect(total(points)).toBe(5000);
    expect(points.length).toBeLessThanOrEqual(10 + 16 + 1);
  });

  test('a series that grew takes the name of a small one; the old series stays unchanged until it expires', () => {
    const store = new SeriesStore({ seriesPerMetric: 10, idleMillis: 1000 });
    const handles = Array.from({ length: 20 }, (_, i) => store.counter(SENT, edge(i)));
    collect(store, 1, () => {
      for (const [i, handle] of handles.entries()) handle.add(i < 10 ? 100 : 1);
    });
    expect(named(store.family(SENT).points).map(client)).not.toContain('client-15');
    for (let round = 0; round < 5; round++) {
      collect(store, 2 + round, () => handles[15]?.add(100_000));
    }
    const { points } = store.family(SENT);
    expect(named(points).map(client)).toContain('client-15');
    expect(named(points)).toHaveLength(11);
    expect(total(points)).toBe(10 * 100 + 10 + 500_000);
    const labels = points.map((p) => p.labels);
    expect(new Set(labels).size).toBe(labels.length);
  });

  test('a series that lost its name and wins it back goes on from where it was', () => {
    const store = new SeriesStore({ seriesPerMetric: 10, idleMillis: 100_000 });
    const handles = Array.from({ length: 11 }, (_, i) => store.counter(SENT, edge(i)));
    const [first, last] = [handles[0], handles[10]];
    const value = (name: string) => named(store.family(SENT).points).find((p) => client(p) === name)?.value;
    collect(store, 1, () => {
      for (const handle of handles.slice(0, 10)) handle.add(1000);
    });
    for (let round = 2; round < 40; round++) {
      collect(store, round, () => {
        for (const handle of handles.slice(1)) handle.add(1000);
      });
    }
    expect(value('client-10')).toBe(37_000);
    expect(value('client-0')).toBe(1000);
    collect(store, 50, () => first?.add(1_000_000));
    expect(value('client-0')).toBe(1_001_000);
    collect(store, 51, () => last?.add(5));
    expect(total(store.family(SENT).points)).toBe(10_000 + 38 * 10_000 + 1_000_000 + 5);
    const labels = store.family(SENT).points.map((p) => p.labels);
    expect(new Set(labels).size).toBe(labels.length);
  });

  test('beyond what is remembered one by one, handles count straight into the fold, after its expiry too', () => {
    const store = new SeriesStore({ seriesPerMetric: 10, idleMillis: 1000 });
    const handles = Array.from({ length: 66_000 }, (_, i) => store.counter(SENT, edge(i)));
    expect(handles[65_999]).toBe(handles[65_998]);
    collect(store, 1, () => handles[65_999]?.add(3));
    expect(other(store.family(SENT).points).map((p) => p.value)).toEqual([3]);
    collect(store, 5000);
    expect(store.family(SENT).points).toEqual([]);
    collect(store, 6000, () => handles[65_999]?.add(4));
    expect(total(store.family(SENT).points)).toBe(4);
  });

  test('a workload really called "other" joins the fold instead of doubling it', () => {
    const store = new SeriesStore({ seriesPerMetric: 10 });
    const names = [
      'client_workload',
      'client_namespace',
      'client_kind',
      'server_workload',
      'server_namespace',
    ];
    const all = Object.fromEntries(
      [...names, 'server_kind', 'server_service', 'server_port'].map((n) => [n, 'other']),
    );
    collect(store, 1, () => {
      for (let i = 0; i < 50; i++) {
        store.counter(SENT, edge(i)).add(1);
        store.gauge('knp.tcp.connections', edge(i)).set(1);
      }
      store.counter(SENT, { ...edge(0), ...all }).add(7);
      store.gauge('knp.tcp.connections', { ...edge(0), ...all }).set(7);
    });
    for (const metric of [SENT, 'knp.tcp.connections'] as const) {
      const { points } = store.family(metric);
      expect(other(points)).toHaveLength(1);
      expect(total(points)).toBe(57);
    }
  });

  test.each([1, 2, 3, 4, 5])(
    'sums stay exact and no counter goes back under random churn (seed %i)',
    (seed) => {
      const rand = random(seed);
      const limit = 10 + Math.floor(rand() * 30);
      const store = new SeriesStore({ seriesPerMetric: limit, idleMillis: 1e12 });
      const counters = new Map<number, Counter>();
      const gauges = new Map<number, Gauge>();
      const open = new Map<number, number>();
      const exposed = new Map<string, number>();
      let sent = 0;
      let observations = 0;
      let seconds = 0;
      for (let round = 1; round <= 60; round++) {
        collect(store, round * 1000, () => {
          for (let k = 0; k < 50; k++) {
            const id = Math.floor(rand() ** 2 * 200);
            const n = Math.floor(1 / (rand() + 1e-5));
            if (!counters.has(id) || rand() < 0.1) counters.set(id, store.counter(SENT, edge(id)));
            counters.get(id)?.add(n);
            sent += n;
            store.histogram('knp.tcp.rtt', edge(id)).observe(n / 1000, 2);
            observations += 2;
            seconds += (n / 1000) * 2;
            if (!gauges.has(id)) gauges.set(id, store.gauge('knp.tcp.connections', edge(id)));
            open.set(id, Math.floor(rand() * 20));
            gauges.get(id)?.set(open.get(id) ?? 0);
          }
        });
        const { points } = store.family(SENT);
        expect(total(points)).toBe(sent);
        const rtt = store.family('knp.tcp.rtt').points;
        expect(total(rtt)).toBe(observations);
        expect(rtt.reduce((sum, p) => sum + [...(p.counts ?? [])].reduce((a, b) => a + b, 0), 0)).toBe(
          observations,
        );
        expect(rtt.reduce((sum, p) => sum + p.sum, 0)).toBeCloseTo(seconds, 3);
        expect(total(store.family('knp.tcp.connections').points)).toBe(
          [...open.values()].reduce((a, b) => a + b, 0),
        );
        expect(points.length).toBeLessThanOrEqual(limit + Math.max(1, Math.floor(limit / 10)) + 1);
        const now = new Map(points.map((p) => [p.labels, p.value]));
        expect(now.size).toBe(points.length);
        for (const [labels, value] of exposed) expect(now.get(labels) ?? value).toBeGreaterThanOrEqual(value);
        exposed.clear();
        for (const [labels, value] of now) exposed.set(labels, value);
      }
    },
  );

  test('a slow reader of an older collection never sees a counter fall', () => {
    const rand = random(7);
    const store = new SeriesStore({ seriesPerMetric: 10, idleMillis: 3000 });
    let held: { point: Point; value: number }[] = [];
    for (let round = 1; round < 200; round++) {
      collect(store, round * 1000, () => {
        for (let k = 0; k < 20; k++)
          store.counter(SENT, edge(Math.floor(rand() * 60))).add(Math.floor(1 / rand()));
      });
      for (const { point, value } of held) expect(point.value).toBeGreaterThanOrEqual(value);
      if (round % 5 === 0) held = store.family(SENT).points.map((point) => ({ point, value: point.value }));
    }
  });
});

describe('expiry', () => {
  test('a series goes after the idle time and comes back from zero, with a new start', () => {
    const store = new SeriesStore({ idleMillis: 300_000, startMillis: 0 });
    const handle = store.counter(SENT, edge(1));
    collect(store, 1000, () => handle.add(5));
    collect(store, 300_999);
    expect(store.family(SENT).points.map((p) => [p.value, p.startMillis])).toEqual([[5, 0]]);
    collect(store, 301_000);
    expect(store.family(SENT).points).toEqual([]);
    collect(store, 400_000, () => handle.add(2));
    expect(store.family(SENT).points.map((p) => [p.value, p.startMillis])).toEqual([[2, 301_000]]);
  });

  test('retain keeps it: its workload is active although nothing is counted', () => {
    const store = new SeriesStore({ idleMillis: 300_000 });
    const failures = store.counter('knp.tcp.connect_failures', { ...edge(1), reason: 'refused' });
    failures.add(1);
    for (let minute = 1; minute < 60; minute++) collect(store, minute * 60_000, () => failures.retain());
    expect(store.family('knp.tcp.connect_failures').points.map((p) => p.value)).toEqual([1]);
  });

  test('adding zero is no activity', () => {
    const store = new SeriesStore({ idleMillis: 1000 });
    const handle = store.counter(SENT, edge(1));
    for (let now = 1; now < 10; now++) collect(store, now * 500, () => handle.add(0));
    expect(store.family(SENT).points).toEqual([]);
  });

  test('two handles of one series, both expired, count into one', () => {
    const store = new SeriesStore({ idleMillis: 1000 });
    const first = store.counter(SENT, edge(1));
    collect(store, 1000, () => first.add(1));
    collect(store, 3000);
    const second = store.counter(SENT, edge(1));
    expect(second).not.toBe(first);
    collect(store, 4000, () => {
      second.add(10);
      first.add(100);
    });
    collect(store, 9000);
    collect(store, 10_000, () => {
      first.add(1);
      second.add(2);
    });
    expect(store.family(SENT).points.map((p) => p.value)).toEqual([3]);
  });

  test('open connections that are idle are still open', () => {
    const store = new SeriesStore({ idleMillis: 1000 });
    const open = store.gauge('knp.tcp.connections', edge(1));
    collect(store, 1, () => open.add(3));
    collect(store, 10_000);
    expect(store.family('knp.tcp.connections').points.map((p) => p.value)).toEqual([3]);
    collect(store, 11_000, () => open.add(-3));
    collect(store, 20_000);
    expect(store.family('knp.tcp.connections').points).toEqual([]);
  });

  test("the agent's own series stay", () => {
    const store = new SeriesStore({ idleMillis: 1000 });
    store.counter('knp.agent.lost', { stage: 'ring_buffer' }).add(1);
    collect(store, 1);
    collect(store, 1e9);
    expect(store.family('knp.agent.lost').points.map((p) => p.value)).toEqual([1]);
  });

  test('the fold expires too, and a handle that went to it still counts', () => {
    const store = new SeriesStore({ seriesPerMetric: 10, idleMillis: 1000 });
    const handles = Array.from({ length: 30 }, (_, i) => store.counter(SENT, edge(i)));
    collect(store, 1, () => {
      for (const handle of handles) handle.add(1);
    });
    expect(total(store.family(SENT).points)).toBe(30);
    collect(store, 5000);
    expect(store.family(SENT).points).toEqual([]);
    collect(store, 6000, () => {
      for (const handle of handles) handle.add(2);
    });
    expect(total(store.family(SENT).points)).toBe(60);
  });
});

describe('hostile values', () => {
  const hostile = [
    'line\nbreak',
    'quote"inside',
    'back\\slash\\',
    '\\"',
    'nul\u0000byte',
    '\u001b[31mred',
    '\ud800 lone surrogate',
    Buffer.from([0xff, 0xfe, 0x41]).toString('utf8'),
    'x'.repeat(10_000_000),
    '💥'.repeat(300),
    '"} 1\nfake_metric{a="b',
    '__name__',
    ' ',
  ];

  const controls = (text: string) => [...text].some((c) => c < ' ' && c !== '\n' && c !== '\t');

  test('are bounded, valid and come back unharmed from the label string', () => {
    const store = new SeriesStore();
    for (const value of hostile) store.counter(SENT, { ...edge(1), client_workload: value }).add(1);
    collect(store, 1);
    const { points } = store.family(SENT);
    expect(points).toHaveLength(hostile.length);
    for (const [i, point] of points.entries()) {
      const value = client(point) ?? '';
      const original = hostile[i] ?? '';
      expect(value.length).toBeLessThanOrEqual(256);
      expect(value.isWellFormed()).toBe(true);
      expect(controls(value)).toBe(false);
      expect(point.labels).not.toContain('\n');
      expect(parseLabels(point.labels)).toHaveLength(9);
      if (original.length <= 256 && original.isWellFormed() && !controls(original)) {
        expect(value).toBe(original);
      }
    }
  });

  test('a cut value does not keep the long one alive', () => {
    const store = new SeriesStore();
    const before = process.memoryUsage();
    for (let i = 0; i < 200; i++) {
      const long = `${i}-${Buffer.alloc(1_000_000, 65).toString('latin1')}`;
      store.counter(SENT, { ...edge(1), client_workload: long }).add(1);
    }
    const after = process.memoryUsage();
    collect(store, 1);
    expect(store.family(SENT).points).toHaveLength(200);
    // 200 MB went through; what stays is far less even before garbage is collected.
    expect(after.heapUsed + after.external - before.heapUsed - before.external).toBeLessThan(150e6);
  });
});

test('memory is bounded: endless new series leave a bounded number of handles and points', () => {
  const store = new SeriesStore({ seriesPerMetric: 100, idleMillis: 1000 });
  let sent = 0;
  for (let round = 1; round <= 2; round++) {
    collect(store, round * 100, () => {
      for (let i = 0; i < 40_000; i++) {
        store.counter(SENT, edge(`${round}-${i}`)).add(1);
        store.gauge('knp.tcp.connections', edge(`${round}-${i}`)).set(1);
        sent++;
      }
    });
    expect(total(store.family(SENT).points)).toBe(sent);
    expect(store.family(SENT).points.length).toBeLessThanOrEqual(111);
  }
  expect(store.family(SENT).size).toBeLessThanOrEqual(100 + 65_536);
  // Gauges beyond what can be remembered are refused, never silently dropped.
  const open = store.family('knp.tcp.connections');
  expect(total(open.points) + open.refused).toBe(sent);
});

test('every metric of the catalogue can be filled', () => {
  const store = new SeriesStore();
  expect([...store.families()].map((f) => f.name)).toEqual(CATALOGUE.map((m) => m.name));
});
