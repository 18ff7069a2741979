// The exposition: compared sample for sample with OpenTelemetry's own exporter, linted by promtool, parsed strictly.
import { execFileSync } from 'node:child_process';
import { gunzipSync } from 'node:zlib';
import { ROOT_CONTEXT } from '@opentelemetry/api';
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import { describe, expect, test } from 'vitest';
import { allowedValues, attributeDefinition, CATALOGUE } from '../../../exporter/telemetry/catalogue.ts';
import { acceptsGzip, negotiateFormat } from '../../../exporter/telemetry/out/negotiation.ts';
import { writeExposition } from '../../../exporter/telemetry/out/prometheus.ts';
import { SharedBody } from '../../../exporter/telemetry/out/shared_body.ts';
import { type Family, type Gauge, type Histogram, SeriesStore } from '../../../exporter/telemetry/store.ts';
import { parseExposition, type Sample } from './exposition_parser.ts';
import { collect, edge, random } from './helpers.ts';

type Format = 'text' | 'openmetrics';
const render = (families: Iterable<Family>, format: Format) =>
  [...writeExposition(families, format)].join('');

/** Every metric of the catalogue with two series, every allowed value of closed labels used by one of them. */
function fullStore(): SeriesStore {
  const store = new SeriesStore();
  for (const family of store.families()) {
    const { definition } = family;
    for (let i = 0; i < 12; i++) {
      const attributes = Object.fromEntries(
        definition.attributes.map((name) => {
          const allowed = allowedValues(definition, name);
          if (allowed) return [name, allowed[i % allowed.length]];
          return [name, attributeDefinition(name).type === 'int' ? 200 + i : `${name} ${i}`];
        }),
      );
      const handle = family.handle(attributes);
      if (definition.kind === 'histogram') (handle as Histogram).observe(0.01 * (i + 1), i + 1);
      else if (definition.kind === 'counter') (handle as unknown as Gauge).add(i + 1);
      else (handle as Gauge).set(i);
    }
  }
  collect(store, 1);
  return store;
}

