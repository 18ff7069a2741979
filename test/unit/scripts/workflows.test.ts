// The hosted CI: it runs what `.ci/run` runs, may do as little as possible, and every action is a commit.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

const FOLDER = join(import.meta.dirname, '../../../.github/workflows');

type Step = { uses?: string; run?: string; with?: Record<string, unknown> };
type Job = {
  'runs-on': string;
  'timeout-minutes': number;
  container?: unknown;
  permissions?: unknown;
  steps: Step[];
};
type Workflow = { permissions: unknown; jobs: Record<string, Job> };

const read = (file: string): { text: string; workflow: Workflow } => {
  const text = readFileSync(join(FOLDER, file), 'utf8');
  return { text, workflow: parse(text) };
};

describe.each(readdirSync(FOLDER))('%s', (file) => {
  const { text, workflow } = read(file);

  test('may read the repository and nothing else', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
    for (const job of Object.values(workflow.jobs)) expect(job.permissions).toBeUndefined();
    expect(text).not.toMatch(/pull_request_target|secrets\./);
  });

  test('uses actions by commit, with the version beside it', () => {
    const uses = text.split('\n').filter((line) => /\buses:/.test(line));
    expect(uses.length).toBeGreaterThan(0);
    for (const line of uses) expect(line).toMatch(/uses: [\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  test('ends in bounded time and leaves no credentials in the clone', () => {
    for (const job of Object.values(workflow.jobs)) {
      expect(job['timeout-minutes']).toBeLessThanOrEqual(90);
      const checkout = job.steps.find(({ uses }) => uses?.startsWith('actions/checkout@'));
      expect(checkout?.with?.['persist-credentials']).toBe(false);
    }
  });
});

test('CI runs .ci/run on a machine of its own, not in a container', () => {
  const { test: job } = read('ci.yml').workflow.jobs;
  expect(job?.container).toBeUndefined();
  expect(job?.['runs-on']).toBe('ubuntu-24.04');
  expect(job?.steps.map(({ run }) => run).filter(Boolean)).toEqual(['.ci/run']);
});
