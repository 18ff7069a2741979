// A real Prometheus reads the service graph with the queries that Grafana's Tempo data source makes, and the exemplars
// that lead from the duration histogram to the span.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HTTP_REQUESTS } from '../../exporter/probes/http/requests.ts';
import { writeExposition } from '../../exporter/telemetry/out/prometheus.ts';
import { createServiceGraph } from '../../exporter/telemetry/service_graph.ts';
import { addExemplar } from '../../exporter/telemetry/spans/exemplars.ts';
import { SeriesStore } from '../../exporter/telemetry/store.ts';

function hasPrometheus(): boolean {
  try {
    execFileSync('prometheus', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
const missing = hasPrometheus() ? undefined : 'no prometheus in the PATH';
if (missing !== undefined) process.stderr.write(`skipped: service graph in Prometheus: ${missing}\n`);

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';
const EDGE = 'client="shop",client_service_namespace="prod",server="cart",server_service_namespace="prod"';
/** Requests that the server counted at each scrape: 9 fast ones, 1 that failed. */
const PER_SCRAPE = 10;

class Agent {
  readonly store = new SeriesStore();
  scrapes = 0;
  server: Server | undefined;

  async listen(): Promise<number> {
    this.server = createServer((_request, response) => {
      this.count();
      this.store.begin(Date.now());
      this.store.settleNow();
      response.setHeader('content-type', 'application/openmetrics-text; version=1.0.0; charset=utf-8');
      response.end([...writeExposition(this.store.families(), 'openmetrics')].join(''));
    }).listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return (this.server.address() as AddressInfo).port;
  }

  count(): void {
    this.scrapes++;
    const graph = createServiceGraph(
      this.store,
      HTTP_REQUESTS,
      this.store.bounds('http.server.request.duration'),
    );
    const bounds = this.store.bounds('http.server.request.duration');
    for (const [requests, seconds, error] of [
      [PER_SCRAPE - 1, 0.2, undefined],
      [1, 0.04, '500'],
    ] as const) {
      const attributes = {
        reporter: 'server',
        client_workload: 'shop',
        client_namespace: 'prod',
        client_kind: 'Deployment',
        server_workload: 'cart',
        server_namespace: 'prod',
        server_kind: 'StatefulSet',
        server_port: 8080,
        transport: 'tcp',
        'http.request.method': 'GET',
        'error.type': error,
      } as const;
      const counts = new Array<number>(bounds.length + 1).fill(0);
      counts[bounds.findIndex((bound) => seconds <= bound)] = requests;
      const histogram = this.store.histogram('http.server.request.duration', attributes);
      histogram.addBuckets(counts, requests * seconds);
      graph.edge(attributes).addBuckets(counts, requests * seconds);
      if (error !== undefined) {
        const end = BigInt(Date.now()) * 1_000_000n;
        addExemplar(
          histogram,
          {
            kind: 'server',
            startUnixNano: end - 40_000_000n,
            endUnixNano: end,
            client: { name: 'shop', namespace: 'prod', kind: 'Deployment' },
            server: { name: 'cart', namespace: 'prod', kind: 'StatefulSet' },
            serverAddress: '10.0.0.7',
            serverPort: 8080,
            protocol: HTTP_REQUESTS,
            operation: 'GET',
            reason: 'error',
            detail: {},
          },
          { traceId: TRACE, spanId: SPAN },
        );
      }
    }
  }
}

interface Answer {
  data: { result: { metric: Record<string, string>; value: [number, string] }[] };
}

describe.skipIf(missing !== undefined)('in a real Prometheus', () => {
  const directory = mkdtempSync(join(tmpdir(), 'knp-spans-prometheus-'));
  const agent = new Agent();
  let prometheus: ChildProcess | undefined;
  let base = '';
  let log = '';

  const query = async (expression: string) => {
    const url = `${base}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const answer = (await (await fetch(url)).json()) as Answer;
    return answer.data.result.map(({ metric, value }) => ({ ...metric, value: Number(value[1]) }));
  };

  beforeAll(async () => {
    const target = await agent.listen();
    const port = await new Promise<number>((resolve) => {
      const probe = createServer().listen(0, '127.0.0.1', () => {
        const { port: free } = probe.address() as AddressInfo;
        probe.close(() => resolve(free));
      });
    });
    base = `http://127.0.0.1:${port}`;
    writeFileSync(
      join(directory, 'prometheus.yml'),
      `global: {scrape_interval: 1s}\nscrape_configs: [{job_name: knp, static_configs: [{targets: ["127.0.0.1:${target}"]}]}]\n`,
    );
    prometheus = spawn(
      'prometheus',
      [
        `--config.file=${join(directory, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(directory, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--enable-feature=exemplar-storage',
        '--log.level=warn',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    prometheus.stderr?.on('data', (text) => {
      log += text;
    });
    const deadline = Date.now() + 60_000;
    while (agent.scrapes < 5) {
      if (Date.now() > deadline) throw new Error(`Prometheus does not scrape:\n${log.slice(-2000)}`);
      await sleep(100);
    }
    await sleep(500);
  });
  afterAll(async () => {
    prometheus?.kill('SIGTERM');
    if (prometheus !== undefined && prometheus.exitCode === null) await once(prometheus, 'exit');
    agent.server?.closeAllConnections();
    agent.server?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('one edge, its requests, failures and seconds', async () => {
    const edge = {
      client: 'shop',
      client_service_namespace: 'prod',
      server: 'cart',
      server_service_namespace: 'prod',
    };
    const [totals] = await query(`traces_service_graph_request_total{${EDGE}}`);
    const scrapes = (totals?.value ?? 0) / PER_SCRAPE;
    expect(totals).toMatchObject(edge);
    expect(scrapes).toBeGreaterThanOrEqual(4);
    const at = async (name: string) => (await query(`${name}{${EDGE}}`))[0]?.value ?? Number.NaN;
    // A scrape may come between two queries.
    const count = (await at('traces_service_graph_request_server_seconds_count')) / PER_SCRAPE;
    const failed = await at('traces_service_graph_request_failed_total');
    expect(Number.isInteger(count) && count >= scrapes).toBe(true);
    expect(Number.isInteger(failed) && failed >= count).toBe(true);
    const ratio = await query(
      `traces_service_graph_request_server_seconds_sum{${EDGE}} / traces_service_graph_request_total{${EDGE}}`,
    );
    expect(ratio[0]?.value).toBeCloseTo((9 * 0.2 + 0.04) / PER_SCRAPE, 12);
    expect(
      (await query(`traces_service_graph_request_failed_total / traces_service_graph_request_total`))[0]
        ?.value,
    ).toBe(0.1);
  });

  it("Grafana's own queries find the edge", async () => {
    const by = 'client, server, server_service_namespace, client_service_namespace';
    const rate = await query(`sum by (${by})(rate(traces_service_graph_request_total{${EDGE}}[1m]))`);
    const failed = await query(
      `sum by (${by})(rate(traces_service_graph_request_failed_total{${EDGE}}[1m]))`,
    );
    expect(rate).toHaveLength(1);
    expect(rate[0]?.value).toBeGreaterThan(0);
    expect(failed[0]?.value).toBeGreaterThan(0);
    const quantile = await query(
      `histogram_quantile(0.9, sum(rate(traces_service_graph_request_server_seconds_bucket{${EDGE}}[1m])) by (le, client, server))`,
    );
    // Nine of ten lie between 0.1 and 0.25 s.
    expect(quantile[0]?.value).toBeGreaterThan(0.1);
    expect(quantile[0]?.value).toBeLessThanOrEqual(0.25);
  });

  it('the exemplar of a sampled request leads to its trace', async () => {
    const end = Date.now() / 1000 + 10;
    const url = `${base}/api/v1/query_exemplars?query=http_server_request_duration_seconds_bucket&start=${end - 120}&end=${end}`;
    const { data } = (await (await fetch(url)).json()) as { data: { exemplars: unknown[] }[] };
    const found = data.flatMap((series) => series.exemplars);
    expect(found.length).toBeGreaterThan(0);
    for (const exemplar of found)
      expect(exemplar).toMatchObject({ labels: { trace_id: TRACE, span_id: SPAN }, value: '0.04' });
  });
});
