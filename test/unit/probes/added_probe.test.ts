// The probe of docs/contributing.md, added to a copy of the tree as the page says: its files and one line. Everything
// that derives from probes knows it, without a change to any other file. test/kernel/probes runs it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ownFiles, ROOT } from '../../../scripts/architecture/files.ts';
import { forbiddenImports } from '../../../scripts/architecture/imports.ts';
import { type PageFile, pageFiles, Tree } from '../../testbed/tree.ts';

const REGISTRY = 'exporter/probes/registry.ts';
const FOLDER = 'exporter/probes/udpdrops/';

let tree: Tree;
let files: PageFile[];

beforeAll(() => {
  files = pageFiles(readFileSync(join(ROOT, 'docs/contributing.md'), 'utf8'), 'How to add a probe');
  tree = new Tree();
  tree.add(files);
}, 60_000);
afterAll(() => tree?.remove());

test('the page adds files of the probe and one line to the registry', () => {
  const own = /^(exporter\/probes|bpf|test\/kernel)\/udpdrops\/[\w.]+$/;
  for (const { path, text, append } of files) {
    if (!append) expect(path).toMatch(own);
    else expect([path, text.trim().split('\n').length]).toEqual([REGISTRY, 1]);
  }
  expect(files.filter(({ append }) => append)).toHaveLength(1);
  expect(files.map(({ path }) => path)).toEqual(expect.arrayContaining([`${FOLDER}index.ts`, REGISTRY]));
});

test('what the page shows is typed, formatted and imports what it may', () => {
  tree.run('tsc', '--noEmit');
  tree.run(
    'biome',
    'check',
    '--vcs-enabled=false',
    ...files.filter(({ path }) => path.endsWith('.ts')).map(({ path }) => path),
  );
  const sources = files
    .filter(({ path }) => path.startsWith(FOLDER))
    .map(({ path, text }) => [path, text] as const);
  expect(
    forbiddenImports(new Map([...sources, [REGISTRY, readFileSync(join(tree.root, REGISTRY), 'utf8')]])),
  ).toEqual([]);
}, 180_000);

describe('the configuration', () => {
  test('takes its settings from flags and variables, and refuses others', () => {
    const effective = (...args: string[]) =>
      JSON.parse(tree.kubenetprobe('config', 'effective', '--json', ...args)).probes.udpdrops;
    expect(effective()).toEqual({ enabled: true, max_ports: 1024 });
    expect(effective('--set', 'probes.udpdrops.enabled=false')).toEqual({ enabled: false, max_ports: 1024 });
    expect(() => effective('--set', 'probes.udpdrops.max_ports=0')).toThrow('a whole number from 1 to 65536');
    expect(() => effective('--set', 'probes.udpdrops.ports=1')).toThrow('probes.udpdrops.ports');
  });

  test('has them in its schema and its page', () => {
    const schema = JSON.parse(tree.kubenetprobe('config', 'schema'));
    expect(Object.keys(schema.properties.probes.properties.udpdrops.properties)).toEqual([
      'enabled',
      'max_ports',
    ]);
    const page = tree.kubenetprobe('config', 'docs');
    expect(page).toContain('## `probes.udpdrops`');
    expect(page).toContain('`KNP_PROBES_UDPDROPS_MAX_PORTS`');
  });
});

test('the reference has its metrics and labels', () => {
  const page = tree.kubenetprobe('metrics');
  expect(page).toContain('## UDP drops\n\n### `knp_udpdrops_datagrams_total`');
  expect(page).toContain("| `network_local_port` | The socket's port. |");
  const listed = JSON.parse(tree.kubenetprobe('metrics', '--json'));
  expect(listed).toContainEqual(
    expect.objectContaining({ name: 'knp.udpdrops.datagrams', probe: 'udpdrops' }),
  );
});

test('the values of the chart have its settings', () => {
  const print =
    "import('./charts/generate.ts').then(({ generatedFiles: files }) => console.log(files().get('kubenetprobe/values.schema.json')))";
  const schema = JSON.parse(tree.run(process.execPath, '--input-type=module', '-e', print));
  expect(schema.properties.config.properties.probes.properties.udpdrops.properties.max_ports).toMatchObject({
    default: 1024,
    maximum: 65_536,
  });
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
