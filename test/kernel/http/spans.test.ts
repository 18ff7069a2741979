// Sampled requests: which are taken, what their records say, and whose children they are.
import http from 'node:http';
import { afterEach, expect, it } from 'vitest';
import type { Config } from '../../../exporter/config/schema.ts';
import { defaultConfig } from '../../../exporter/config/schema.ts';
import { HTTP_REQUESTS, type HttpDetail } from '../../../exporter/probes/http/requests.ts';
import { errorTypeOf } from '../../../exporter/telemetry/requests/protocol.ts';
import type { SpanRecord } from '../../../exporter/telemetry/spans/types.ts';
import { endAll, freePort, h2load, listen, Nginx, Probe, run, start } from './harness.ts';

let probe: Probe;
let records: SpanRecord[];

function load(sampling: Partial<Config['probes']['http']['sampling']>): void {
  records = [];
  probe = new Probe({
    http: { sampling: { ...defaultConfig().probes.http.sampling, ...sampling } },
    spans: {
      active: true,
      accept: (record) => {
        records.push(record);
        return {
          traceId: record.context?.traceId ?? record.parent?.traceId ?? record.traceId ?? '',
          spanId: record.spanId ?? '',
        };
      },
    },
  });
}

afterEach(async () => {
  probe?.close();
  await endAll();
});

const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis));

async function recordsOf(port: number): Promise<{ client: SpanRecord[]; server: SpanRecord[] }> {
  await sleep(50);
  await probe.collect();
  const mine = records
    .filter((r) => r.serverPort === port)
    .sort((a, b) => Number(a.startUnixNano - b.startUnixNano));
  return { client: mine.filter((r) => r.kind === 'client'), server: mine.filter((r) => r.kind === 'server') };
}

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';

