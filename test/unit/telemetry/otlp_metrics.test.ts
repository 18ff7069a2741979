// OTLP metrics at a real gRPC receiver: exact values, start times, failures counted, bounded shutdown.
import { status } from '@grpc/grpc-js';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { afterEach, expect, test, vi } from 'vitest';
import { Collector } from '../../../exporter/telemetry/collector.ts';
import { SILENT } from '../../../exporter/telemetry/log.ts';
import {
  type OtlpMetrics,
  type OtlpMetricsOptions,
  startOtlpMetrics,
} from '../../../exporter/telemetry/out/otlp_metrics.ts';
import { createMetricProducer } from '../../../exporter/telemetry/producer.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { edge } from './helpers.ts';
import { OtlpReceiver } from './otlp_receiver.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function setup(options: Partial<OtlpMetricsOptions> = {}, seriesPerMetric = 10_000) {
  const receiver = await new OtlpReceiver().listen();
  const store = new SeriesStore({ seriesPerMetric, startMillis: 1000 });
  let now = 5000;
  const collector = new Collector({ store, now: () => now });
  const resource = resourceFromAttributes({ 'service.name': 'kubenetprobe', 'host.name': 'node-1' });
  const producer = createMetricProducer(collector, resource, { name: 'kubenetprobe', version: '1.2.3' });
  const log = { ...SILENT, warn: vi.fn(), info: vi.fn() };
  const otlp: OtlpMetrics = startOtlpMetrics({
    endpoint: `http://127.0.0.1:${receiver.port}`,
    timeoutMillis: 5000,
    intervalMillis: 3_600_000,
    producer,
    store,
    log,
    ...options,
  });
  cleanups.push(
    () => receiver.close(),
    () => otlp.stop(),
  );
  const outcomes = () =>
    Object.fromEntries(
      store.family('knp.otlp.exports').points.map((p) => [/outcome="(\w+)"/.exec(p.labels)?.[1], p.value]),
    );
  const at = (millis: number) => {
    now = millis;
  };
  return { receiver, store, otlp, log, outcomes, at };
}

