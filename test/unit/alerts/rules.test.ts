// The rules as they are shipped: valid, as the builders give them, and each alert fires when it should and only then.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import {
  GENERATED,
  generatedFiles,
  groups,
  PLACEHOLDER_SETTINGS,
  ruleFiles,
} from '../../../alerts/generate.ts';
import { DEFAULT_HOLD, DEFAULT_SETTINGS, THRESHOLDS } from '../../../alerts/settings.ts';
import { ROOT } from '../../../scripts/architecture/files.ts';
import { families, selectorsOf } from '../dashboards/selectors.ts';
import { missing, promtoolTest, RUNBOOKS, type Scenario } from './promtool.ts';
import { SCENARIOS } from './scenarios.ts';

const rules = groups().flatMap((group) => group.rules);
const alerts = rules.flatMap((rule) => ('alert' in rule ? [rule] : []));
const records = rules.flatMap((rule) => ('record' in rule ? [rule] : []));

test('alerts/generated is what the builders give (else: node alerts/generate.ts)', () => {
  const files = generatedFiles();
  const found = readdirSync(GENERATED, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(GENERATED.length + 1));
  expect(found.sort()).toEqual([...files.keys()].sort());
  for (const [name, content] of files)
    expect(readFileSync(join(GENERATED, name), 'utf8'), name).toBe(content);
});

test('the PrometheusRules hold the same groups', () => {
  const text = generatedFiles().get('operator/prometheusrules.yaml') as string;
  const documents = parseAllDocuments(text).map(
    (each) => each.toJS() as { kind: string; spec: { groups: unknown[] } },
  );
  expect(documents.every(({ kind }) => kind === 'PrometheusRule')).toBe(true);
  expect(documents.flatMap(({ spec }) => spec.groups)).toEqual(JSON.parse(JSON.stringify(groups())));
});

test('every alert is complete, and has a runbook with all its parts', () => {
  expect(alerts.map(({ alert }) => alert).sort()).toEqual(Object.keys(DEFAULT_HOLD).sort());
  for (const { alert, annotations, labels, for: hold } of alerts) {
    expect(labels, alert).toEqual({
      severity: expect.stringMatching(/^(critical|warning)$/),
      component: expect.stringMatching(/^(service|tcp|agent)$/),
      app: 'kubenetprobe',
    });
    expect(hold, alert).toMatch(/^\d+m$/);
    expect(annotations.runbook_url).toBe(`${RUNBOOKS}/${alert}.md`);
    const path = join(ROOT, `docs/runbooks/${alert}.md`);
    expect(existsSync(path), path).toBe(true);
    const text = readFileSync(path, 'utf8');
    expect(
      [...text.replace(/```[\s\S]*?```/g, '').matchAll(/^(#{1,2} .*)$/gm)].map((match) => match[1]),
    ).toEqual([`# ${alert}`, '## Meaning', '## Confirm', '## Causes', '## Fixes']);
    expect(text, `${alert}: PromQL to confirm with`).toContain('```promql\n');
    expect(text, `${alert}: our CLI to confirm with`).toMatch(
      /kubenetprobe (top|trace|doctor|map|metrics|config|run)/,
    );
  }
  const books = readdirSync(join(ROOT, 'docs/runbooks')).filter((name) => name !== 'README.md');
  expect(books.sort()).toEqual(alerts.map(({ alert }) => `${alert}.md`).sort());
});

test('rules name metrics, labels and values of the catalogue, and records that exist', () => {
  const known = families();
  const target = ['job', 'instance', 'cluster', 'node'];
  const problems: string[] = [];
  for (const rule of rules) {
    const name = 'record' in rule ? rule.record : rule.alert;
    for (const { metric, matchers } of selectorsOf(rule.expr)) {
      const family = known.get(metric);
      if (metric === 'up') continue;
      if (family === undefined) problems.push(`${name}: no metric ${metric}`);
      for (const { label, value } of matchers) {
        if (!family?.labels.has(label) && !target.includes(label))
          problems.push(`${name}: no label ${label}`);
        const values = family?.values.get(label);
        if (values !== undefined && value !== '' && !values.includes(value))
          problems.push(`${name}: never ${value}`);
      }
    }
    const read = rule.expr.match(/knp:[\w:]+/g) ?? [];
    for (const record of read)
      if (!records.some((each) => each.record === record)) problems.push(`${name}: no record ${record}`);
    const bare = rule.expr.replace(/\{[^}]*\}|"[^"]*"/g, '').match(/\b(knp|http|traces)_\w+/g) ?? [];
    for (const metric of bare)
      if (!known.has(metric) && !/_(method|route|code)$/.test(metric))
        problems.push(`${name}: no metric ${metric}`);
  }
  expect(problems).toEqual([]);
  const text = rules.map(({ expr }) => expr).join('\n');
  expect(records.filter(({ record }) => !text.includes(record))).toEqual([]);
});

test('every threshold is used, and each can be replaced by the chart', () => {
  const text = [...ruleFiles(PLACEHOLDER_SETTINGS).values()].join('\n');
  for (const name of Object.keys(THRESHOLDS)) expect(text).toContain(`__${name}__`);
  const filled = Object.entries(THRESHOLDS).reduce(
    (all, [name, { value }]) => all.replaceAll(`__${name}__`, String(value)),
    text.replaceAll('__runbooks__', RUNBOOKS),
  );
  expect(filled).toBe([...ruleFiles(DEFAULT_SETTINGS).values()].join('\n'));
});

const noPromtool = missing('promtool');
describe.skipIf(noPromtool)(`promtool${noPromtool ? ` (skipped: ${noPromtool})` : ''}`, () => {
  test('accepts the rules', () => {
    const files = [...ruleFiles().keys()].map((name) => join(GENERATED, name));
    expect(execFileSync('promtool', ['check', 'rules', ...files], { encoding: 'utf8' })).toContain('SUCCESS');
  });

  test('no alert lacks a scenario in which it fires, or one in which it must not', () => {
    const lacks = (fires: boolean): string[] =>
      alerts
        .map(({ alert }) => alert)
        .filter((name) => !SCENARIOS.some((each) => each.alert === name && each.fires.length > 0 === fires));
    expect(lacks(true)).toEqual([]);
    expect(lacks(false)).toEqual([]);
  });

  test('every scenario ends as it should', { timeout: 300_000 }, () => {
    const { passed, output } = promtoolTest(SCENARIOS);
    expect(passed, output).toBe(true);
  });

  test('a wrong text, a wrong label, and a near miss that fires are found', { timeout: 120_000 }, () => {
    const [fires, miss] = SCENARIOS.filter(({ alert }) => alert === 'KnpCoverageLow') as [Scenario, Scenario];
    const [expected] = fires.fires;
    if (expected === undefined) throw new Error('no such scenario');
    const wrong: Scenario[] = [
      { ...fires, fires: [{ ...expected, summary: 'something else' }] },
      { ...fires, fires: [{ ...expected, labels: { instance: 'other' } }] },
      { ...miss, series: fires.series },
    ];
    for (const scenario of wrong) expect(promtoolTest([scenario]).passed).toBe(false);
    expect(promtoolTest([fires, miss]).passed).toBe(true);
  });
});
