// The guests' part of the test command: the kernel tests on Debian's other kernels, and the refusal on one that is too
// old. KERNELS and KNPTEST_GUEST_TESTS choose what runs.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { arch, availableParallelism, freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { DOCTOR, hooksOf, readSupport, SUPPORTED } from './kernel_support.ts';
import { noResults, RESULTS_FILE_VARIABLE, type Results } from './results.ts';
import { runCommand } from './run_command.ts';

const REPORTER = '--reporter=./scripts/vitest_results.ts';

/** At the same time at most: an emulated guest has two processors and keeps little more than one of ours busy. */
const GUESTS_AT_ONCE = 2;
/** A guest has 4 GiB, and what emulates it needs some too. */
const MEMORY_EACH = 5 * 2 ** 30;

/** The agent must refuse it. */
const TOO_OLD = '5.10';

type Form = {
  /** What vitest is given: files, or a name pattern. */
  tests: readonly string[];
  limitSeconds: number;
};

const FORMS = {
  short: {
    // What may differ from kernel to kernel: what the verifier makes of the programs, and of HTTP the same traffic for
    // every provider that the kernel offers.
    tests: ['core/verifier', 'tcp/accounts', 'tcp/failures', 'tcp/netem', 'http/providers'].map(
      (name) => `test/kernel/${name}.test.ts`,
    ),
    limitSeconds: 1800,
  },
  full: { tests: [], limitSeconds: 7200 },
} as const satisfies Record<string, Form>;

export const GUEST_STAGES = {
  short: () => guests(FORMS.short),
  full: () => guests(FORMS.full),
};

async function guests(form: Form): Promise<Results> {
  const results = noResults();
  if (arch() !== 'x64') {
    const reason = `the guests run this machine's own files, on an x86-64 kernel; this machine is ${arch()}`;
    results.skipped.push({ name: 'kernel tests in the guests', reason });
    return results;
  }
  // The newest first: it takes longest, and the others share the time meanwhile.
  const all = [...SUPPORTED.toReversed(), TOO_OLD];
  const chosen = process.env.KERNELS?.split(/[ ,]+/).filter(Boolean) ?? all;
  const queue: string[] = [];
  for (const series of chosen) {
    if ((await runGuest(series, ['--fetch', series])) === 0) queue.push(series);
    else results.failed.push(`kernel ${series} could not be fetched`);
  }
  const room = Math.min(GUESTS_AT_ONCE, availableParallelism(), Math.floor(freemem() / MEMORY_EACH));
  await Promise.all(Array.from({ length: Math.max(1, room) }, () => bootAll(queue, form, results)));
  return results;
}

/** Boots one after the other, while there are any that nothing else has taken. */
async function bootAll(queue: string[], form: Form, results: Results): Promise<void> {
  for (let series = queue.shift(); series !== undefined; series = queue.shift()) {
    if (series === TOO_OLD) await refusal(series, results);
    else await kernelTests(series, form, results);
  }
}

const runGuest = (
  series: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<number> => runCommand([process.execPath, 'test/guests/guest.ts', ...args], env, `[${series}] `);

/** One boot: the kernel tests, then `doctor`, whose hooks must be those that the documentation shows. */
async function kernelTests(series: string, form: Form, results: Results): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'knp-guests-'));
  const file = join(folder, 'results.json');
  const doctor = join(folder, 'doctor.json');
  const tests = process.env.KNPTEST_GUEST_TESTS?.split(/\s+/).filter(Boolean) ?? form.tests;
  const vitest = ['vitest', 'run', '--project', 'kernel', '--reporter=verbose', REPORTER, ...tests].join(' ');
  const command = `${vitest}; code=$?; ${DOCTOR.join(' ')} >${doctor}; exit $code`;
  try {
    const options = ['--share', folder, '--limit', String(form.limitSeconds)];
    const code = await runGuest(series, [
      ...options,
      '--env',
      `${RESULTS_FILE_VARIABLE}=${file}`,
      series,
      command,
    ]);
    if (existsSync(file)) addResults(`kernel ${series}`, readFileSync(file, 'utf8'), results);
    else results.failed.push(`kernel ${series}: no results, exit code ${code}`);
    checkHooks(series, existsSync(doctor) ? readFileSync(doctor, 'utf8') : '', results);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function addResults(where: string, text: string, results: Results): void {
  const inside = JSON.parse(text) as Results;
  if (inside.passed === 0) results.failed.push(`${where}: no test passed`);
  results.passed += inside.passed;
  results.failed.push(...inside.failed.map((name) => `${where}: ${name}`));
  results.times.push(...inside.times.map(({ name, seconds }) => ({ name: `${where}: ${name}`, seconds })));
  results.skipped.push(...inside.skipped.map(({ name, reason }) => ({ name: `${where}: ${name}`, reason })));
}

function checkHooks(series: string, diagnosis: string, results: Results): void {
  const name = `kernel ${series}: the hooks in use are those of docs/kernel-support.md`;
  try {
    if (!isDeepStrictEqual(hooksOf(diagnosis), readSupport()[series])) {
      throw new Error('they are others; node scripts/kernel_support.ts writes them down');
    }
    results.passed++;
  } catch (error) {
    console.log(`${name}: ${(error as Error).message}\n${diagnosis}`);
    results.failed.push(name);
  }
}

/** Too old a kernel: `run` ends at once with one sentence that names what is needed, and nothing else. */
async function refusal(series: string, results: Results): Promise<void> {
  const name = `kernel ${series}: the agent refuses in one sentence`;
  // What the guest is asked: exactly one line, an exit code that is not 0, the release found and the release needed.
  const question = `
    text=$(bin/kubenetprobe run --listen 127.0.0.1:19464 2>&1); code=$?
    echo "exit code $code: $text"
    [[ $code -ne 0 && $code -lt 126 && $(grep -c . <<<"$text") == 1 && $text == *5.10* && $text == *5.15* ]]`;
  if ((await runGuest(series, ['--limit', '300', series, question])) === 0) results.passed++;
  else results.failed.push(name);
}
