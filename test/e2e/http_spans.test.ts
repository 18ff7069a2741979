// Spans of real requests, through the real agent, at a receiver of the test's own and at a real OpenTelemetry Collector:
// ids, times, parents, resources, what is sampled, exemplars, the live view, and that no secret gets out.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { endAll, freePort, h2load, Nginx, start as startPeer } from '../kernel/http/harness.ts';
import { buildCollector, CollectorProcess, cannotBuildCollector } from '../peers/collector/collector.ts';
import { type ReceivedSpan, Receiver } from '../unit/spans/receiver.ts';
import { BIN, killLeftovers, start } from './cli_process.ts';
import { HttpAgent } from './http/agent.ts';

const SERVER = 2;
const CLIENT = 3;
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';
const traceparent = (flags: string) => ['-H', `traceparent: 00-${TRACE}-${PARENT}-${flags}`];

const run = promisify(execFile);
const curl = (...args: string[]) => run('curl', ['-s', '-o', '/dev/null', ...args]);

/** Sampling settings and where spans go. */
function config(endpoint: string, sampling: object): string {
  return JSON.stringify({
    probes: { http: { sampling: { spans_per_second: 100_000, ...sampling } } },
    otlp: { traces: { enabled: true, endpoint, delay_millis: 50, queue_spans: 100_000 } },
  });
}

/** Python's threading server: a thread blocks for its request, so it is certain what it works on. */
async function startServer(...backend: string[]): Promise<number> {
  const port = await freePort();
  await startPeer(
    'python3',
    [join(import.meta.dirname, '../peers/http/server.py'), ...backend, String(port)],
    /ready/,
  );
  return port;
}

const nanos = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));
/** The clocks of test and agent are read at different moments, and the wall clock may be slewed in between. */
const SLACK = 5_000_000n;

let receiver: Receiver;
let agent: HttpAgent | undefined;

beforeEach(async () => {
  receiver = await new Receiver().start();
});
afterEach(async () => {
  await agent?.stop();
  agent = undefined;
  receiver.stop();
  await endAll();
  killLeftovers();
});

const measure = async (sampling: object) => {
  agent = await HttpAgent.start(config(receiver.endpoint, sampling));
  return agent;
};

const of = (port: number, kind?: number) =>
  receiver.spans.filter(
    (span) => span.attributes['server.port'] === port && (kind ?? span.kind) === span.kind,
  );

/** Waits for so many spans of a port, then a moment for one too many. */
async function arrived(port: number, count: number): Promise<ReceivedSpan[]> {
  for (let i = 0; i < 600 && of(port).length < count; i++) await sleep(50);
  await sleep(300);
  return of(port);
}