async function nodeServer(
  handler: http.RequestListener,
): Promise<{ port: number; close: () => Promise<void> }> {
  const server = http.createServer(handler);
  return {
    port: await listen(server),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const curl = (...args: string[]) => run('curl', ['-sS', '-o', '/dev/null', ...args]);

it('errors and slow requests are taken, others are not', async () => {
  load({ ratio: 0, slow_millis: 500, errors: true, spans_per_second: 100_000 });
  const own = await nodeServer((request, response) => {
    response.statusCode = request.url === '/broken' ? 503 : request.url === '/missing' ? 404 : 200;
    setTimeout(() => response.end('x'), request.url === '/slow' ? 700 : 0);
  });
  for (const path of ['/fine', '/broken', '/missing', '/slow', '/fine'])
    await curl(`http://127.0.0.1:${own.port}${path}`);
  await run('curl', ['-sS', '-m', '0.3', `http://127.0.0.1:${own.port}/slow`]).catch(() => {});
  await sleep(200);
  const { client, server } = await recordsOf(own.port);
  const rows = (list: SpanRecord[]) => list.map((r) => [r.target, r.status, r.reason, errorTypeOf(r)]);
  expect(rows(server)).toEqual([
    ['/broken', 503, 'error', '503'],
    ['/slow', 200, 'slow', undefined],
    ['/slow', undefined, 'error', 'connection_closed'],
  ]);
  expect(rows(client)).toEqual([
    ['/broken', 503, 'error', '503'],
    ['/slow', 200, 'slow', undefined],
    ['/slow', undefined, 'error', 'connection_closed'],
  ]);
  await own.close();
});

it('a record says when, between whom, and how much', async () => {
  load({ ratio: 1, spans_per_second: 100_000 });
  const own = await nodeServer((request, response) => {
    request.resume().on('end', () =>
      setTimeout(() => {
        response.writeHead(201, { 'content-length': 3000 });
        response.write('a'.repeat(1000));
        setTimeout(() => response.end('b'.repeat(2000)), 60);
      }, 40),
    );
  });
  const before = BigInt(Date.now()) * 1_000_000n;
  await curl('-d', '0123456789', `http://127.0.0.1:${own.port}/items/77?secret=1`);
  const after = BigInt(Date.now() + 1) * 1_000_000n;
  const { client, server } = await recordsOf(own.port);
  for (const [record] of [client, server]) {
    expect(record).toMatchObject({
      protocol: HTTP_REQUESTS,
      operation: 'POST',
      status: 201,
      target: '/items/{id}',
      detail: { version: '1.1', scheme: 'http' },
      reason: 'share',
      requestBytes: 10,
      responseBytes: 3000,
      serverAddress: '127.0.0.1',
      serverPort: own.port,
      clientAddress: '127.0.0.1',
    });
    if (record === undefined) continue;
    expect(record.startUnixNano).toBeGreaterThanOrEqual(before - 2_000_000n);
    expect(record.endUnixNano).toBeLessThanOrEqual(after + 2_000_000n);
    expect(record.endUnixNano - record.startUnixNano).toBeGreaterThanOrEqual(99_000_000n);
    const { timeToFirstByteNanos } = record.detail as HttpDetail;
    expect(timeToFirstByteNanos).toBeGreaterThanOrEqual(39_000_000n);
    expect(timeToFirstByteNanos).toBeLessThan(record.endUnixNano - record.startUnixNano - 50_000_000n);
    expect(JSON.stringify(record, (_, v) => (typeof v === 'bigint' ? String(v) : v))).not.toContain('secret');
  }
  expect(client[0]?.clientPort).toBe(server[0]?.clientPort);
  expect(client[0]?.client.name).toBe('curl');
  expect(server[0]?.client.name).toBe('curl');
  await own.close();
});

it('an incoming trace context is continued, and its sampled flag decides', async () => {
  load({ ratio: 1, spans_per_second: 100_000, errors: false, slow_millis: 0 });
  const own = await nodeServer((_, response) => response.end('x'));
  const url = `http://127.0.0.1:${own.port}/`;
  await curl(
    '-H',
    `traceparent: 00-${TRACE}-${PARENT}-01`,
    '-H',
    'tracestate: vendor=value,other=1',
    `${url}sampled`,
  );
  await curl('-H', `traceparent: 00-${TRACE}-${PARENT}-00`, `${url}unsampled`);
  await curl('-H', 'traceparent: 00-not-a-context-01', `${url}short`);
  await curl(
    '-H',
    `traceparent: 00-${TRACE}-${PARENT}-01`,
    '-H',
    `traceparent: 00-${TRACE}-${PARENT}-01`,
    `${url}twice`,
  );
  const { client, server } = await recordsOf(own.port);
  for (const list of [client, server]) {
    expect(list.map((r) => [r.target, r.reason])).toEqual([
      ['/sampled', 'parent'],
      ['/short', 'share'],
      ['/twice', 'share'],
    ]);
    expect(list[0]?.context).toEqual({
      traceId: TRACE,
      parentSpanId: PARENT,
      flags: 1,
      tracestate: 'vendor=value,other=1',
    });
    expect(list[1]?.context).toBeUndefined();
    expect(list[2]?.context).toBeUndefined();
  }
  await own.close();
});

it('the share is what was asked for, both ends choose for themselves, and the rate limit counts what it drops', async () => {
  load({ ratio: 0.02, errors: false, slow_millis: 0, spans_per_second: 100_000 });
  const nginx = await Nginx.start('location / { return 200 "x"; }', { log: false });
  await h2load(nginx.url('/a'), 20_000, 8);
  const { server } = await recordsOf(nginx.port);
  expect(server.length).toBeGreaterThan(320);
  expect(server.length).toBeLessThan(480);
  expect(new Set(server.map((r) => r.spanId)).size).toBe(server.length);
  expect(new Set(server.map((r) => r.traceId)).size).toBe(server.length);
  probe.close();
  load({ ratio: 1, errors: false, slow_millis: 0, spans_per_second: 10 });
  await h2load(nginx.url('/a'), 2000, 8);
  const limited = await recordsOf(nginx.port);
  const { lost_span_limit, span_events } = probe.http.source.counters;
  expect(limited.server.length + limited.client.length).toBeLessThanOrEqual(Number(span_events));
  expect(Number(lost_span_limit) + Number(span_events)).toBeGreaterThanOrEqual(4000);
  await nginx.stop();
  nginx.remove();
});

/** A Python server whose handler asks another server. `mode`: one thread per connection, or one for all. */
const PYTHON = (port: number, target: number, mode: 'ThreadingHTTPServer' | 'HTTPServer') => `
import http.server, http.client
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        headers = {}
        if self.path.startswith('/forward'): headers = {'traceparent': self.headers['traceparent']}
        c = http.client.HTTPConnection('127.0.0.1', ${target})
        c.request('GET', '/inner', headers=headers); c.getresponse().read(); c.close()
        self.send_response(200); self.send_header('Content-Length', '2'); self.end_headers(); self.wfile.write(b'ok')
    def log_message(self, *a): pass
http.server.${mode}(('127.0.0.1', ${port}), H).serve_forever()`;

it('a call made by the thread that serves a request is its child', async () => {
  load({ ratio: 1, errors: false, slow_millis: 0, spans_per_second: 100_000 });
  const inner = await nodeServer((_, response) => response.end('x'));
  const port = await freePort();
  const child = await start('python3', ['-c', PYTHON(port, inner.port, 'ThreadingHTTPServer')], port);
  const url = `http://127.0.0.1:${port}`;
  await curl(`${url}/root`);
  await curl('-H', `traceparent: 00-${TRACE}-${PARENT}-01`, `${url}/continued`);
  await Promise.all(Array.from({ length: 20 }, () => curl(`${url}/together`)));
  const outer = await recordsOf(port);
  const calls = (await recordsOf(inner.port)).client;
  expect(outer.server).toHaveLength(22);
  expect(calls).toHaveLength(22);
  const bySpan = new Map(outer.server.map((r) => [r.spanId, r]));
  for (const call of calls) {
    const parent = bySpan.get(call.parent?.spanId);
    expect(parent, 'every call has its own server span as parent').toBeDefined();
    bySpan.delete(call.parent?.spanId);
    if (parent === undefined) continue;
    expect(call.parent?.traceId).toBe(parent.context?.traceId ?? parent.traceId);
    expect(call.startUnixNano).toBeGreaterThanOrEqual(parent.startUnixNano);
    expect(call.endUnixNano).toBeLessThanOrEqual(parent.endUnixNano);
  }
  const continued = outer.server.find((r) => r.target === '/continued');
  expect(calls.find((c) => c.parent?.spanId === continued?.spanId)?.parent).toMatchObject({
    traceId: TRACE,
    parentSpanId: PARENT,
    flags: 1,
  });
  child.kill();
  await inner.close();
});

it('an event loop says nothing of who asked: its calls have no parent', async () => {
  load({ ratio: 1, errors: false, slow_millis: 0, spans_per_second: 100_000 });
  const inner = await nodeServer((_, response) => response.end('x'));
  const outer = await nodeServer((_, response) => {
    http.get({ port: inner.port, host: '127.0.0.1', path: '/inner' }, (r) =>
      r.resume().on('end', () => response.end('ok')),
    );
  });
  await Promise.all(Array.from({ length: 10 }, () => curl(`http://127.0.0.1:${outer.port}/outer`)));
  const calls = (await recordsOf(inner.port)).client;
  expect(calls).toHaveLength(10);
  expect(calls.filter((c) => c.parent !== undefined)).toEqual([]);
  await outer.close();
  await inner.close();
});

it('a sampled request leaves an exemplar on the histogram that counts it', async () => {
  load({ ratio: 1, errors: false, slow_millis: 0, spans_per_second: 100_000 });
  const own = await nodeServer((_, response) => response.end('x'));
  const url = `http://127.0.0.1:${own.port}/e`;
  await curl(url);
  await recordsOf(own.port);
  await curl(url);
  const { server } = await recordsOf(own.port);
  const exemplars = probe
    .points('http.server.request.duration', { server_port: own.port })
    .flatMap((p) => p.exemplars ?? []);
  const ids = exemplars.map((e) => e?.spanId).filter((id) => id !== undefined);
  expect(ids.length).toBeGreaterThan(0);
  for (const id of ids) expect(server.map((r) => r.spanId)).toContain(id);
  await own.close();
});
