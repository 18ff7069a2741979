// The sink over real gRPC to a receiver that shares no code with the sender.

import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createOtlpTransport } from '../../../exporter/telemetry/spans/otlp_transport.ts';
import {
  createTraceOutput,
  type TraceExportSettings,
  type TraceOutput,
} from '../../../exporter/telemetry/spans/sink.ts';
import { createSynthesiser } from '../../../exporter/telemetry/spans/synthesiser.ts';
import type { SpanIdentity } from '../../../exporter/telemetry/spans/types.ts';
import { type Answer, type ReceivedSpan, Receiver } from './receiver.ts';
import { CART, NGINX, record, SHOP } from './records.ts';
import { statusWithRetry } from './retry_status.ts';

const RESOURCE = { host: 'node-1', agentVersion: '1.2.3' };
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';

function settings(endpoint: string, changes: Partial<TraceExportSettings> = {}): TraceExportSettings {
  return {
    endpoint,
    insecure: false,
    headers: {},
    timeout_seconds: 10,
    queue_spans: 10_000,
    batch_spans: 100,
    delay_millis: 20,
    concurrency: 4,
    retry_seconds: 60,
    ...changes,
  };
}

function books(output: TraceOutput) {
  const stats = output.stats();
  if (stats === undefined) throw new Error('no export');
  const dropped = Object.values(stats.dropped).reduce((sum, n) => sum + n, 0);
  expect(stats.exported + dropped + stats.queued).toBe(stats.accepted);
  return stats;
}

const ids = (spans: readonly (SpanIdentity | ReceivedSpan)[]) =>
  spans.map((span) => `${span.traceId}/${span.spanId}`).sort();

