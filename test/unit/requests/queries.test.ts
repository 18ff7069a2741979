// What Prometheus answers to the queries of the dashboards when two protocols are there: promtool evaluates them.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { REQUEST_PROTOCOLS } from '../../../exporter/probes/descriptors.ts';
import { filled } from '../../e2e/demo_queries.ts';
import { missing } from '../alerts/promtool.ts';
import { models, panelQueries } from '../dashboards/model.ts';
import { STORE } from './second_protocol.ts';

const QUERIES = panelQueries(models([...REQUEST_PROTOCOLS, STORE]));

function promtool(args: readonly string[], document: unknown): { status: number | null; output: string } {
  const folder = mkdtempSync(join(tmpdir(), 'knp-queries-'));
  try {
    const file = join(folder, 'file.yaml');
    writeFileSync(file, stringify(document, { lineWidth: 0 }));
    const { status, stdout, stderr } = spawnSync('promtool', [...args, file], { encoding: 'utf8' });
    return { status, output: stdout + stderr };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const EDGE = 'cluster="c",server_namespace="shop",server_workload="cart"';
/** Per minute: HTTP 60, of which the client saw 6 fail, the server 0; commands 120, of which 30 failed at both ends. */
const SERIES = Object.entries({
  [`http_server_request_duration_seconds_count{reporter="server",${EDGE}}`]: 60,
  [`http_client_request_duration_seconds_count{reporter="client",${EDGE}}`]: 54,
  [`http_client_request_duration_seconds_count{reporter="client",${EDGE},error_type="404"}`]: 6,
  [`knp_db_server_operation_duration_seconds_count{reporter="server",db_system_name="teststore",${EDGE}}`]: 90,
  [`knp_db_server_operation_duration_seconds_count{reporter="server",db_system_name="teststore",error_type="OOM",${EDGE}}`]: 30,
  [`db_client_operation_duration_seconds_count{reporter="client",db_system_name="teststore",${EDGE}}`]: 90,
  [`db_client_operation_duration_seconds_count{reporter="client",db_system_name="teststore",error_type="OOM",${EDGE}}`]: 30,
  [`db_client_operation_duration_seconds_count{reporter="client",db_system_name="another",${EDGE}}`]: 6000,
  [`http_server_request_duration_seconds_bucket{reporter="server",le="0.1",${EDGE}}`]: 60,
  [`http_server_request_duration_seconds_bucket{reporter="server",le="+Inf",${EDGE}}`]: 60,
  [`knp_db_server_operation_duration_seconds_bucket{reporter="server",db_system_name="teststore",le="0.001",${EDGE}}`]: 120,
  [`knp_db_server_operation_duration_seconds_bucket{reporter="server",db_system_name="teststore",le="+Inf",${EDGE}}`]: 120,
}).map(([series, perMinute]) => ({ series, values: `0+${perMinute / 2}x20` }));

const noPromtool = missing('promtool');
describe.skipIf(noPromtool)(`promtool${noPromtool ? ` (skipped: ${noPromtool})` : ''}`, () => {
  test('every query parses', () => {
    expect(QUERIES.length).toBeGreaterThan(100);
    const rules = QUERIES.map(({ expr }, i) => ({ record: `query:${i}`, expr: filled(expr, 'server') }));
    const { status, output } = promtool(['check', 'rules'], { groups: [{ name: 'queries', rules }] });
    expect(status, output).toBe(0);
    expect(output).toContain(`${rules.length} rules found`);
  });

  type Sample = { readonly labels: string; readonly value: number };
  const CART = '{server_namespace="shop",server_workload="cart"}';
  test.each<[panel: string, reporter: 'server' | 'client', samples: Sample[]]>([
    ['Requests', 'server', [{ labels: '{}', value: 3 }]],
    ['Requests', 'client', [{ labels: '{}', value: 3 }]],
    ['Errors', 'server', [{ labels: '{}', value: 0.5 / 3 }]],
    ['Errors', 'client', [{ labels: '{}', value: 0.6 / 3 }]],
    ['Traffic', 'server', [{ labels: CART, value: 3 }]],
    [
      'Latency, p95',
      'server',
      [
        { labels: '{protocol="HTTP"}', value: 0.095 },
        { labels: '{protocol="Test store"}', value: 0.00095 },
      ],
    ],
  ])('Overview, %s by the %s', (panel, reporter, samples) => {
    const query = QUERIES.find((each) => each.dashboard === 'knp-overview' && each.panel.title === panel);
    const evaluate = (expected: readonly Sample[]) =>
      promtool(['test', 'rules'], {
        rule_files: [],
        evaluation_interval: '30s',
        tests: [
          {
            interval: '30s',
            input_series: SERIES,
            promql_expr_test: [
              {
                // In whole units of 1e-5: sums of floating-point numbers are a last digit off.
                expr: `round((${filled(query?.expr ?? '', reporter).replaceAll('[30s]', '[2m]')}) * 1e5)`,
                eval_time: '8m',
                exp_samples: expected.map(({ labels, value }) => ({
                  labels,
                  value: Math.round(value * 1e5),
                })),
              },
            ],
          },
        ],
      });
    const { status, output } = evaluate(samples);
    expect(status, output).toBe(0);
    expect(evaluate(samples.map((each) => ({ ...each, value: each.value + 1 }))).status).not.toBe(0);
  });
});
