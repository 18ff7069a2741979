// Rules for two protocols: each is recorded and judged by itself.
import { describe, expect, test } from 'vitest';
import { groups } from '../../../alerts/generate.ts';
import { DEFAULT_SETTINGS } from '../../../alerts/settings.ts';
import { REQUEST_PROTOCOLS } from '../../../exporter/probes/descriptors.ts';
import { missing, promtoolTest, type Scenario } from '../alerts/promtool.ts';
import { STORE } from './second_protocol.ts';

const PROTOCOLS = [...REQUEST_PROTOCOLS, STORE];

const EDGE = 'server_namespace="shop",server_workload="cart"';
const STORE_LABELS = `reporter="server",db_system_name="teststore",${EDGE}`;
const http = (more = '') => `http_server_request_duration_seconds_count{reporter="server",${EDGE}${more}}`;
const store = (more = '') => `knp_db_server_operation_duration_seconds_count{${STORE_LABELS}${more}}`;
const bucket = (le: string) => `knp_db_server_operation_duration_seconds_bucket{${STORE_LABELS},le="${le}"}`;
const labels = { server_namespace: 'shop', server_workload: 'cart', protocol: 'teststore' };
const FIRST_LOOK =
  'The Workload dashboard shows which operations and clients; `kubenetprobe trace --errors` on its node shows single requests.';

const SCENARIOS: Scenario[] = [
  {
    alert: 'KnpErrorBudgetBurnFast',
    title: 'one command in five fails among many requests that do not',
    series: {
      [http()]: '0+6000x20',
      [store()]: '0+48x20',
      [store(',error_type="OOM"')]: '0+12x20',
    },
    at: '15m',
    fires: [
      {
        labels,
        severity: 'critical',
        component: 'service',
        summary: 'shop/cart: 20% of teststore requests fail',
        description: `More than 0.144 of the requests failed over 5m and over 1h. At this pace a month's error budget is gone in two days. ${FIRST_LOOK}`,
      },
    ],
  },
  {
    alert: 'KnpErrorBudgetBurnFast',
    title: 'commands of another store in the same metric fail',
    series: {
      [store()]: '0+60x20',
      [store(',error_type="OOM"').replace('"teststore"', '"another"')]: '0+60x20',
    },
    at: '15m',
    fires: [],
  },
  {
    alert: 'KnpLatencyHigh',
    title: 'slow commands beside fast requests',
    series: {
      [bucket('1')]: '0+30x20',
      [bucket('5')]: '0+60x20',
      [bucket('+Inf')]: '0+60x20',
      [store()]: '0+60x20',
      [`http_server_request_duration_seconds_bucket{reporter="server",${EDGE},le="0.1"}`]: '0+60x20',
      [`http_server_request_duration_seconds_bucket{reporter="server",${EDGE},le="+Inf"}`]: '0+60x20',
      [http()]: '0+60x20',
    },
    at: '18m',
    fires: [
      {
        labels,
        severity: 'warning',
        component: 'service',
        summary: 'shop/cart: p95 latency of teststore requests is 4.6s',
        description:
          'One request in twenty takes longer than that; the bound is 1 s. Compare the latency of what it calls (Workload dashboard, outbound) before looking into the workload itself.',
      },
    ],
  },
  {
    alert: 'KnpTrafficGone',
    title: 'the commands end, the requests go on',
    series: { [http()]: '0+120x160', [store()]: '0+120x120 14400x40' },
    at: '140m',
    fires: [
      {
        labels,
        severity: 'warning',
        component: 'service',
        summary: 'shop/cart: no traffic, 1.667 teststore requests/s before',
        description:
          'Less than 0.05 of the requests of 10m ago arrive. Either its clients lost the way to it, or it was removed on purpose. Look at failed connects to it, then at its clients.',
      },
    ],
  },
];

describe('recording rules', () => {
  const records = (protocols: typeof PROTOCOLS) =>
    groups(DEFAULT_SETTINGS, protocols).flatMap(({ rules }) =>
      rules.flatMap((rule) => ('record' in rule ? [rule] : [])),
    );

  test('each about requests is there once per protocol, the others once', () => {
    const both = records(PROTOCOLS);
    const one = records([...REQUEST_PROTOCOLS]);
    expect(both.filter(({ labels: own }) => own?.protocol !== 'teststore')).toEqual(one);
    const second = both.filter(({ labels: own }) => own?.protocol === 'teststore');
    expect(second.map(({ record }) => record)).toEqual(
      one.filter(({ labels: own }) => own?.protocol === 'http').map(({ record }) => record),
    );
    for (const { expr } of second) {
      expect(expr).toContain('knp_db_server_operation_duration_seconds_');
      expect(expr).toContain('{db_system_name="teststore",reporter="server"');
      expect(expr).not.toContain('http_');
    }
  });
});

const noPromtool = missing('promtool');
test.skipIf(noPromtool)('every scenario ends as it should', { timeout: 120_000 }, () => {
  const { passed, output } = promtoolTest(SCENARIOS, DEFAULT_SETTINGS, PROTOCOLS);
  expect(passed, output).toBe(true);
  // They do not pass because nothing is looked at.
  const blind = promtoolTest(SCENARIOS, DEFAULT_SETTINGS, REQUEST_PROTOCOLS);
  expect(blind.passed).toBe(false);
});
