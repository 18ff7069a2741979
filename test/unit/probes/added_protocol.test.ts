// The protocol of docs/contributing.md, added to a copy of the tree as the page says: its files and a line in each of two
// lists. Everything that derives from protocols and probes knows it, without a change to any other file.
// test/kernel/probes runs it.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ownFiles, ROOT } from '../../../scripts/architecture/files.ts';
import { forbiddenImports } from '../../../scripts/architecture/imports.ts';
import { type PageFile, pageFiles, Tree } from '../../testbed/tree.ts';

const REGISTRY = 'exporter/probes/registry.ts';
const LIST = 'bpf/protocol/protocols.h';
const FOLDER = 'exporter/probes/toy/';

let tree: Tree;
let files: PageFile[];

beforeAll(() => {
  files = pageFiles(readFileSync(join(ROOT, 'docs/contributing.md'), 'utf8'), 'How to add a protocol');
  tree = new Tree();
  tree.add(files);
}, 60_000);
afterAll(() => tree?.remove());

test('the page adds files of the protocol and one line to each of two lists', () => {
  const own = /^(bpf\/protocol|exporter\/probes|test\/kernel)\/toy\/[\w.]+$/;
  for (const { path } of files.filter(({ append }) => !append)) expect(path).toMatch(own);
  const appended = files
    .filter(({ append }) => append)
    .map(({ path, text }) => [path, text.split('\n').length]);
  expect(Object.fromEntries(appended)).toEqual({ [REGISTRY]: 2, [LIST]: 2 });
  expect(appended).toHaveLength(2);
});

test('what the page shows is typed, formatted and imports what it may', () => {
  tree.run('tsc', '--noEmit');
  const typescript = files.filter(({ path }) => path.endsWith('.ts'));
  tree.run('biome', 'check', '--vcs-enabled=false', ...typescript.map(({ path }) => path));
  const sources = typescript
    .filter(({ path }) => path.startsWith(FOLDER))
    .map(({ path, text }) => [path, text] as const);
  expect(sources.map(([path]) => path)).toContain(`${FOLDER}index.ts`);
  expect(
    forbiddenImports(new Map([...sources, [REGISTRY, readFileSync(join(tree.root, REGISTRY), 'utf8')]])),
  ).toEqual([]);
}, 180_000);

test('its parser compiles for user mode too, where it is fuzzed', () => {
  const driver = join(tree.root, 'toy_user.c');
  const includes = ['begins', 'parser', 'requests', 'conn'].map(
    (part) => `#include "protocol/toy/toy_${part}.h"\n`,
  );
  writeFileSync(
    driver,
    `${includes.join('')}int main(void) { return STREAM_TOY == STREAM_PROTOCOLS_END - 1 ? 0 : 1; }\n`,
  );
  const program = join(tree.root, 'toy_user');
  const flags = ['-Ibpf', '-Wall', '-Wextra', '-Wno-unused-function', '-Werror'];
  tree.run('cc', ...flags, '-o', program, driver);
  tree.run(program); // its number is the next one
});

test('the reference has its metrics, the configuration its settings, the commands its name', () => {
  const reference = tree.kubenetprobe('metrics');
  expect(reference).toContain('## Toy\n\n### `knp_toy_client_request_duration_seconds`');
  expect(reference).toContain('| `toy_operation` | What was asked.');
  expect(JSON.parse(tree.kubenetprobe('config', 'effective', '--json')).probes.toy).toEqual({
    enabled: true,
    idle_seconds: 60,
  });
  const protocols =
    "import('./exporter/probes/descriptors.ts').then(({ REQUEST_PROTOCOLS: all }) => console.log(all.map(({ name }) => name).join()))";
  const names = tree.run(process.execPath, '--input-type=module', '-e', protocols).trim().split(',');
  expect(names).toContain('toy');
});

test('the rules that hold for all registered probes hold for it', () => {
  tree.run('vitest', 'run', '--project', 'unit', 'test/unit/probes/registry.test.ts');
}, 180_000);

test('no other file of the tree was touched', () => {
  const added = new Set(files.map(({ path }) => path));
  const read = (root: string, path: string) => readFileSync(join(root, path));
  const changed = ownFiles(/\.(ts|c|h|json|md|yaml)$|Makefile$/).filter(
    (path) => !added.has(path) && !read(ROOT, path).equals(read(tree.root, path)),
  );
  expect(changed).toEqual([]);
});
