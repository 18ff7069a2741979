// Runs scenarios through `promtool test rules`, with the rules as they are shipped.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ruleFiles } from '../../../alerts/generate.ts';
import { type AlertName, DEFAULT_SETTINGS, type Settings } from '../../../alerts/settings.ts';
import type { Duration } from '../../../dashboards/promql/names.ts';
import { REQUEST_PROTOCOLS } from '../../../exporter/probes/descriptors.ts';
import type { RequestProtocol } from '../../../exporter/telemetry/requests/protocol.ts';

export interface Expected {
  /** All labels but those that every alert has. */
  readonly labels: Readonly<Record<string, string>>;
  readonly severity: 'critical' | 'warning';
  readonly component: 'service' | 'tcp' | 'agent';
  readonly summary: string;
  readonly description: string;
}

export interface Scenario {
  readonly alert: AlertName;
  readonly title: string;
  /** Series → values in promtool's notation: `0+60x20` grows by 60 per interval, 20 times. */
  readonly series: Readonly<Record<string, string>>;
  /** Time between samples and between evaluations, 1m unless told. */
  readonly interval?: Duration;
  readonly at: string;
  /** The alerts of that name that fire at that time; empty: a near miss. */
  readonly fires: readonly Expected[];
}

export const RUNBOOKS = 'https://github.com/kubenetprobe/kubenetprobe/blob/main/docs/runbooks';

function test({ alert, title, series, interval = '1m', at, fires }: Scenario): unknown {
  return {
    name: `${alert}: ${title}`,
    interval,
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    alert_rule_test: [
      {
        alertname: alert,
        eval_time: at,
        exp_alerts: fires.map(({ labels, severity, component, summary, description }) => ({
          exp_labels: { ...labels, severity, component, app: 'kubenetprobe' },
          exp_annotations: { summary, description, runbook_url: `${RUNBOOKS}/${alert}.md` },
        })),
      },
    ],
  };
}

export interface Outcome {
  readonly passed: boolean;
  readonly output: string;
}

/** Runs the scenarios against the rules; those that span a week are evaluated more seldom, or it would take minutes. */
export function promtoolTest(
  scenarios: readonly Scenario[],
  settings: Settings = DEFAULT_SETTINGS,
  protocols: readonly RequestProtocol[] = REQUEST_PROTOCOLS,
): Outcome {
  const intervals = [...new Set(scenarios.map(({ interval = '1m' }) => interval))];
  const outcomes = intervals.map((interval) =>
    run(
      ruleFiles({ ...settings, interval }, protocols),
      interval,
      scenarios.filter((each) => (each.interval ?? '1m') === interval),
    ),
  );
  return {
    passed: outcomes.every(({ passed }) => passed),
    output: outcomes.map(({ output }) => output).join('\n'),
  };
}

function run(
  rules: ReadonlyMap<string, string>,
  interval: Duration,
  scenarios: readonly Scenario[],
): Outcome {
  const folder = mkdtempSync(join(tmpdir(), 'knp-alerts-'));
  try {
    for (const [name, content] of rules) writeFileSync(join(folder, name), content);
    const suite = {
      rule_files: [...rules.keys()],
      evaluation_interval: interval,
      group_eval_order: [
        'kubenetprobe-recording',
        'kubenetprobe-services',
        'kubenetprobe-tcp',
        'kubenetprobe-agent',
      ],
      tests: scenarios.map(test),
    };
    writeFileSync(join(folder, 'test.yaml'), stringify(suite, { lineWidth: 0 }));
    const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', 'test.yaml'], {
      cwd: folder,
      encoding: 'utf8',
    });
    return { passed: status === 0, output: stdout + stderr };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Why the tool is not there, if so. */
export function missing(tool: string): string | undefined {
  try {
    execFileSync(tool, ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return `no ${tool} in the PATH`;
  }
}
