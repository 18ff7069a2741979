// The HTTP/1 logic of bpf/ under libFuzzer for a bounded time, from the corpus in test/fuzz: no memory error, no endless
// work, nothing settled twice. `make -C test/fuzz fuzz SECONDS_MAX=3600` goes on for longer.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sized } from '../../volume.ts';

const FOLDER = join(import.meta.dirname, '../../fuzz');
const SECONDS = sized(600, 0.05);

const runtime = execFileSync('clang', ['-print-resource-dir'], { encoding: 'utf8' }).trim();
const available =
  existsSync(join(runtime, 'lib/linux')) &&
  readdirSync(join(runtime, 'lib/linux')).some((file) => file.startsWith('libclang_rt.fuzzer-'));
const why = available ? '' : ' (skipped: this release of clang has no libFuzzer here)';

test.skipIf(!available)(
  `the HTTP/1 logic survives what the fuzzer thinks of${why}`,
  { timeout: 900_000 },
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'knp-fuzz-'));
    try {
      const run = spawnSync(
        'make',
        ['-s', '-C', FOLDER, 'fuzz', `SECONDS_MAX=${SECONDS}`, `FOUND=${folder}`],
        {
          encoding: 'utf8',
        },
      );
      const crashes = readdirSync(folder).filter((file) => /^(crash|timeout|oom|leak)-/.test(file));
      const inputs = crashes.map((file) => `${file}: ${readFileSync(join(folder, file)).toString('base64')}`);
      expect(run.status, `${run.stderr.slice(-4000)}\n${inputs.join('\n')}`).toBe(0);
      const executed = Number(/stat::number_of_executed_units: (\d+)/.exec(run.stderr)?.[1]);
      console.log(`${executed} inputs in ${SECONDS} s`);
      // More than the corpus alone: it did go on from there.
      expect(executed).toBeGreaterThan(2 * readdirSync(join(FOLDER, 'corpus')).length);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
