// How many series dashboards and rules read out of a cluster of 500 workloads: what a panel draws is bounded whatever the
// number of workloads, what a rule writes is bounded by their number. A synthetic exposition of the whole catalogue, in a
// real Prometheus.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { groups } from '../../alerts/generate.ts';
import { REQUEST_PROTOCOLS } from '../../exporter/probes/descriptors.ts';
import {
  allowedValues,
  CATALOGUE,
  labelName,
  type MetricDefinition,
  prometheusName,
} from '../../exporter/telemetry/catalogue.ts';
import { freePort, Processes, untilServing } from '../demo/processes.ts';
import { missing } from '../unit/alerts/promtool.ts';
import { allPanelQueries, filled, PrometheusApi } from './demo_queries.ts';

const WORKLOADS = 500;
/** Servers that each workload calls. */
const CALLS = 2;
const PAIRS = WORKLOADS * CALLS;
const AGENTS = 50;

/** Series of one query, at one time: lines of a panel, rows of a table, edges or nodes of a map. */
const QUERY_BOUND = 400;
/** By panel type. A node graph has at most 200 edges, and nodes at both of their ends. */
const PANEL_BOUND: Readonly<Record<string, number>> = {
  timeseries: 50,
  stat: REQUEST_PROTOCOLS.length, // latencies of two protocols are never added up
  table: 200,
  heatmap: 20,
  nodeGraph: QUERY_BOUND,
};
/** Series of one recording rule: one for each pair, or for each agent and one of its few own things. */
const RULE_BOUND = PAIRS + 100;

const namespaceOf = (workload: number): string => `team-${workload % 20}`;
type Labels = Partial<Record<string, string>>;

function edges(reporter: 'server' | 'client'): Labels[] {
  return Array.from({ length: PAIRS }, (_, i) => {
    const [client, server] = [i % WORKLOADS, (i * 7 + Math.floor(i / WORKLOADS) + 1) % WORKLOADS];
    return {
      reporter,
      client_workload: `app-${client}`,
      client_namespace: namespaceOf(client),
      client_kind: 'Deployment',
      server_workload: `app-${server}`,
      server_namespace: namespaceOf(server),
      server_kind: 'Deployment',
      server_port: '8080',
      transport: 'tcp',
      client: `app-${client}`,
      server: `app-${server}`,
      client_service_namespace: namespaceOf(client),
      server_service_namespace: namespaceOf(server),
    };
  });
}
const EDGES = { server: edges('server'), client: edges('client') };

/** What the attributes are that a pair does not have: few values each. */
const OWN: Labels = {
  'http.request.method': 'GET',
  'http.response.status_code': '200',
  'http.route': '/api/{id}',
  'url.scheme': 'http',
  'network.protocol.version': '1.1',
  'db.system.name': 'redis',
  'db.operation.name': 'GET',
  'db.namespace': '0',
  'db.response.status_code': 'WRONGTYPE',
};

/** The series of a metric in this cluster, as label texts. */
function seriesOf(metric: MetricDefinition): string[] {
  const edge = metric.attributes.some((name) => name === 'server_workload' || name === 'client');
  const once = metric.name.includes('client') || /connect_(failures|duration)/.test(metric.name);
  const base: Labels[] = edge
    ? once
      ? EDGES.client
      : /server|traces/.test(metric.name)
        ? EDGES.server
        : [...EDGES.server, ...EDGES.client]
    : Array.from({ length: AGENTS }, () => ({}));
  const own = metric.attributes.filter(
    (name) => !(name in (base[0] ?? {})) && !(name in OWN) && !/zone|pod|service$/.test(name),
  );
  const values = own.map((name) =>
    (allowedValues(metric, name) ?? ['a', 'b', 'c']).map((value) => [name, value] as const),
  );
  const combinations = values.reduce<Labels[]>(
    (all, each) => all.flatMap((labels) => each.map(([name, value]) => ({ ...labels, [name]: value }))),
    [{}],
  );
  const texts = base.flatMap((labels, agent) =>
    combinations
      // Errors are few.
      .filter((extra) => extra['error.type'] === undefined || extra['error.type'] === 'a')
      .map((extra) => {
        const all: Labels = { ...OWN, ...labels, ...extra };
        const pairs = metric.attributes
          .filter((name) => all[name] !== undefined)
          .map((name) => `${labelName(name)}="${all[name]}"`);
        const instance = edge ? `node-${agent % AGENTS}` : `node-${agent}`;
        return [...pairs, `instance="${instance}"`, 'cluster="synthetic"', 'job="kubenetprobe"'].join(',');
      }),
  );
  // Listeners are the same for every client.
  return [...new Set(texts)];
}