describe('OTLP over gRPC', () => {
  let receiver: Receiver;
  let output: TraceOutput | undefined;
  const open = (changes: Partial<TraceExportSettings> = {}, endpoint = receiver.endpoint) => {
    output = createTraceOutput({ resource: RESOURCE, settings: settings(endpoint, changes) });
    return output;
  };
  const send = (target: TraceOutput, count: number, changes = {}) => {
    const sent: SpanIdentity[] = [];
    for (let i = 0; i < count; i++) {
      const identity = target.accept(record(changes));
      if (identity !== undefined) sent.push(identity);
    }
    return sent;
  };

  beforeEach(async () => {
    receiver = await new Receiver().start();
  });
  afterEach(async () => {
    await output?.shutdown(0);
    output = undefined;
    receiver.stop();
  });

  it('ids, times, parents, links, attributes and resources arrive exactly', async () => {
    const target = open();
    const context = { traceId: TRACE, parentSpanId: PARENT, flags: 1, tracestate: 'rojo=1,congo=2' };
    const first = target.accept(record({ context }));
    const second = target.accept(
      record({
        kind: 'client',
        client: CART,
        server: NGINX,
        status: 503,
        parent: { traceId: TRACE, spanId: first?.spanId ?? '' },
        startUnixNano: 1_795_442_400_999_999_999n,
        endUnixNano: 18_446_744_073_709_551_615n,
      }),
    );
    await target.flush();
    expect(receiver.spans).toHaveLength(2);
    const [server, client] = receiver.spans;
    expect(server).toMatchObject({
      traceId: TRACE,
      spanId: first?.spanId,
      parentSpanId: PARENT,
      traceState: 'rojo=1,congo=2',
      flags: 0x301,
      name: 'GET /users/{id}',
      kind: 2,
      start: 1_795_442_400_123_456_789n,
      end: 1_795_442_400_373_456_790n,
      statusCode: 0,
      links: [],
      scope: { name: 'kubenetprobe', version: '1.2.3' },
      resource: {
        'service.name': 'cart',
        'service.namespace': 'prod',
        'k8s.statefulset.name': 'cart',
        'k8s.pod.name': 'cart-0',
      },
    });
    expect(server?.attributes).toMatchObject({
      'http.route': '/users/{id}',
      'http.response.status_code': 200,
      'server.port': 8080,
      'knp.http.time_to_first_byte': 0.100000001,
    });
    expect(client).toMatchObject({
      traceId: TRACE,
      spanId: second?.spanId,
      parentSpanId: first?.spanId,
      flags: 0x101,
      kind: 3,
      start: 1_795_442_400_999_999_999n,
      end: 18_446_744_073_709_551_615n,
      statusCode: 2,
      resource: { 'service.name': 'cart' },
    });
    expect(client?.resourceIndex).toBe(server?.resourceIndex);
  });

  it('one ResourceSpans per workload and request', async () => {
    const target = open({ batch_spans: 1000, delay_millis: 200 });
    for (let i = 0; i < 300; i++) target.accept(record({ server: [CART, SHOP, NGINX][i % 3] ?? CART }));
    await target.flush();
    expect(new Set(receiver.spans.map((span) => `${span.request}/${span.resourceIndex}`)).size).toBe(3);
    expect(
      receiver.spans.every((span) =>
        [CART, SHOP, NGINX].some((each) => each.name === span.resource['service.name']),
      ),
    ).toBe(true);
  });

  it('the receiver reads the same as from the stock exporter', async () => {
    const synthesiser = createSynthesiser(RESOURCE);
    const spans = [
      record(),
      record({ kind: 'client', status: 500 }),
      record({ context: { traceId: TRACE, parentSpanId: PARENT, flags: 1, tracestate: 'a=b' } }),
    ].map((each) => synthesiser.synthesise(each).span);
    const stock = new OTLPTraceExporter({ url: receiver.endpoint });
    await new Promise<void>((resolve, reject) =>
      stock.export(spans, (result) => (result.code === 0 ? resolve() : reject(result.error))),
    );
    const ours = createOtlpTransport({ endpoint: receiver.endpoint, timeoutMillis: 5000 });
    expect(await ours.prepare(spans).send()).toEqual({ outcome: 'delivered', rejected: 0, message: '' });
    ours.close();
    await stock.shutdown();
    const strip = (request: number) =>
      receiver.spans.filter((span) => span.request === request).map((span) => ({ ...span, request: 0 }));
    expect(strip(0)).toHaveLength(3);
    expect(strip(1)).toEqual(strip(0));
  });

  it('200,000 spans at once: every one that was taken arrives once, the others are counted', async () => {
    const target = open({ queue_spans: 20_000, batch_spans: 512 });
    const sent = new Set<string>();
    for (let i = 0; i < 200_000; i++) {
      const identity = target.accept(record());
      if (identity !== undefined) sent.add(identity.spanId);
      if (i % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await target.flush();
    const stats = books(target);
    expect(stats).toMatchObject({ accepted: 200_000, queued: 0, exported: sent.size });
    expect(stats.exported + stats.dropped.queue_full).toBe(200_000);
    expect(receiver.spans).toHaveLength(sent.size);
    expect(new Set(receiver.spans.map((span) => span.spanId))).toEqual(sent);
    expect(receiver.maxActive).toBeLessThanOrEqual(4);
  });

  it('receiver down from the start: held, then delivered when it comes', async () => {
    receiver.stop();
    const target = open();
    const sent = send(target, 250);
    await sleep(600);
    expect(books(target)).toMatchObject({ queued: 250, exported: 0 });
    await receiver.start();
    await target.flush();
    expect(books(target)).toMatchObject({ exported: 250, queued: 0 });
    expect(ids(receiver.spans)).toEqual(ids(sent));
  });

  it('receiver down for good: bounded memory, every loss counted', async () => {
    receiver.stop();
    const target = open({ queue_spans: 1000, retry_seconds: 1 });
    for (let i = 0; i < 50; i++) {
      send(target, 2000, { path: `/${'p'.repeat(500)}` });
      await sleep(5);
      expect(books(target).queued).toBeLessThanOrEqual(1000);
      expect(books(target).queuedBytes).toBeLessThanOrEqual(1000 * 4096);
    }
    await target.flush();
    const stats = books(target);
    expect(stats).toMatchObject({ accepted: 100_000, exported: 0, queued: 0 });
    expect(stats.dropped.queue_full).toBeGreaterThan(90_000);
    expect(stats.dropped.retries_exhausted).toBe(100_000 - stats.dropped.queue_full);
  });

  it('flapping receiver: what was acknowledged is there, the rest is delivered later', async () => {
    const target = open({ batch_spans: 20 });
    const sent: SpanIdentity[] = [];
    for (let round = 0; round < 4; round++) {
      sent.push(...send(target, 200));
      await sleep(60);
      receiver.stop();
      sent.push(...send(target, 200));
      await sleep(200);
      await receiver.start();
    }
    await target.flush();
    expect(sent).toHaveLength(1600);
    expect(books(target)).toMatchObject({ exported: 1600, queued: 0 });
    // A request whose answer was cut off is sent again: at least once, never less.
    expect(new Set(ids(receiver.spans))).toEqual(new Set(ids(sent)));
  });

  it('slow receiver: several exports in flight, none more than allowed', async () => {
    receiver.policy = () => ({ kind: 'accept', delayMillis: 50 });
    const target = open({ batch_spans: 10, concurrency: 4 });
    const sent = send(target, 400);
    await target.flush();
    expect(receiver.maxActive).toBe(4);
    expect(ids(receiver.spans)).toEqual(ids(sent));
  });

  it('a receiver that never answers: each try ends at its timeout, and is counted', async () => {
    receiver.policy = () => ({ kind: 'hang' });
    const target = open({ timeout_seconds: 0.2, retry_seconds: 1 });
    send(target, 50);
    await target.flush();
    expect(books(target)).toMatchObject({ exported: 0, queued: 0, dropped: { retries_exhausted: 50 } });
    expect(receiver.requests).toBeGreaterThan(1);
  });

  it.each([
    ['INVALID_ARGUMENT', status.INVALID_ARGUMENT],
    ['UNAUTHENTICATED', status.UNAUTHENTICATED],
    ['PERMISSION_DENIED', status.PERMISSION_DENIED],
    ['UNIMPLEMENTED', status.UNIMPLEMENTED],
    ['INTERNAL', status.INTERNAL],
    ['UNKNOWN', status.UNKNOWN],
    ['RESOURCE_EXHAUSTED without RetryInfo', status.RESOURCE_EXHAUSTED],
  ])('%s is final', async (_name, code) => {
    receiver.policy = () => ({ kind: 'fail', code, details: 'no' });
    const target = open();
    send(target, 10);
    await target.flush();
    expect(books(target)).toMatchObject({ dropped: { rejected: 10 }, retries: 0 });
    expect(receiver.requests).toBe(1);
  });

  it.each([
    ['CANCELLED', status.CANCELLED, undefined],
    ['DEADLINE_EXCEEDED', status.DEADLINE_EXCEEDED, undefined],
    ['ABORTED', status.ABORTED, undefined],
    ['OUT_OF_RANGE', status.OUT_OF_RANGE, undefined],
    ['UNAVAILABLE', status.UNAVAILABLE, undefined],
    ['DATA_LOSS', status.DATA_LOSS, undefined],
    ['RESOURCE_EXHAUSTED with RetryInfo', status.RESOURCE_EXHAUSTED, statusWithRetry(0, 1_000_000)],
  ])('%s is tried again', async (_name, code, retryInfo) => {
    const fail: Answer = {
      kind: 'fail',
      code,
      details: 'later',
      ...(retryInfo !== undefined && { retryInfo }),
    };
    receiver.policy = (request) => (request === 0 ? fail : { kind: 'accept' });
    const target = open();
    const sent = send(target, 10);
    await target.flush();
    expect(books(target)).toMatchObject({ exported: 10, retries: 1 });
    expect(ids(receiver.spans)).toEqual(ids(sent));
  });

  it('the wait that the receiver asks for is kept', async () => {
    const times: number[] = [];
    receiver.policy = (request) => {
      times.push(performance.now());
      return request === 0
        ? {
            kind: 'fail',
            code: status.UNAVAILABLE,
            details: 'later',
            retryInfo: statusWithRetry(1, 500_000_000),
          }
        : { kind: 'accept' };
    };
    const target = open();
    send(target, 10);
    await target.flush();
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(1499);
  });

  it('partial success: what the receiver refused is counted, what it took is there, nothing is sent twice', async () => {
    receiver.policy = () => ({ kind: 'partial', rejected: 3, message: 'too old' });
    const target = open({ batch_spans: 10 });
    send(target, 50);
    await target.flush();
    expect(books(target)).toMatchObject({ exported: 35, dropped: { partial_success: 15 }, retries: 0 });
    expect(receiver.spans).toHaveLength(35);
  });

  it('shutdown delivers what is queued', async () => {
    const target = open({ delay_millis: 60_000 });
    const sent = send(target, 250);
    await target.shutdown(10_000);
    expect(books(target)).toMatchObject({ exported: 250 });
    expect(ids(receiver.spans)).toEqual(ids(sent));
    expect(target.accept(record())).toBeUndefined();
    expect(books(target).dropped.shutdown).toBe(1);
  });

  it('shutdown with a receiver that never answers ends at its deadline', async () => {
    receiver.policy = () => ({ kind: 'hang' });
    const target = open();
    send(target, 250);
    await sleep(100);
    const before = performance.now();
    await target.shutdown(300);
    expect(performance.now() - before).toBeLessThan(5000);
    expect(books(target)).toMatchObject({ exported: 0, queued: 0, dropped: { shutdown: 250 } });
  });

  it('headers go with every request', async () => {
    const target = open({ headers: { authorization: 'Bearer abc', 'x-scope-orgid': 'team-a' } });
    send(target, 1);
    await target.flush();
    expect(receiver.headers[0]?.get('authorization')).toEqual(['Bearer abc']);
    expect(receiver.headers[0]?.get('x-scope-orgid')).toEqual(['team-a']);
    expect(String(receiver.headers[0]?.get('user-agent'))).toMatch(/^kubenetprobe\/1\.2\.3 /);
  });

  it('headers may be read anew for every try: a rotated token is taken up, a missing one is waited for', async () => {
    const tokens = ['first', new Error('header token: cannot read the file'), 'second'];
    const output = open({
      headers: async () => {
        const token = tokens.shift();
        if (typeof token !== 'string') throw token;
        return { token };
      },
    });
    for (let i = 0; i < 2; i++) {
      send(output, 1);
      await output.flush();
    }
    expect(receiver.headers.map((each) => each.get('token'))).toEqual([['first'], ['second']]);
    expect(books(output)).toMatchObject({ exported: 2, retries: 1 });
  });

  it('a record that breaks an assumption costs itself and is counted', async () => {
    const target = open();
    expect(target.accept(record({ exactTarget: 5 as unknown as string }))).toBeUndefined();
    expect(books(target)).toMatchObject({ accepted: 1, dropped: { invalid: 1 } });
  });

  it('gzip', async () => {
    const transport = createOtlpTransport({
      endpoint: receiver.endpoint,
      timeoutMillis: 5000,
      compression: 'gzip',
    });
    const { span } = createSynthesiser(RESOURCE).synthesise(record());
    expect(await transport.prepare([span]).send()).toMatchObject({ outcome: 'delivered' });
    transport.close();
    expect(receiver.spans).toHaveLength(1);
    expect(await transport.prepare([span]).send()).toMatchObject({ outcome: 'refused' });
  });
});
