// Answers by its exit code whether node_modules holds what package-lock.json asks for; scripts/bootstrap calls it.
import { readFileSync } from 'node:fs';

type Lock = { packages: Record<string, { version?: string; optional?: boolean }> };

const read = (path: string): Lock => JSON.parse(readFileSync(path, 'utf8')) as Lock;

function isCurrent(): boolean {
  const wanted = read('package-lock.json').packages;
  let installed: Lock['packages'];
  try {
    installed = read('node_modules/.package-lock.json').packages;
  } catch {
    return false;
  }
  // Optional packages are those of other platforms; one that is missing here and needed fails by itself.
  return Object.entries(wanted).every(
    ([path, entry]) => path === '' || entry.optional || installed[path]?.version === entry.version,
  );
}

process.exitCode = isCurrent() ? 0 : 1;
