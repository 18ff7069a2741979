// The test command's own reporter and summary: nothing that failed or was skipped gets lost on the way.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ROOT } from '../../../scripts/architecture/files.ts';
import { RESULTS_FILE_VARIABLE, type Results, summary } from '../../../scripts/results.ts';

const folder = mkdtempSync(join(tmpdir(), 'knp-architecture-vitest-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs vitest on one test file with our reporter; answers what the reporter wrote. */
function report(source: string): Results {
  const root = mkdtempSync(join(folder, 'project-'));
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  mkdirSync(join(root, 'test'));
  writeFileSync(join(root, 'test/some.test.ts'), source);
  writeFileSync(join(root, 'vitest.config.ts'), 'export default {};\n');
  const file = join(root, 'results.json');
  const args = ['run', '--root', root, `--reporter=${join(ROOT, 'scripts/vitest_results.ts')}`];
  const env = { ...process.env, [RESULTS_FILE_VARIABLE]: file };
  spawnSync(join(ROOT, 'node_modules/.bin/vitest'), args, { cwd: root, env, encoding: 'utf8' });
  return JSON.parse(readFileSync(file, 'utf8')) as Results;
}

const HEAD = `import { beforeAll, describe, expect, test } from 'vitest';\n`;

test('passed, failed and skipped tests are told apart, with the reason', () => {
  const results = report(`${HEAD}
    test('good', () => {});
    test('bad', () => expect(1).toBe(2));
    test('not here', (context) => context.skip('no netem in this kernel'));
    describe('group', () => test.skip('silent', () => {}));
  `);
  expect(results.passed).toBe(1);
  expect(results.failed).toEqual(['test/some.test.ts > bad']);
  expect(results.skipped).toEqual([
    { name: 'test/some.test.ts > not here', reason: 'no netem in this kernel' },
    { name: 'test/some.test.ts > group > silent', reason: 'no reason was given' },
  ]);
});

test.each([
  ['a file that cannot be imported', `import './nothing.ts';\n`],
  [
    'a hook that throws',
    `${HEAD}describe('a', () => { beforeAll(() => { throw new Error('no'); }); test('b', () => {}); });`,
  ],
  ['a promise that nobody awaited', `${HEAD}test('a', () => { void Promise.reject(new Error('lost')); });`],
])('%s is a failure', (_name, source) => {
  expect(report(source).failed.length).toBeGreaterThan(0);
});

test('how long each file took is written down, hooks included', () => {
  const { times } = report(`${HEAD}
    const wait = () => new Promise((done) => setTimeout(done, 600));
    beforeAll(wait);
    test('slow', wait);
  `);
  expect(times.map(({ name }) => name)).toEqual(['test/some.test.ts']);
  expect(times[0]?.seconds).toBeGreaterThan(1.1);
  expect(times[0]?.seconds).toBeLessThan(60);
});

test('the summary names every failed and skipped check and adds up', () => {
  const skipped = [{ name: 'c', reason: 'no root' }];
  const text = summary([
    { stage: 'unit', passed: 7, failed: ['a > b'], skipped: [], times: [], seconds: 3.4 },
    { stage: 'kernel', passed: 5, failed: [], skipped, times: [], seconds: 61 },
  ]);
  expect(text.trim().split('\n')).toEqual([
    'skipped  [kernel] c: no root',
    'FAILED   [unit] a > b',
    'unit             7 passed, 1 failed, 0 skipped in 3 s',
    'kernel           5 passed, 0 failed, 1 skipped in 1 min 1 s',
    'all stages       1 min 4 s',
    '12 passed, 1 failed, 1 skipped',
  ]);
});

test('the summary lists the ten slowest files of a stage, the slowest first', () => {
  const times = Array.from({ length: 12 }, (_, n) => ({ name: `test/${n}.test.ts`, seconds: 60 + n }));
  const quick = { name: 'test/quick.test.ts', seconds: 0.9 };
  const stage = { passed: 1, failed: [], skipped: [], seconds: 1 };
  const lines = summary([
    { ...stage, stage: 'kernel', times: [quick, ...times] },
    { ...stage, stage: 'lint', times: [quick] },
  ])
    .trim()
    .split('\n');
  expect(lines[0]).toBe('slowest of kernel:');
  expect(lines.slice(1, 11).map((line) => line.trim())).toEqual(
    Array.from({ length: 10 }, (_, n) => `1 min ${11 - n} s  test/${11 - n}.test.ts`),
  );
  expect(lines[11]).toMatch(/^kernel /);
});

test('an unknown stage is refused with the names of those that exist', () => {
  const run = spawnSync(process.execPath, ['scripts/test.ts', 'nonsense'], { cwd: ROOT, encoding: 'utf8' });
  expect(run.status).toBe(2);
  expect(run.stderr).toContain('no stage nonsense; there are lint, unit, kernel');
});

test('the scripts are sound bash', () => {
  for (const script of [
    'scripts/bootstrap',
    'scripts/as-root',
    'scripts/vendor',
    'scripts/pin-images',
    '.ci/run',
  ]) {
    execFileSync('bash', ['-n', script], { cwd: ROOT });
  }
});