describe('every request sampled', () => {
  it('both ends continue the trace that came in, with times, attributes and resources as they were', async () => {
    await measure({ ratio: 1 });
    const port = await startServer();
    const before = nanos();
    await curl(
      ...traceparent('01'),
      '-H',
      'tracestate: rojo=1,congo=2',
      `http://127.0.0.1:${port}/sleep/9?millis=40`,
    );
    const after = nanos();
    const spans = await arrived(port, 2);
    expect(spans.map(({ kind }) => kind).sort()).toEqual([SERVER, CLIENT]);
    for (const span of spans) {
      expect(span).toMatchObject({
        traceId: TRACE,
        parentSpanId: PARENT,
        traceState: 'rojo=1,congo=2',
        name: 'GET /sleep/{id}',
        statusCode: 0,
        links: [],
        attributes: {
          'http.request.method': 'GET',
          'http.response.status_code': 200,
          'server.address': '127.0.0.1',
          'server.port': port,
          'url.scheme': 'http',
          'network.protocol.version': '1.1',
          'knp.sampling.reason': 'parent',
        },
      });
      expect(span.start).toBeGreaterThan(before - SLACK);
      expect(span.end).toBeLessThan(after + SLACK);
      expect(span.end - span.start).toBeGreaterThanOrEqual(40_000_000n);
    }
    const [server, client] = [SERVER, CLIENT].map((kind) => of(port, kind)[0]);
    expect(server?.resource['service.name']).toMatch(/^python3/);
    expect(client?.resource['service.name']).toBe('curl');
    expect(client?.attributes['peer.service']).toBe(server?.resource['service.name']);
    expect(server?.spanId).not.toBe(client?.spanId);
    // The client began before the server read, on one clock.
    expect(client?.start).toBeLessThanOrEqual((server?.start ?? 0n) + SLACK);
  });

  it('a call made by the thread that serves a request is a child of its span', async () => {
    await measure({ ratio: 1 });
    const backend = await startServer();
    const front = await startServer(`http://127.0.0.1:${backend}`);
    for (let i = 0; i < 5; i++) await curl(`http://127.0.0.1:${front}/front`);
    await curl(...traceparent('01'), `http://127.0.0.1:${front}/front`);
    await arrived(front, 12);
    const calls = (await arrived(backend, 12)).filter(({ kind }) => kind === CLIENT);
    const served = of(front, SERVER);
    expect([served.length, calls.length]).toEqual([6, 6]);
    for (const parent of served) {
      const children = calls.filter(({ parentSpanId }) => parentSpanId === parent.spanId);
      expect(children).toHaveLength(1);
      expect(children[0]?.traceId).toBe(parent.traceId);
      expect(children[0]?.start).toBeGreaterThanOrEqual(parent.start - SLACK);
      expect(children[0]?.end).toBeLessThanOrEqual(parent.end + SLACK);
    }
    expect(served.filter(({ traceId }) => traceId === TRACE)).toMatchObject([{ parentSpanId: PARENT }]);
    // Without a context in the request nothing ties the server behind to it: it begins a trace.
    expect(of(backend, SERVER).map(({ parentSpanId }) => parentSpanId)).toEqual(Array(6).fill(''));
    expect(new Set(receiver.spans.map(({ spanId }) => spanId)).size).toBe(receiver.spans.length);
  });

  it('exemplars on the buckets name traces that arrived', async () => {
    const running = await measure({ ratio: 1 });
    const port = await startServer();
    const millis = [1, 15, 60];
    const ask = async () => {
      for (const rest of millis) await curl(`http://127.0.0.1:${port}/sleep/${rest}?millis=${rest}`);
    };
    // A series is made at the first collection that sees its route; what comes later may leave exemplars.
    await ask();
    await running.settled((s) => s.requests('client', { server_port: port }, ['http_route']));
    await ask();
    const spans = await arrived(port, 12);
    const { samples } = await running.scrape('application/openmetrics-text; version=1.0.0');
    for (const [side, kind] of [
      ['server', SERVER],
      ['client', CLIENT],
    ] as const) {
      const exemplars = samples.filter(
        ({ name, labels, exemplar }) =>
          name === `http_${side}_request_duration_seconds_bucket` &&
          labels.server_port === String(port) &&
          exemplar !== undefined,
      );
      expect(exemplars.length).toBeGreaterThan(0);
      for (const { labels, exemplar } of exemplars) {
        const span = spans.find((s) => s.kind === kind && s.traceId === exemplar?.trace_id);
        expect(span, `${side} ${labels.le}`).toBeDefined();
        expect(span?.spanId).toBe(exemplar?.span_id);
        const le = labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le);
        expect(Number((span?.end ?? 0n) - (span?.start ?? 0n)) / 1e9).toBeLessThanOrEqual(le);
      }
    }
  });

  it('query strings, credentials and cookies are nowhere: spans, metrics, live view, logs', async () => {
    const running = await measure({ ratio: 1 });
    const port = await startServer();
    const watch = start([BIN, 'trace', '--json', '--from', running.url]);
    const secret = 'hunter2secret';
    const ask = () =>
      curl(
        ...[
          '-H',
          `Authorization: Bearer ${secret}`,
          '-H',
          `Cookie: session=${secret}`,
          '-d',
          `password=${secret}`,
        ],
        `http://${secret}:${secret}@127.0.0.1:${port}/echo?token=${secret}&next=%2F${secret}`,
      );
    for (let i = 0; i < 100 && !watch.output.stdout.includes(`"server_port":${port}`); i++) {
      await ask();
      await sleep(100);
    }
    expect(watch.output.stdout).toContain('"target":"/echo"');
    watch.child.kill('SIGINT');
    await watch.ended;
    const spans = await arrived(port, 2);
    expect(spans.length).toBeGreaterThan(0);
    const metrics = (
      await running.settled((s) => s.requests('client', { server_port: port }, ['http_route']))
    ).text;
    const { log } = await running.stop();
    agent = undefined;
    const everything = [
      JSON.stringify(spans, (_, v) => (typeof v === 'bigint' ? String(v) : v)),
      metrics,
      log,
    ];
    for (const text of [...everything, watch.output.stdout, watch.output.stderr])
      expect(text).not.toContain(secret);
  });
});

