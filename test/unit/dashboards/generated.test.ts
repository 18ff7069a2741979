// The committed dashboards: what the builders give, and what Grafana can read.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { dashboardFiles, dashboards, GENERATED } from '../../../dashboards/generate.ts';
import { ROOT } from '../../../scripts/architecture/files.ts';
import { schemaProblems } from './schema.ts';

test('dashboards/generated is what the builders give (else: node dashboards/generate.ts)', () => {
  const files = dashboardFiles();
  expect(readdirSync(GENERATED).sort()).toEqual([...files.keys()].sort());
  for (const [name, content] of files) {
    expect(readFileSync(join(GENERATED, name), 'utf8'), name).toBe(content);
  }
});

const all = (): object[] => JSON.parse(JSON.stringify([...dashboards().values()]));

test("every dashboard is valid against Grafana's schema", { timeout: 120_000 }, () => {
  expect(schemaProblems(all())).toEqual([]);
});

test('the schema check sees an unknown field, a wrong type and a wrong value', { timeout: 120_000 }, () => {
  type Broken = { panels: Record<string, unknown>[]; links: Record<string, unknown>[] } & Record<
    string,
    unknown
  >;
  const broken = (change: (dashboard: Broken) => void): object => {
    const [first] = all() as [Broken];
    change(first);
    return first;
  };
  const panelOf = (dashboard: Broken, type: string) =>
    dashboard.panels.find((panel) => panel.type === type) as Record<string, never>;
  const problems = schemaProblems([
    broken((dashboard) => Object.assign(dashboard, { colour: 'red' })),
    broken((dashboard) => Object.assign(dashboard.links[0] ?? {}, { type: 'nowhere' })),
    broken((dashboard) => Object.assign(panelOf(dashboard, 'timeseries').options ?? {}, { lines: 3 })),
    broken((dashboard) => {
      const [target] = panelOf(dashboard, 'stat').targets as unknown as object[];
      Object.assign(target ?? {}, { expr: 3 });
    }),
  ]);
  expect(problems.filter((line) => line.includes('error TS'))).toHaveLength(4);
  for (const word of ['colour', '"nowhere"', 'lines', "'number' is not assignable to type 'string'"]) {
    expect(problems.join('\n')).toContain(word);
  }
});

test('the provisioning files are what Grafana expects', () => {
  const read = (path: string) =>
    parse(readFileSync(join(ROOT, 'dashboards/provisioning', path), 'utf8')) as Record<string, unknown>;
  expect(read('dashboards/kubenetprobe.yaml')).toMatchObject({
    apiVersion: 1,
    providers: [{ type: 'file', options: { path: expect.stringMatching(/^\//) } }],
  });
  expect(read('datasources/prometheus.yaml')).toMatchObject({
    apiVersion: 1,
    datasources: [{ type: 'prometheus', access: 'proxy', jsonData: { timeInterval: '15s' } }],
  });
});
