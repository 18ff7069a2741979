// The demo under test: a real Prometheus scrapes the real agent while a real shop runs; every panel and every rule finds
// data, and every fault makes its alert reach a webhook through a real Alertmanager, and end.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { groups } from '../../alerts/generate.ts';
import { type Demo, demoUnavailable, startDemo } from '../demo/demo.ts';
import { DEMO_SETTINGS, type Delivered } from '../demo/monitoring.ts';
import { NAME } from '../demo/processes.ts';
import { FAULTS, type Fault, type FaultName } from '../demo/shop.ts';
import { selectorsOf } from '../unit/dashboards/selectors.ts';
import {
  allPanelQueries,
  filled,
  metricOf,
  PrometheusApi,
  recordNames,
  variableQueries,
} from './demo_queries.ts';

/** What the demo cannot have, by the start of the metric's name: those queries may be empty, and must be. */
const WITHOUT: readonly (readonly [prefix: string, reason: string])[] = [
  ['knp.kubernetes.', 'there is no Kubernetes API'],
  ['knp.otlp.', 'no OTLP receiver is configured'],
  ['knp.spans.', 'no OTLP receiver is configured'],
  ['db.', 'no service of the shop asks a store'],
  ['knp.db.', 'no service of the shop asks a store'],
  ['knp.agent.series_folded', 'no metric has reached the limit of series'],
];
/** Labels that nothing in the demo has. */
const EMPTY_LABELS = new Set([
  'server_namespace',
  'client_namespace',
  'server_service_namespace',
  'client_service_namespace',
]);

const reason = demoUnavailable();
if (reason !== undefined) process.stderr.write(`skipped: demo: ${reason}\n`);
const HANG_MILLIS = 90_000;
const names = Object.keys(FAULTS) as FaultName[];