describe('what is sampled', () => {
  it('errors and slow requests always, the rest by its share of none; a sampled parent is honoured', async () => {
    await measure({ ratio: 0, slow_millis: 150 });
    const port = await startServer();
    const base = `http://127.0.0.1:${port}`;
    for (let i = 0; i < 20; i++)
      await curl(`${base}/ping/1`, '--next', '-s', '-o', '/dev/null', `${base}/missing`);
    for (let i = 0; i < 10; i++) await curl(`${base}/broken`);
    for (let i = 0; i < 3; i++) await curl(`${base}/sleep/slow?millis=160`);
    await curl(...traceparent('01'), `${base}/ping/2`);
    await curl(...traceparent('00'), `${base}/ping/3`);
    const spans = await arrived(port, 28);
    const table: Record<string, number> = {};
    for (const { kind, name, statusCode, attributes } of spans) {
      // A busy machine may make any request slow.
      if (attributes['knp.sampling.reason'] === 'slow' && name !== 'GET /sleep/slow') continue;
      const row = `${kind === SERVER ? 'server' : 'client'} ${name} ${attributes['knp.sampling.reason']} ${statusCode}`;
      table[row] = (table[row] ?? 0) + 1;
    }
    expect(table).toEqual({
      'server GET /broken error 2': 10,
      'client GET /broken error 2': 10,
      'server GET /sleep/slow slow 0': 3,
      'client GET /sleep/slow slow 0': 3,
      'server GET /ping/{id} parent 0': 1,
      'client GET /ping/{id} parent 0': 1,
    });
  });

  it('a share of the rest, and every span that was made arrives', async () => {
    const running = await measure({ ratio: 0.05, slow_millis: 0, errors: false });
    const nginx = await Nginx.start('location / { return 200 "hello\\n"; }', { log: false });
    const requests = 20_000;
    await h2load(nginx.url('/x'), requests, 16);
    nginx.remove();
    const scrape = await running.settled((s) =>
      s.requests('client', { server_port: nginx.port }, ['http_route']),
    );
    for (let i = 0; i < 100 && (await running.scrape()).sum('knp_spans_queued') > 0; i++) await sleep(50);
    const spans = await arrived(nginx.port, 0);
    // Six standard deviations of a binomial distribution: one run in 10^8 is beyond.
    const expected = requests * 0.05;
    const deviation = Math.sqrt(requests * 0.05 * 0.95);
    for (const kind of [SERVER, CLIENT]) {
      const count = spans.filter((span) => span.kind === kind).length;
      expect(Math.abs(count - expected)).toBeLessThan(6 * deviation);
    }
    const { http_malformed: _, ...losses } = scrape.losses();
    expect(losses).toEqual({});
    expect((await running.scrape()).sum('knp_spans_dropped_total')).toBe(0);
  });

  it('the limit per second holds, and what is over it is counted', async () => {
    const running = await measure({ ratio: 1, spans_per_second: 50 });
    const nginx = await Nginx.start('location / { return 200 "hello\\n"; }', { log: false });
    const requests = 20_000;
    const began = performance.now();
    await h2load(nginx.url('/x'), requests, 16);
    const took = (performance.now() - began) / 1000;
    nginx.remove();
    const spans = await arrived(nginx.port, 0);
    expect(spans.length).toBeGreaterThan(0);
    expect(spans.length).toBeLessThanOrEqual(50 * (Math.ceil(took) + 1));
    const scrape = await running.settled((s) => s.losses());
    // Other requests of this host may be among the lost.
    expect(spans.length + (scrape.losses().http_span_limit ?? 0)).toBeGreaterThanOrEqual(2 * requests);
  });
});

describe.skipIf(cannotBuildCollector() !== undefined)('a real Collector', () => {
  beforeAll(async () => {
    await buildCollector();
  }, 900_000);

  it('receives the same: trace, parent, kind, route, status and workload of a real request', async () => {
    const collector = await CollectorProcess.start();
    try {
      agent = await HttpAgent.start(config(collector.endpoint, { ratio: 1 }));
      const port = await startServer();
      await curl(...traceparent('01'), `http://127.0.0.1:${port}/broken?token=s3cret`);
      const own = () => collector.spans().filter((span) => span.attributes['server.port'] === `Int(${port})`);
      for (let i = 0; i < 400 && own().length < 2; i++) await sleep(50);
      const spans = own().sort((a, b) => a.kind.localeCompare(b.kind));
      expect(spans).toMatchObject([
        { kind: 'Client', resource: { 'service.name': 'Str(curl)' } },
        { kind: 'Server', resource: { 'service.name': expect.stringMatching(/^Str\(python3/) } },
      ]);
      for (const span of spans)
        expect(span).toMatchObject({
          traceId: TRACE,
          parentId: PARENT,
          name: 'GET /broken',
          statusCode: 'Error',
          attributes: {
            'http.response.status_code': 'Int(503)',
            'error.type': 'Str(503)',
            'knp.sampling.reason': 'Str(error)',
          },
        });
      expect(JSON.stringify(spans, (_, v) => (typeof v === 'bigint' ? String(v) : v))).not.toContain(
        's3cret',
      );
    } finally {
      await collector.stop();
    }
  });
});
