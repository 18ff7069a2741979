// A real Prometheus scrapes the endpoint: every sample arrives in its database as the store has it.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type RunningServer, startServer } from '../../../exporter/server/server.ts';
import { Collector } from '../../../exporter/telemetry/collector.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { edge } from '../telemetry/helpers.ts';

const directory = mkdtempSync(join(tmpdir(), 'knp-prometheus-'));
const store = new SeriesStore();
let server: RunningServer;
let api: string;
let stop = async () => {};

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

beforeAll(async () => {
  const health = { starting: () => undefined, unready: () => [] };
  server = await startServer({
    host: '127.0.0.1',
    port: 0,
    collector: new Collector({ store }),
    store,
    health,
  });
  const config = `{"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [
    {"job_name": "knp", "static_configs": [{"targets": ["127.0.0.1:${server.port}"]}]}]}`;
  writeFileSync(join(directory, 'prometheus.yml'), config);
  const port = await freePort();
  api = `http://127.0.0.1:${port}/api/v1`;
  const prometheus = spawn(
    'prometheus',
    [
      `--config.file=${directory}/prometheus.yml`,
      `--storage.tsdb.path=${directory}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--enable-feature=exemplar-storage',
      '--log.level=error',
    ],
    { stdio: 'ignore' },
  );
  const exited = new Promise<void>((resolve) => prometheus.once('exit', () => resolve()));
  stop = async () => {
    prometheus.kill('SIGKILL');
    await exited;
  };
}, 30_000);

afterAll(async () => {
  await stop();
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

async function query(expression: string): Promise<Series[]> {
  const response = await fetch(`${api}/query?query=${encodeURIComponent(expression)}`);
  const { data } = (await response.json()) as { data: { result: Series[] } };
  return data.result;
}

test('counters, histograms, hostile labels and exemplars arrive exactly', async () => {
  const names = ['plain', 'new\nline', 'quo"te', 'back\\slash', '\u{1f4a5}'];
  for (const [i, name] of names.entries()) {
    store.counter('knp.tcp.sent_bytes', edge(name)).add(2 ** 50 + i);
  }
  const http = { ...edge(1), 'http.request.method': 'GET', 'http.response.status_code': 200 } as const;
  const duration = store.histogram('http.server.request.duration', http);
  duration.observe(0.03, 5);
  duration.observe(60, 2);
  const ids = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' };
  duration.exemplar({ ...ids, value: 0.03, timestampMillis: Date.now() });

  await vi.waitFor(async () => expect(await query('knp_tcp_sent_bytes_total')).toHaveLength(5), {
    timeout: 20_000,
    interval: 200,
  });
  const sent = await query('knp_tcp_sent_bytes_total');
  expect(
    Object.fromEntries(sent.map(({ metric, value }) => [metric.client_workload, Number(value[1])])),
  ).toEqual(Object.fromEntries(names.map((name, i) => [`client-${name}`, 2 ** 50 + i])));
  const buckets = await query('http_server_request_duration_seconds_bucket{http_response_status_code="200"}');
  const cumulative = Object.fromEntries(
    buckets.map(({ metric, value }) => [Number(metric.le), Number(value[1])]),
  );
  expect(cumulative).toMatchObject({ 0.025: 0, 0.05: 5, 1: 5, 10: 5 });
  expect(buckets.find(({ metric }) => metric.le === '+Inf')?.value[1]).toBe('7');
  expect((await query('http_server_request_duration_seconds_sum')).map((s) => Number(s.value[1]))).toEqual([
    120.15,
  ]);
  const range = `start=${Date.now() / 1000 - 300}&end=${Date.now() / 1000 + 10}`;
  const exemplars = await fetch(
    `${api}/query_exemplars?query=http_server_request_duration_seconds_bucket&${range}`,
  );
  const { data } = (await exemplars.json()) as { data: { exemplars: { labels: object; value: string }[] }[] };
  expect(data.flatMap((series) => series.exemplars)).toMatchObject([
    { labels: { trace_id: ids.traceId, span_id: ids.spanId }, value: '0.03' },
  ]);
});