describe.skipIf(reason)(`demo${reason ? ` (skipped: ${reason})` : ''}`, { timeout: 240_000 }, () => {
  const delivered: Delivered[] = [];
  let demo: Demo;
  let prometheus: PrometheusApi;
  /** Queries that had data at some time. */
  const answered = new Set<string>();

  beforeAll(async () => {
    demo = await startDemo((alert) => delivered.push(alert));
    prometheus = new PrometheusApi(demo.prometheusUrl);
  }, 120_000);
  afterAll(async () => {
    await demo?.stop();
  }, 60_000);

  const state = ({ alert, labels }: Fault): string | undefined =>
    delivered.findLast(
      (each) =>
        each.labels.alertname === alert &&
        Object.entries(labels).every(([name, value]) => each.labels[name] === value),
    )?.status;

  async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + HANG_MILLIS;
    while (!(await condition())) {
      if (Date.now() > deadline) {
        const alerts = delivered.map(({ status, labels }) => `${status} ${JSON.stringify(labels)}`);
        throw new Error(`never: ${what}\n${alerts.join('\n')}\n${demo.shop.ended().join('\n')}`);
      }
      await sleep(500);
    }
  }

  /**
   * Runs every query of every panel that had no data yet; NaN alone is no data. The variable *Reporter* takes both of its
   * values: what holds a sender back shows on one side only.
   */
  async function ask(): Promise<void> {
    for (const { where, expr } of allPanelQueries()) {
      for (const reporter of ['server', 'client'] as const) {
        if (answered.has(where)) break;
        const result = await prometheus.query(filled(expr, reporter));
        if (result.some(({ value }) => value[1] !== 'NaN')) answered.add(where);
      }
    }
  }

  const missingIn = (expr: string): string[] => {
    const metrics = selectorsOf(filled(expr, 'server')).map(({ metric }) => metricOf(metric) ?? metric);
    return [
      ...new Set(metrics.flatMap((metric) => WITHOUT.filter(([prefix]) => metric.startsWith(prefix)))),
    ].map(([prefix, why]) => `${prefix}*: ${why}`);
  };

  test('without a fault no alert fires', async () => {
    await until(
      'requests',
      async () => (await prometheus.query('sum(knp:server_requests:rate15s) > 20')).length > 0,
    );
    // Longer than windows and holds together.
    await sleep(20_000);
    // The agent watches the whole machine: what else happens there is not asserted.
    const ours = delivered.filter(
      ({ labels }) =>
        Object.values(labels).some((value) => value.startsWith('shop-')) ||
        labels.alertname === 'KnpAgentDown' ||
        labels.alertname === 'KnpAgentAbsent',
    );
    expect(ours.map(({ annotations }) => annotations.summary)).toEqual([]);
  });

  const together = names.filter((name) => name !== 'loss');
  test('the faults of services make their alerts reach the webhook', async () => {
    for (const name of together) demo.shop.set(name, true);
    for (const name of together) await until(`${name} fires`, () => state(FAULTS[name]) === 'firing');
    await ask();
    for (const name of together) {
      const { alert, labels } = FAULTS[name];
      const found = delivered.find(
        (each) =>
          each.labels.alertname === alert &&
          Object.entries(labels).every(([key, value]) => each.labels[key] === value),
      );
      expect(found?.labels).toMatchObject({ app: 'kubenetprobe', cluster: 'demo' });
      expect(found?.annotations.summary).not.toMatch(/<no value>|\{\{|NaN/);
      expect(found?.annotations.runbook_url).toMatch(new RegExp(`/${alert}\\.md$`));
    }
    expect(demo.shop.ended()).toEqual([]);
  });

  test('and end with them', async () => {
    for (const name of together) demo.shop.set(name, false);
    for (const name of together) await until(`${name} ends`, () => state(FAULTS[name]) === 'resolved');
  });

  test('lost packets make retransmits, and their alert, and end', async ({ skip }) => {
    const without = demo.shop.unavailable('loss');
    if (without !== undefined) skip(without);
    demo.shop.set('loss', true);
    await until('loss fires', () => state(FAULTS.loss) === 'firing');
    await ask();
    demo.shop.set('loss', false);
    await until('loss ends', () => state(FAULTS.loss) === 'resolved');
  });

  test('every query of every panel had data, but for what the demo cannot have', async () => {
    await ask();
    const empty = allPanelQueries().filter(({ where }) => !answered.has(where));
    const excused = empty.filter(({ expr }) => missingIn(expr).length > 0);
    const reasons = new Set(excused.flatMap(({ expr }) => missingIn(expr)));
    console.info(
      `${answered.size} queries of panels had data, ${excused.length} had none:\n  ${[...reasons].join('\n  ')}`,
    );
    expect(
      empty
        .filter(({ expr }) => missingIn(expr).length === 0)
        .map(({ where, expr }) => [where, filled(expr, 'server')]),
    ).toEqual([]);
    // An excuse that is none any more goes.
    const stale = WITHOUT.filter(
      ([prefix]) => !excused.some(({ expr }) => missingIn(expr).join().includes(`${prefix}*`)),
    );
    expect(stale).toEqual([]);
  });

  test('every query also works from the client’s side', async () => {
    for (const { where, expr } of allPanelQueries().filter(({ expr: text }) => text.includes('reporter'))) {
      await expect(prometheus.query(filled(expr, 'client')), where).resolves.toBeInstanceOf(Array);
    }
    const rate = await prometheus.query(
      filled(
        `sum(rate(http_\${reporter}_request_duration_seconds_count{reporter=~"$reporter"}[$__rate_interval]))`,
        'client',
      ),
    );
    expect(Number(rate[0]?.value[1])).toBeGreaterThan(5);
  });

  test('every recording rule has series', async () => {
    for (const name of recordNames(DEMO_SETTINGS)) {
      expect((await prometheus.query(`last_over_time(${name}[5m])`)).length, name).toBeGreaterThan(0);
    }
  });

  test('no query, rule or variable names a metric, label or value that is not emitted', async () => {
    const series = await prometheus.series('{job="kubenetprobe"}');
    const emitted = new Map<string, Map<string, Set<string>>>();
    for (const { __name__: name = '', ...labels } of series) {
      const known = emitted.get(name) ?? new Map<string, Set<string>>();
      emitted.set(name, known);
      for (const [label, value] of Object.entries(labels))
        known.set(label, (known.get(label) ?? new Set()).add(value));
    }
    const rules = groups(DEMO_SETTINGS).flatMap((group) =>
      group.rules.map((rule) => ({ where: 'record' in rule ? rule.record : rule.alert, expr: rule.expr })),
    );
    const problems = new Set<string>();
    for (const { where, expr } of [...allPanelQueries(), ...rules]) {
      for (const { metric, matchers } of selectorsOf(filled(expr, 'server'))) {
        if (metric === 'ALERTS' || metric === 'up' || missingIn(expr).length > 0) continue;
        const known = emitted.get(metric);
        if (known === undefined) problems.add(`${where}: ${metric} is not emitted`);
        for (const { label, value, operator } of matchers) {
          if (EMPTY_LABELS.has(label)) continue;
          if (known?.has(label) === false) problems.add(`${where}: ${metric} has no ${label}`);
          if (operator === '=' && known?.get(label)?.has(value) === false)
            problems.add(`${where}: no ${label}="${value}"`);
        }
      }
    }
    for (const { where, metric, label } of variableQueries()) {
      if (!EMPTY_LABELS.has(label) && !emitted.get(metric)?.has(label))
        problems.add(`${where}: ${metric} has no ${label}`);
    }
    expect([...problems]).toEqual([]);
  });

  test('without an agent only that is told: the other alerts are silent', async () => {
    demo.agent.child.kill('SIGTERM');
    const absent: Fault = { about: 'the agent is gone', alert: 'KnpAgentAbsent', labels: {} };
    await until('the absence fires', () => state(absent) === 'firing');
    interface Active {
      labels: Record<string, string>;
      status: { state: string };
    }
    const active = async (): Promise<Active[]> =>
      (await (
        await fetch(`${demo.alertmanagerUrl}/api/v2/alerts?filter=app=kubenetprobe`)
      ).json()) as Active[];
    await until('that one agent is down is known, and inhibited as all else is', async () => {
      const others = (await active()).filter(({ labels }) => labels.alertname !== 'KnpAgentAbsent');
      return (
        others.some(({ labels }) => labels.alertname === 'KnpAgentDown') &&
        others.every(({ status }) => status.state === 'suppressed')
      );
    });
  });

  test('ending leaves nothing behind', async () => {
    const pids = [demo.agent.child.pid];
    await demo.stop();
    expect(spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout).not.toContain(NAME);
    expect(existsSync(join(tmpdir(), NAME))).toBe(false);
    for (const pid of pids) expect(existsSync(`/proc/${pid}`)).toBe(false);
    const left = spawnSync('pgrep', ['-P', String(process.pid), '-f', 'prometheus|alertmanager|shop'], {
      encoding: 'utf8',
    });
    expect(left.stdout).toBe('');
  });
});