test('every kind of metric arrives with exact values, times, attributes, resource and scope', async () => {
  const { receiver, store, otlp, at } = await setup();
  const sent = store.counter('knp.tcp.sent_bytes', edge(1));
  sent.add(2 ** 53 - 1);
  store.counter('knp.tcp.limited', { ...edge(1), by: 'send_buffer' }).add(0.1);
  store.gauge('knp.tcp.connections', edge(1)).set(3);
  store.gauge('knp.agent.coverage_ratio', {}).set(0.75);
  const http = {
    ...edge('quote"line\nä'),
    'http.request.method': 'GET',
    'http.response.status_code': 404,
  } as const;
  store.histogram('http.server.request.duration', http).observe(0.03, 7);
  await otlp.flush();
  at(9000);
  store.counter('knp.tcp.sent_bytes', edge(2)).add(5);
  await otlp.flush();

  const of = (metric: string) => receiver.points.filter((point) => point.metric === metric);
  const [first, again, second] = of('knp.tcp.sent_bytes');
  expect(first).toMatchObject({
    unit: 'By',
    type: 'sum',
    monotonic: true,
    temporality: 2,
    attributes: { ...edge(1) },
    startMillis: 1000,
    endMillis: 5000,
    value: 9_007_199_254_740_991,
    integer: true,
    resource: { 'service.name': 'kubenetprobe', 'host.name': 'node-1' },
    scope: 'kubenetprobe 1.2.3',
  });
  expect(again).toMatchObject({ startMillis: 1000, endMillis: 9000, value: 9_007_199_254_740_991 });
  // New in the second collection: whatever it counts happened after the first one began.
  expect(second).toMatchObject({ startMillis: 5000, endMillis: 9000, value: 5 });
  expect(of('knp.tcp.limited')[0]).toMatchObject({ value: 0.1, integer: false, monotonic: true });
  expect(of('knp.tcp.connections')[0]).toMatchObject({ type: 'sum', monotonic: false, value: 3 });
  expect(of('knp.agent.coverage_ratio')[0]).toMatchObject({ type: 'gauge', value: 0.75, unit: '1' });
  expect(of('http.server.request.duration')[0]).toMatchObject({
    type: 'histogram',
    temporality: 2,
    attributes: { ...http, client_workload: 'client-quote"line\nä', 'http.response.status_code': 404 },
    value: 7,
    sum: 0.03 * 7,
    buckets: [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    bounds: [...store.bounds('http.server.request.duration')],
  });
});

test('many series go in bounded batches, each exactly once', async () => {
  const { receiver, store, otlp, outcomes } = await setup();
  for (let i = 0; i < 4321; i++) store.counter('knp.tcp.sent_bytes', edge(i)).add(i);
  await otlp.flush();
  const points = receiver.points.filter((point) => point.metric === 'knp.tcp.sent_bytes');
  expect(new Set(points.map((point) => point.attributes.client_workload)).size).toBe(4321);
  expect(points.reduce((sum, point) => sum + point.value, 0)).toBe((4320 * 4321) / 2);
  expect(points).toHaveLength(4321);
  const perRequest = Map.groupBy(receiver.points, (point) => point.request);
  expect(Math.max(...[...perRequest.values()].map((batch) => batch.length))).toBeLessThanOrEqual(1000);
  store.settleNow();
  expect(outcomes()).toMatchObject({ success: receiver.requests, failure: 0 });
});

test('headers go out', async () => {
  const { receiver, store, otlp } = await setup({ headers: { 'x-scope-orgid': 'team-a' } });
  store.gauge('knp.agent.coverage_ratio', {}).set(1);
  await otlp.flush();
  expect(receiver.metadata[0]).toMatchObject({ 'x-scope-orgid': 'team-a' });
});

test('a refusing, then hanging receiver: counted, logged once, and healed by the next export', async () => {
  const { receiver, store, otlp, outcomes, log } = await setup({ timeoutMillis: 300 });
  store.counter('knp.tcp.sent_bytes', edge(1)).add(10);
  receiver.answer = { fail: status.UNAVAILABLE };
  await otlp.flush();
  await otlp.flush();
  store.settleNow();
  expect(outcomes()).toMatchObject({ success: 0, failure: 2, timeout: 0 });
  receiver.answer = 'hang';
  await otlp.flush();
  store.settleNow();
  expect(outcomes()).toMatchObject({ success: 0, failure: 2, timeout: 1 });
  expect(log.warn).toHaveBeenCalledTimes(1);
  receiver.answer = 'accept';
  await otlp.flush();
  expect(receiver.points.find((point) => point.metric === 'knp.tcp.sent_bytes')?.value).toBe(10);
  expect(log.info).toHaveBeenCalledTimes(1);
});

test('what the receiver refuses in a partial success is counted', async () => {
  const { receiver, store, otlp, outcomes } = await setup();
  store.gauge('knp.agent.coverage_ratio', {}).set(1);
  receiver.answer = { reject: 3 };
  await otlp.flush();
  store.settleNow();
  expect(outcomes()).toMatchObject({ success: 0, partial: 1 });
  expect(store.family('knp.otlp.rejected_items').points.map((p) => p.value)).toEqual([3]);
});

test('a tick while an export hangs is skipped and counted; nothing piles up', async () => {
  const { receiver, store, outcomes } = await setup({ intervalMillis: 5, timeoutMillis: 500 });
  receiver.answer = 'hang';
  await vi.waitFor(() => {
    store.settleNow();
    expect(outcomes().skipped).toBeGreaterThan(5);
  });
  expect(receiver.requests).toBeLessThanOrEqual(2);
});

test('stop exports a last time, and is bounded when the receiver hangs', async () => {
  const { receiver, store, otlp } = await setup({ timeoutMillis: 200 });
  store.counter('knp.tcp.sent_bytes', edge(1)).add(10);
  await otlp.stop();
  expect(receiver.points.find((point) => point.metric === 'knp.tcp.sent_bytes')?.value).toBe(10);
  const hanging = await setup({ timeoutMillis: 200 });
  hanging.receiver.answer = 'hang';
  await Promise.all([hanging.otlp.stop(), hanging.otlp.stop()]);
  expect(hanging.receiver.requests).toBe(1);
});

test('nothing valid, nothing sent', async () => {
  const store = new SeriesStore();
  const fail = () => Promise.reject(new Error('no'));
  const collector = new Collector({ store, sources: [{ name: 'tcp', owns: ['tcp'], collect: fail }] });
  const producer = createMetricProducer(collector, resourceFromAttributes({}), { name: 'x' });
  const { resourceMetrics, errors } = await producer.collect();
  expect(resourceMetrics.scopeMetrics).toEqual([]);
  expect(errors.map(String)).toEqual(['Error: source tcp: no']);
});

test.each([
  ['collector:4317', {}, 'is not a URL like http://collector:4317'],
  ['ftp://collector', {}, 'is not a URL like http://collector:4317'],
  [
    'http://127.0.0.1:1',
    { 'bad header': 'secret' },
    'OTLP header "bad header" is not a valid gRPC header name and value',
  ],
])('endpoint %s with headers %o is refused', async (endpoint, headers, message) => {
  const store = new SeriesStore();
  const producer = { collect: () => Promise.reject(new Error('not asked')) };
  const start = () =>
    startOtlpMetrics({ endpoint, headers, timeoutMillis: 1, intervalMillis: 1000, producer, store });
  expect(start).toThrow(message);
});
