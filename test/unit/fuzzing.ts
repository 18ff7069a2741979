// Runs a target of test/fuzz/Makefile for a bounded time, for the fuzz tests of the parsers.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';

const FOLDER = join(import.meta.dirname, '../fuzz');

function findFuzzer(): { available: boolean; why: string } {
  const runtime = execFileSync('clang', ['-print-resource-dir'], { encoding: 'utf8' }).trim();
  const available =
    existsSync(join(runtime, 'lib/linux')) &&
    readdirSync(join(runtime, 'lib/linux')).some((file) => file.startsWith('libclang_rt.fuzzer-'));
  return { available, why: available ? '' : ' (skipped: this release of clang has no libFuzzer here)' };
}

/** Is libFuzzer there? `why` it is not, for a test's title. */
export const fuzzer = findFuzzer();

/** Fuzzes; fails with the inputs that crashed, or where it did not go on from the corpus. */
export function survives(target: string, corpus: string, seconds: number): void {
  const folder = mkdtempSync(join(tmpdir(), 'knp-fuzz-'));
  try {
    const run = spawnSync('make', ['-s', '-C', FOLDER, target, `SECONDS_MAX=${seconds}`, `FOUND=${folder}`], {
      encoding: 'utf8',
    });
    const crashes = readdirSync(folder).filter((file) => /^(crash|timeout|oom|leak)-/.test(file));
    const inputs = crashes.map((file) => `${file}: ${readFileSync(join(folder, file)).toString('base64')}`);
    expect(run.status, `${run.stderr.slice(-4000)}\n${inputs.join('\n')}`).toBe(0);
    const executed = Number(/stat::number_of_executed_units: (\d+)/.exec(run.stderr)?.[1]);
    console.log(`${executed} inputs in ${seconds} s`);
    // More than the corpus alone: it did go on from there.
    expect(executed).toBeGreaterThan(2 * readdirSync(join(FOLDER, corpus)).length);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