/** Samples of all metrics at the end of the given seconds; counters grow with the sample's number. */
function openMetrics(seconds: readonly number[]): string {
  const lines: string[] = [];
  for (const metric of CATALOGUE as readonly MetricDefinition[]) {
    const name = prometheusName(metric);
    const series = seriesOf(metric);
    // Body sizes of every pair would be a third of all series, and are read by two queries only.
    const some = metric.name.endsWith('body.size') ? series.slice(0, 200) : series;
    some.forEach((labels, i) => {
      const slow = (i % 9) + 3;
      seconds.forEach((second, step) => {
        const add = (suffix: string, extra: string, value: number): void =>
          void lines.push(`${name}${suffix}{${labels}${extra}} ${value} ${second}`);
        if (metric.kind === 'histogram') {
          [...(metric.buckets ?? []), '+Inf'].forEach((bound, k) => {
            add('_bucket', `,le="${bound}"`, Math.min(k, slow) * step * 10);
          });
          add('_sum', '', step);
          add('_count', '', slow * step * 10);
        } else add('', '', metric.kind === 'counter' ? step * (i + 1) : 1);
      });
    });
  }
  return `${lines.join('\n')}\n# EOF\n`;
}

const reason = missing('prometheus');
if (reason !== undefined) process.stderr.write(`skipped: cardinality: ${reason}\n`);

describe.skipIf(reason)(
  `${WORKLOADS} workloads, ${PAIRS} pairs, ${AGENTS} agents${reason ? ` (skipped: ${reason})` : ''}`,
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'knp-cardinality-'));
    const processes = new Processes();
    let prometheus: PrometheusApi;
    const time = Math.floor(Date.now() / 1000) - 3600;

    beforeAll(async () => {
      const text = openMetrics([time - 20, time - 10, time]);
      writeFileSync(join(folder, 'samples'), text);
      console.info(`${text.split('\n').length} samples, three of each series`);
      const make = [
        'tsdb',
        'create-blocks-from',
        'openmetrics',
        join(folder, 'samples'),
        join(folder, 'data'),
      ];
      execFileSync('promtool', make, { stdio: ['ignore', 'ignore', 'pipe'] });
      writeFileSync(join(folder, 'prometheus.yaml'), '');
      const port = await freePort();
      const url = `http://127.0.0.1:${port}`;
      const command = [
        'prometheus',
        `--config.file=${join(folder, 'prometheus.yaml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--log.level=error',
      ];
      const started = processes.start(command);
      await untilServing('Prometheus', `${url}/-/ready`, started);
      prometheus = new PrometheusApi(url);
    }, 300_000);

    afterAll(async () => {
      await processes.stop();
      rmSync(folder, { recursive: true, force: true });
    }, 60_000);

    test('what panels draw is bounded', async () => {
      const counts: { where: string; type: string; n: number }[] = [];
      for (const { where, expr, panel } of allPanelQueries()) {
        // The dashboard of one workload is opened for one workload.
        const promql = filled(expr, 'server', where.startsWith('knp-workload') ? 'app-7' : '.*');
        counts.push({ where, type: panel.type, n: (await prometheus.query(promql, time)).length });
      }
      const largest = [...counts].sort((a, b) => b.n - a.n).slice(0, 12);
      console.info(
        `The largest queries of ${counts.length}:\n${largest.map(({ n, where }) => `  ${n} ${where}`).join('\n')}`,
      );
      expect(counts.filter(({ n, type }) => n > (PANEL_BOUND[type] ?? 0))).toEqual([]);
      expect(Math.max(...counts.map(({ n }) => n))).toBeGreaterThan(100);
      // The load is one that fills the panels: hardly any query finds nothing (firing alerts, and what needs errors to).
      const empty = counts.filter(({ n }) => n === 0);
      expect(empty.length, empty.map(({ where }) => where).join(', ')).toBeLessThan(5);
    });

    test('what rules record is bounded by the number of pairs', async () => {
      const records = groups().flatMap(({ rules }) =>
        rules.flatMap((rule) => ('record' in rule ? [rule] : [])),
      );
      const counts: { name: string; n: number }[] = [];
      for (const { record, expr } of records)
        counts.push({ name: record, n: (await prometheus.query(expr, time)).length });
      console.info(
        counts
          .sort((a, b) => b.n - a.n)
          .map(({ name, n }) => `  ${n} ${name}`)
          .join('\n'),
      );
      expect(counts.filter(({ n }) => n > RULE_BOUND || n === 0)).toEqual([]);
      const perServer = counts.filter(({ name }) => /knp:(server|port)_/.test(name));
      expect(perServer.filter(({ n }) => n > WORKLOADS)).toEqual([]);
    });
  },
);
