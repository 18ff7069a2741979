// The addon runs elsewhere than where it was built: what it needs from the system, and what it shows to others.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const addon = fileURLToPath(new URL('../../../build/native/knp.node', import.meta.url));
const run = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: 'utf8' });
const number = (version: string) => {
  const [major, minor] = version.split('.').map(Number) as [number, number];
  return major * 1000 + minor;
};
const { glibcVersionRuntime } = (process.report.getReport() as { header: { glibcVersionRuntime: string } })
  .header;

test('it needs no library but those that Node needs itself', () => {
  const needed = [...run('objdump', '-p', addon).matchAll(/NEEDED\s+(\S+)/g)].map((m) => m[1] as string);
  const node = run('objdump', '-p', process.execPath);
  for (const library of needed) expect(node).toContain(library);
  expect(needed.join()).not.toMatch(/bpf|elf|libz|stdc\+\+/);
});

test('it shows nothing but what Node looks up, so no copy of libbpf can clash with another', () => {
  const shown = run('nm', '-D', '--defined-only', addon).trim().split('\n');
  expect(shown.map((line) => line.split(' ')[2]).sort()).toEqual([
    'napi_register_module_v1',
    'node_api_module_get_api_version_v1',
  ]);
});

// a build against a newer glibc binds to that one's versions of some functions; releases are built on Debian 12
test.skipIf(number(glibcVersionRuntime) > number('2.36'))(
  'built on Debian 12 it asks for nothing newer than glibc 2.33',
  () => {
    const versions = [...run('objdump', '-T', addon).matchAll(/GLIBC_([\d.]+)/g)].map((m) => m[1] as string);
    expect(versions.length).toBeGreaterThan(10);
    expect(Math.max(...versions.map(number))).toBeLessThanOrEqual(number('2.33'));
  },
);

test('the vendored release of libbpf is the one that its README states', () => {
  const vendor = fileURLToPath(new URL('../../../native/vendor/', import.meta.url));
  const header = readFileSync(`${vendor}libbpf/src/libbpf_version.h`, 'utf8');
  const [major, minor] = ['MAJOR', 'MINOR'].map(
    (part) => new RegExp(`LIBBPF_${part}_VERSION (\\d+)`).exec(header)?.[1],
  );
  expect(readFileSync(`${vendor}README.md`, 'utf8')).toContain(`| \`libbpf/\` | ${major}.${minor}.`);
});
