// The command scripts/vendor. What it does lies in vendored.ts.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkOrigins, checkSums, writeSums } from './vendored.ts';

const HELP = `scripts/vendor --check            every file of native/vendor has the checksum in SHA256SUMS; none is missing or extra
scripts/vendor --check --online   also: each file is, byte by byte, in the release that sources.json names, fetched
                                  again from Debian (signed by apt's keys) or npm (checksum of package-lock.json)
scripts/vendor --write            writes SHA256SUMS anew, after an update`;

const ROOT = join(import.meta.dirname, '..');
const VENDOR = join(ROOT, 'native/vendor');

function main(): number {
  const { values } = parseArgs({
    options: {
      check: { type: 'boolean' },
      online: { type: 'boolean' },
      write: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help || values.check === values.write || (values.write && values.online)) {
    console.log(HELP);
    return values.help ? 0 : 2;
  }
  if (values.write) {
    console.log(`${writeSums(VENDOR)} files recorded`);
    return 0;
  }
  const offline = checkSums(VENDOR);
  const online = values.online ? checkOrigins(VENDOR, join(ROOT, 'package-lock.json')) : undefined;
  const problems = [...offline.problems, ...(online?.problems ?? [])];
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) return 1;
  console.log(`native/vendor: ${offline.files} files have their recorded checksums`);
  if (online !== undefined) console.log(`native/vendor: ${online.files} files are those of their releases`);
  return 0;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(`scripts/vendor: ${(error as Error).message}`);
  process.exitCode = 1;
}
