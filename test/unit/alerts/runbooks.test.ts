// What the runbooks tell people to type works: PromQL that parses and names what is there, commands that exist. The same
// for the example of Alertmanager.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { groups } from '../../../alerts/generate.ts';
import { ROOT } from '../../../scripts/architecture/files.ts';
import { families } from '../dashboards/selectors.ts';
import { missing } from './promtool.ts';

const FOLDER = join(ROOT, 'docs/runbooks');
const books = readdirSync(FOLDER).map((name) => [name, readFileSync(join(FOLDER, name), 'utf8')] as const);
const blocks = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(
    (match) => match[1] as string,
  );

/** A statement ends where the next line neither continues a parenthesis nor begins with a space. */
function statements(block: string): string[] {
  const all: string[] = [];
  let depth = 0;
  for (const line of block.split('\n').filter((each) => each !== '' && !each.startsWith('#'))) {
    if (depth > 0 || /^[\s)]/.test(line)) all[all.length - 1] += ` ${line.trim()}`;
    else all.push(line);
    depth += (line.match(/[({]/g) ?? []).length - (line.match(/[)}]/g) ?? []).length;
  }
  return all;
}
const expressions = books.flatMap(([name, text]) =>
  blocks(text, 'promql')
    .flatMap(statements)
    .map((each) => [name, each] as const),
);

test('metrics and records of the PromQL exist', () => {
  const known = new Set([
    ...families().keys(),
    ...groups().flatMap(({ rules }) => rules.flatMap((rule) => ('record' in rule ? [rule.record] : []))),
  ]);
  expect(expressions.length).toBeGreaterThan(books.length);
  for (const [name, expression] of expressions) {
    const bare = expression.replace(/\{[^}]*\}|"[^"]*"|\bby \([^)]*\)/g, '');
    for (const metric of bare.match(/\b(?:knp:[\w:]+|(?:knp|http|traces)_\w+)/g) ?? [])
      expect(known.has(metric), `${name}: ${metric}`).toBe(true);
  }
});

const noPromtool = missing('promtool');
test.skipIf(noPromtool)('the PromQL parses', () => {
  const folder = mkdtempSync(join(tmpdir(), 'knp-runbooks-'));
  try {
    const file = join(folder, 'rules.yaml');
    const rules = expressions.map(([, expr], i) => ({ record: `runbook:${i}`, expr }));
    writeFileSync(file, stringify({ groups: [{ name: 'runbooks', rules }] }, { lineWidth: 0 }));
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' });
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toContain(`${rules.length} rules found`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('the commands and options of the agent exist', () => {
  const used = books.flatMap(([name, text]) =>
    [
      ...blocks(text, 'sh')
        .join('\n')
        .matchAll(/^kubenetprobe (\w+)([^\n#|]*)/gm),
    ].map((match) => ({ name, command: match[1] as string, rest: match[2] as string })),
  );
  expect(used.length).toBeGreaterThanOrEqual(books.length);
  for (const { name, command, rest } of used) {
    const path = join(ROOT, `exporter/cli/commands/${command}.ts`);
    expect(existsSync(path), `${name}: ${command}`).toBe(true);
    const source = readFileSync(path, 'utf8');
    for (const [option] of rest.matchAll(/--[\w-]+/g))
      expect(source, `${name}: ${command} ${option}`).toContain(option);
  }
});

describe('the example of Alertmanager', () => {
  const path = join(ROOT, 'alerts/alertmanager/alertmanager.yaml');
  const noAmtool = missing('amtool');
  test.skipIf(noAmtool)('amtool accepts it', () => {
    expect(execFileSync('amtool', ['check-config', path], { encoding: 'utf8' })).toContain('SUCCESS');
  });

  test('names alerts that exist', () => {
    const { inhibit_rules: rules } = parse(readFileSync(path, 'utf8')) as {
      inhibit_rules: Record<string, string[]>[];
    };
    const names = new Set<string>(
      groups().flatMap((group) => group.rules.flatMap((rule) => ('alert' in rule ? [rule.alert] : []))),
    );
    const named = JSON.stringify(rules).match(/Knp\w+/g) ?? [];
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => !names.has(name))).toEqual([]);
  });

  const route = (...labels: string[]): string =>
    execFileSync('amtool', ['config', 'routes', 'test', `--config.file=${path}`, ...labels], {
      encoding: 'utf8',
    }).trim();
  test.skipIf(noAmtool)('routes by severity and component', () => {
    expect(route('app=kubenetprobe', 'severity=critical', 'component=service')).toBe('on-call');
    expect(route('app=kubenetprobe', 'severity=warning', 'component=agent')).toBe('platform');
    expect(route('app=kubenetprobe', 'severity=warning', 'component=tcp')).toBe('team');
  });
});
