// THIRD_PARTY_NOTICES as the build made it: nothing that the image contains is missing, nothing is there that it lacks.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { packageComponent, packageFolder, render } from '../../../scripts/third_party.ts';

const ROOT = join(import.meta.dirname, '../../..');
const notices = readFileSync(join(ROOT, 'build/THIRD_PARTY_NOTICES'), 'utf8');

/** Entries of the file as "name version", and the numbers of their texts. */
const entries = new Map(
  [...notices.matchAll(/^(\S.*)\n {2}licence \S.*, text ((?:\[\d+\] ?)+)\n {2}in (.*)$/gm)].map(
    ([, name = '', numbers = '', place = '']) => [name, { numbers: numbers.trim().split(' '), place }],
  ),
);

/** What the bundle itself says it was made of, in its comments: not what the file was generated from. */
function packagesInBundle(): string[] {
  const folder = join(ROOT, 'dist/agent');
  const scripts = readdirSync(folder).filter((file) => file.endsWith('.js'));
  const sources = scripts.flatMap((file) => [
    ...readFileSync(join(folder, file), 'utf8').matchAll(/^\s*\/\/ (node_modules\/\S+)$/gm),
  ]);
  return [...new Set(sources.map(([, source = '']) => packageFolder(source) ?? source))];
}

const identity = (folder: string): string => {
  const { name, version } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'));
  return `${name} ${version}`;
};

describe('the file', () => {
  test('has exactly the packages that are in the bundle', () => {
    const bundled = [...new Set(packagesInBundle().map(identity))].sort();
    const listed = [...entries].filter(([, { place }]) => place === 'dist/agent, bundled');
    expect(bundled.length).toBeGreaterThan(40);
    expect(listed.map(([name]) => name).sort()).toEqual(bundled);
  });

  test('has each dependency of package.json of which code is shipped', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    const missing = Object.entries(dependencies)
      .map(([name, version]) => `${name} ${version}`)
      .filter((name) => !entries.has(name));
    // of this one only types are used
    expect(missing.map((name) => name.replace(/ .*/, ''))).toEqual(['@opentelemetry/sdk-trace']);
  });

  test('has Node and all that is linked into the addon', () => {
    const others = [...entries].filter(([, { place }]) => place !== 'dist/agent, bundled');
    const names = others.map(([name]) => name.replace(/ [\d.]+$/, ''));
    expect(names).toEqual(['Node.js', 'libbpf', 'elfutils (libelf)', 'zlib', 'libstdc++ (GCC)']);
    expect(entries.has(`Node.js ${process.version.slice(1)}`)).toBe(true);
  });

  test('has every text that an entry names, and no other', () => {
    const numbers = new Set([...entries.values()].flatMap((entry) => entry.numbers));
    const texts = [...notices.matchAll(/^=+\n(\[\d+\])\n=+\n\n(?=\s*\S)/gm)].map((match) => match[1]);
    expect([...numbers].sort()).toEqual(texts.sort());
    for (const sentence of [
      'Redistributions of source code must retain', // BSD: libbpf
      'This version of the GNU Lesser General Public License', // LGPL-3.0: libelf
      'GCC RUNTIME LIBRARY EXCEPTION',
      'Permission is granted to anyone to use this software for any purpose', // zlib
      'Node.js is licensed for use as follows',
    ])
      expect(notices).toContain(sentence);
  });

  test('is what the script prints now', () => {
    const printed = execFileSync(process.execPath, ['scripts/notices.ts', 'dist/bundle.json'], {
      cwd: ROOT,
      encoding: 'utf8',
      maxBuffer: 1 << 24,
    });
    expect(printed).toBe(notices);
  });
});

describe('a package', () => {
  const folder = mkdtempSync(join(tmpdir(), 'knp-notices-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function packageWith(manifest: object, files: Record<string, string>): string {
    const path = mkdtempSync(join(folder, 'package-'));
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'package.json'), JSON.stringify({ name: 'a', version: '1.0.0', ...manifest }));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
    return path;
  }

  test.each(['LICENSE', 'license.md', 'LICENCE-MIT.txt', 'COPYING', 'UNLICENSE'])(
    'may call its text %s',
    (name) => {
      const path = packageWith({ license: 'MIT' }, { [name]: 'do as you like', 'index.js': '' });
      expect(packageComponent(path, 'here').texts).toEqual(['do as you like']);
    },
  );

  test('brings its notice along', () => {
    const path = packageWith({ license: 'Apache-2.0' }, { LICENSE: 'licence', NOTICE: 'notice' });
    expect(packageComponent(path, 'here').texts).toEqual(['licence', 'notice']);
  });

  test.each([
    ['without a text', { license: 'MIT' }, {}, 'brings no text of its licence'],
    ['without a licence', {}, { LICENSE: 'text' }, 'names no licence'],
    ['that is not licensed', { license: 'UNLICENSED' }, { LICENSE: 'text' }, 'names no licence'],
    ['whose licence is elsewhere', { license: 'SEE LICENSE IN x' }, { LICENSE: 'text' }, 'names no licence'],
  ])('%s ends the build', (_name, manifest, files, message) => {
    expect(() => packageComponent(packageWith(manifest, files), 'here')).toThrow(message);
  });

  test('that has the text of another one refers to it', () => {
    const component = { licence: 'MIT', place: 'here', texts: ['text\n'] };
    const text = render([
      { ...component, name: 'a', version: '1' },
      { ...component, name: 'b', version: '2', texts: ['\ntext'] },
    ]);
    expect(text.match(/^text$/gm)).toHaveLength(1);
    expect(text.match(/text \[1\]$/gm)).toHaveLength(2);
  });

  test('in a package is itself, not the one around it', () => {
    expect(packageFolder('node_modules/a/node_modules/@b/c/lib/d.js')).toBe(
      'node_modules/a/node_modules/@b/c',
    );
    expect(packageFolder('exporter/cli/main.ts')).toBeUndefined();
  });
});
