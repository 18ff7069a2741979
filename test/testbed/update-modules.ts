// Writes go.mod and go.sum of the control plane's two Go programs. A person runs it to move to another release:
//   node test/testbed/update-modules.ts v1.36.3 v3.6.5
// k8s.io/kubernetes replaces its staging modules by directories that its published module does not contain,
// so each of them is replaced here by the tag that was published for the same release (v1.36.3 → v0.36.3).
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [kubernetes = '', etcd = ''] = process.argv.slice(2);
if (!/^v1\.\d+\.\d+$/.test(kubernetes) || !/^v3\.\d+\.\d+$/.test(etcd)) {
  process.stderr.write('usage: node test/testbed/update-modules.ts v1.<minor>.<patch> v3.<minor>.<patch>\n');
  process.exit(2);
}

const here = import.meta.dirname;
const go = (directory: string, ...args: string[]): string =>
  execFileSync('go', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

/** The go.mod that was published for a module version. */
function publishedModule(module: string, version: string): string {
  const { GoMod } = JSON.parse(go('/', 'mod', 'download', '-json', `${module}@${version}`)) as {
    GoMod: string;
  };
  return readFileSync(GoMod, 'utf8');
}

function writeModule(name: string, module: string, version: string, replaced: string[]): void {
  const published = publishedModule(module, version);
  const goVersion = /^go (\S+)$/m.exec(published)?.[1];
  if (!goVersion) throw new Error(`go.mod of ${module}@${version} names no Go version`);
  const lines = [
    '// Written by update-modules.ts.',
    `module kubenetprobe/testbed/${name}`,
    '',
    `go ${goVersion}`,
    '',
    `require ${module} ${version}`,
    '',
    ...replaced.map((line) => `replace ${line}`),
  ];
  const directory = join(here, name);
  writeFileSync(join(directory, 'go.mod'), `${lines.join('\n')}\n`);
  go(directory, 'mod', 'tidy');
}

const staging = [
  ...publishedModule('k8s.io/kubernetes', kubernetes).matchAll(/^\s*(k8s\.io\/\S+) => \.\/staging\//gm),
]
  .map((match) => match[1])
  .map((module) => `${module} => ${module} ${kubernetes.replace(/^v1/, 'v0')}`);
if (staging.length === 0) throw new Error(`no staging modules in go.mod of k8s.io/kubernetes ${kubernetes}`);

writeModule('apiserver', 'k8s.io/kubernetes', kubernetes, staging);
writeModule('etcd', 'go.etcd.io/etcd/server/v3', etcd, []);