describe('lint and strict parsing', () => {
  test('promtool has nothing to say about a store filled with every metric of the catalogue', () => {
    const text = render(fullStore().families(), 'text');
    expect(new Set(text.match(/^# TYPE \S+/gm)).size).toBe(CATALOGUE.length);
    const output = execFileSync('promtool', ['check', 'metrics'], {
      input: text,
      encoding: 'utf8',
      stdio: 'pipe',
    });
    expect(output).toBe('');
    // The check can fail: promtool does speak about a counter without `_total`.
    const bad = '# HELP a_b help\n# TYPE a_b counter\na_b 1\n';
    expect(() => execFileSync('promtool', ['check', 'metrics'], { input: bad, stdio: 'pipe' })).toThrow();
  });

  test.each(['text', 'openmetrics'] as const)(
    '%s: every rule of the format holds for every metric',
    (format) => {
      const store = fullStore();
      const parsed = parseExposition(render(store.families(), format), format);
      expect(parsed.size).toBe(CATALOGUE.length);
      for (const family of store.families()) {
        const { kind } = family.definition;
        const counter = kind === 'counter' && format === 'openmetrics';
        const name = counter ? family.prometheusName.replace(/_total$/, '') : family.prometheusName;
        const { type, samples, help } = parsed.get(name) ?? { type: '', samples: [], help: '' };
        expect(type).toBe(kind === 'updowncounter' ? 'gauge' : kind);
        expect(help).toBe(family.definition.description);
        const lines = kind === 'histogram' ? family.bounds.length + 3 : 1;
        expect(samples).toHaveLength(family.points.length * lines);
      }
    },
  );

  test('OpenMetrics: units, exemplars, canonical bounds', () => {
    const store = new SeriesStore();
    const exemplar = {
      value: 0.03,
      traceId: 'a'.repeat(32),
      spanId: 'b'.repeat(16),
      timestampMillis: 1_700_000_000_123,
    };
    const attributes = { ...edge(1), 'http.request.method': 'GET' } as const;
    collect(store, 1, () => {
      const histogram = store.histogram('http.server.request.duration', attributes);
      histogram.observe(0.03);
      histogram.exemplar(exemplar);
    });
    const text = render(store.families(), 'openmetrics');
    const family = parseExposition(text, 'openmetrics').get('http_server_request_duration_seconds');
    expect(family?.unit).toBe('seconds');
    expect(family?.samples.filter((s) => s.exemplar).map((s) => [s.labels.le, s.exemplar])).toEqual([
      [
        '0.05',
        {
          labels: { trace_id: exemplar.traceId, span_id: exemplar.spanId },
          value: 0.03,
          time: 1_700_000_000.123,
        },
      ],
    ]);
    expect(text).toContain('le="1.0"');
    expect(render(store.families(), 'text')).not.toContain(' # ');
    expect(render(store.families(), 'text')).toContain('le="1"');
  });

  test('an empty store', () => {
    const store = new SeriesStore();
    expect(render(store.families(), 'text')).toBe('');
    expect(render(store.families(), 'openmetrics')).toBe('# EOF\n');
  });

  test('hostile label values survive the way there and back', () => {
    const values = [
      'a\nb',
      'a"b',
      'a\\b',
      '\\n',
      '\\',
      '"} 1\nx{y="',
      '💥é',
      '# EOF',
      ' # {trace_id="1"} 1 1',
    ];
    const store = new SeriesStore();
    for (const value of values)
      store.counter('knp.tcp.sent_bytes', { ...edge(1), client_workload: value }).add(1);
    collect(store, 1);
    for (const format of ['text', 'openmetrics'] as const) {
      const [family] = parseExposition(render(store.families(), format), format).values();
      expect(family?.samples.map((s) => s.labels.client_workload)).toEqual(values);
    }
  });
});

class Reader extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

/** Records the same observations with OpenTelemetry's SDK and with the store; gives both expositions as samples. */
async function both(): Promise<{ ours: Sample[]; stock: Sample[] }> {
  const store = new SeriesStore();
  const reader = new Reader();
  const meter = new MeterProvider({ readers: [reader] }).getMeter('test');
  const rand = random(42);
  const label = (attributes: Readonly<Record<string, unknown>>) => attributes as Record<string, string>;
  const instruments = {
    bytes: meter.createCounter('knp_tcp_sent_bytes', { unit: 'By' }),
    limited: meter.createCounter('knp_tcp_limited_seconds', { unit: 's' }),
    open: meter.createUpDownCounter('knp_tcp_connections'),
    delay: meter.createGauge('knp_agent_event_loop_hold_max_seconds', { unit: 's' }),
    rtt: meter.createHistogram('knp_tcp_rtt_seconds', {
      unit: 's',
      advice: { explicitBucketBoundaries: [...store.bounds('knp.tcp.rtt')] },
    }),
  };
  const names = [
    'plain',
    'new\nline',
    'quo"te',
    'back\\slash',
    'tab\there',
    '\u00fcml\u00e4ut \u{1f4a5}',
    '\\n',
  ];
  store.begin(1);
  for (let i = 0; i < 500; i++) {
    const attributes = { ...edge(names[i % names.length] ?? ''), server_service: 'web' };
    const seconds = rand() ** 6 * 20;
    const bytes = Math.floor(rand() * 2 ** 40);
    store.counter('knp.tcp.sent_bytes', attributes).add(bytes);
    instruments.bytes.add(bytes, label(attributes));
    store.counter('knp.tcp.limited', { ...attributes, by: 'send_buffer' }).add(seconds);
    instruments.limited.add(seconds, label({ ...attributes, by: 'send_buffer' }));
    const change = Math.floor(rand() * 9) - 3;
    store.gauge('knp.tcp.connections', attributes).add(change);
    instruments.open.add(change, label(attributes));
    store.histogram('knp.tcp.rtt', attributes).observe(seconds);
    instruments.rtt.record(seconds, label(attributes));
    // Exactly on a bound belongs to the bucket below.
    store.histogram('knp.tcp.rtt', attributes).observe(0.25);
    instruments.rtt.record(0.25, label(attributes));
  }
  store.gauge('knp.agent.event_loop.hold_max', {}).set(Number.NaN);
  instruments.delay.record(Number.NaN, {}, ROOT_CONTEXT);
  store.settleNow();
  const { resourceMetrics } = await reader.collect();
  const text = new PrometheusSerializer(undefined, false, undefined, true, true).serialize(resourceMetrics);
  // The stock exporter writes UNIT lines into the text format and count and sum before the buckets.
  const stock = parseLoosely(text);
  const ours = [...parseExposition(render(store.families(), 'text'), 'text').values()].flatMap((f) => [
    ...f.samples,
  ]);
  return { ours, stock };
}

function parseLoosely(text: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .flatMap((line) => {
      const name = line.replace(/[{ ].*/s, '');
      const [family] = parseExposition(`# TYPE ${name} untyped\n${line}\n`, 'text').values();
      return family?.samples ?? [];
    });
}

const identity = ({ name, labels }: Sample) => `${name} ${JSON.stringify(Object.entries(labels).sort())}`;

test("sample for sample the same as OpenTelemetry's own Prometheus exporter", async () => {
  const { ours, stock } = await both();
  const expected = new Map(stock.map((sample) => [identity(sample), sample.value]));
  expect(expected.size).toBe(stock.length);
  expect(ours.length).toBe(7 * (3 + 19) + 1);
  expect(new Map(ours.map((sample) => [identity(sample), sample.value]))).toEqual(expected);
});

test.each([
  [Number.NaN, 'NaN'],
  [Number.POSITIVE_INFINITY, '+Inf'],
  [Number.NEGATIVE_INFINITY, '-Inf'],
  [0, '0'],
  [-0, '0'],
  [1e21, '1e+21'],
  [5e-324, '5e-324'],
  [Number.MAX_SAFE_INTEGER, '9007199254740991'],
  [0.1, '0.1'],
])('value %d is written as %s', (value, text) => {
  const store = new SeriesStore();
  collect(store, 1, () => store.gauge('knp.agent.coverage_ratio', {}).set(value));
  const output = render(store.families(), 'openmetrics');
  expect(output).toContain(`knp_agent_coverage_ratio ${text}\n`);
  const [family] = parseExposition(output, 'openmetrics').values();
  expect(family?.samples[0]?.value).toEqual(value === 0 ? 0 : value);
});

describe('content negotiation', () => {
  test.each([
    [undefined, 'text'],
    ['', 'text'],
    ['*/*', 'text'],
    ['text/plain', 'text'],
    ['application/json', 'text'],
    ['application/openmetrics-text', 'openmetrics'],
    ['application/openmetrics-text;version=1.0.0;charset=utf-8', 'openmetrics'],
    ['application/openmetrics-text;version=9.0.0', 'text'],
    ['application/openmetrics-text;version=1.0.0;q=0', 'text'],
    ['application/openmetrics-text;q=0.4,text/plain;q=0.5', 'text'],
    ['text/plain, application/openmetrics-text', 'openmetrics'],
    ['text/plain;version=0.0.4;q=0.5, application/openmetrics-text; version="1.0.0"; q=0.75', 'openmetrics'],
    // What Prometheus 2.42 and 3.x send.
    [
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
    ],
    [
      'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
      'openmetrics',
    ],
    // A browser.
    ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'text'],
    [`${',;=q'.repeat(10_000)}`, 'text'],
  ] as const)('Accept: %s', (accept, format) => {
    expect(negotiateFormat(accept)).toBe(format);
  });

  test.each([
    [undefined, false],
    ['gzip', true],
    ['deflate, gzip;q=0.5', true],
    ['gzip;q=0', false],
    ['*', true],
    ['*;q=0', false],
    ['gzip;q=0, *', false],
    ['identity', false],
    ['gzip;q=nonsense', false],
  ] as const)('Accept-Encoding: %s', (field, expected) => {
    expect(acceptsGzip(field)).toBe(expected);
  });
});

describe('one body for many readers', () => {
  const pieces = () => Array.from({ length: 200 }, (_, i) => `${i} ${'x'.repeat(20_000)}\n`);

  function* counted(count: { pieces: number }): Generator<string, void, void> {
    for (const piece of pieces()) {
      count.pieces++;
      yield piece;
    }
  }

  async function all(body: SharedBody, pause = 0): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of body.read()) {
      chunks.push(chunk);
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    }
    return Buffer.concat(chunks);
  }

  test.each([false, true])(
    'quick, slow and leaving readers get the same, written once (gzip %s)',
    async (gzip) => {
      const produced = { pieces: 0 };
      const expected = pieces().join('');
      const body = new SharedBody(counted(produced), gzip);
      const leaver = (async () => {
        for await (const _ of body.read()) return;
      })();
      const results = await Promise.all([all(body), all(body), all(body, 1)]);
      await leaver;
      for (const result of results) expect((gzip ? gunzipSync(result) : result).toString()).toBe(expected);
      expect(produced.pieces).toBe(200);
      expect(body.joinable).toBe(false);
    },
  );

  test('when everybody left, writing stops', async () => {
    const produced = { pieces: 0 };
    const body = new SharedBody(counted(produced), false);
    for await (const _ of body.read()) break;
    expect(produced.pieces).toBeLessThan(5);
    expect(body.joinable).toBe(false);
  });
});
