// The test command: runs the stages it is given (all by default) and ends with a summary. Called by `make test`,
// `make test-full`, `make lint` and `make guests`. Exit code 0 only if nothing failed and something ran.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GUEST_STAGES } from './guest_stages.ts';
import { noResults, RESULTS_FILE_VARIABLE, type Results, type StageResults, summary } from './results.ts';
import { rootObstacle, runCommand, withRoot } from './run_command.ts';

const VITEST = [
  'vitest',
  'run',
  '--passWithNoTests',
  '--reporter=default',
  '--reporter=./scripts/vitest_results.ts',
];

type Stage = () => Promise<Results>;

const STAGES: Readonly<Record<string, Stage>> = {
  lint: () =>
    commands([
      ['formatting and lint rules (biome)', ['biome', 'check', '--error-on-warnings', '.']],
      ['types (tsc)', ['tsc', '--noEmit']],
      ['unused files, exports and dependencies (knip)', ['knip', '--no-progress']],
      ['vendored sources', ['scripts/vendor', '--check']],
      [
        'rules of the architecture',
        ['vitest', 'run', '--project', 'unit', '--reporter=dot', 'test/unit/architecture'],
      ],
    ]),
  unit: () => vitest(['--project', 'unit'], { root: false }),
  kernel: () => vitest(['--project', 'kernel'], { root: true }),
  e2e: () => vitest(['--project', 'e2e'], { root: true }),
  guests: GUEST_STAGES.short,
  'guests-full': GUEST_STAGES.full,
};

const ALL = ['lint', 'unit', 'kernel', 'e2e', 'guests'];

/** Commands that pass or fail as a whole. */
async function commands(
  checks: readonly (readonly [name: string, command: readonly string[]])[],
): Promise<Results> {
  const results = noResults();
  for (const [name, command] of checks) {
    console.log(`--- ${name}`);
    const start = performance.now();
    if ((await runCommand(command)) === 0) results.passed++;
    else results.failed.push(`${name}: ${command.join(' ')}`);
    results.times.push({ name, seconds: (performance.now() - start) / 1000 });
  }
  return results;
}

/** A vitest project; one that needs root says why it was skipped where there is none. */
async function vitest(args: readonly string[], needs: { root: boolean }): Promise<Results> {
  const obstacle = needs.root ? rootObstacle() : undefined;
  if (obstacle !== undefined) {
    console.log(obstacle);
    return { ...noResults(), skipped: [{ name: `vitest ${args.join(' ')}`, reason: obstacle }] };
  }
  const folder = mkdtempSync(join(tmpdir(), 'knp-test-'));
  try {
    const file = join(folder, 'results.json');
    const command = [...VITEST, ...args];
    const code = await runCommand(needs.root ? withRoot(command) : command, {
      [RESULTS_FILE_VARIABLE]: file,
    });
    if (!existsSync(file)) return { ...noResults(), failed: [`vitest ${args.join(' ')} ended with ${code}`] };
    const results = JSON.parse(readFileSync(file, 'utf8')) as Results;
    if (code !== 0 && results.failed.length === 0)
      results.failed.push(`vitest ${args.join(' ')} ended with ${code}`);
    return results;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function main(names: readonly string[]): Promise<number> {
  const unknown = names.find((name) => STAGES[name] === undefined);
  if (unknown !== undefined) {
    console.error(`no stage ${unknown}; there are ${Object.keys(STAGES).join(', ')}`);
    return 2;
  }
  const done: StageResults[] = [];
  for (const stage of names) {
    console.log(`\n=== ${stage}`);
    const start = performance.now();
    const results = await (STAGES[stage] as Stage)();
    done.push({ stage, ...results, seconds: (performance.now() - start) / 1000 });
  }
  console.log(summary(done));
  const failed = done.some((stage) => stage.failed.length > 0);
  return failed || done.every((stage) => stage.passed === 0) ? 1 : 0;
}

process.exitCode = await main(process.argv.length > 2 ? process.argv.slice(2) : ALL);
