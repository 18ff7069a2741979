// Rules that hold for every file of the repository, each with the case in which it must find something.
import { describe, expect, test } from 'vitest';
import {
  deadLinks,
  forbiddenText,
  LIMIT,
  lineCount,
  lockProblems,
  NOTED,
  ownFiles,
  readOwn,
  unpinned,
} from '../../../scripts/architecture/files.ts';

const TEXT =
  /\.(ts|js|json|ya?ml|md|sh|c|h|cc|py|java|go|mod|toml)$|(^|\/)(Makefile|Dockerfile|bootstrap|as-root|vendor|pin-images|run|LICENSE|\.npmrc)$/;

describe('package-lock.json', () => {
  test('has checksums and no download address', () => {
    expect(lockProblems(readOwn('package-lock.json'))).toEqual([]);
  });

  test('a download address, a missing checksum or an old format is found', () => {
    const lock = (entry: object, lockfileVersion = 3): string =>
      JSON.stringify({ lockfileVersion, packages: { '': {}, 'node_modules/a': entry } });
    expect(lockProblems(lock({ integrity: 'sha512-x' }))).toEqual([]);
    expect(lockProblems(lock({ integrity: 'sha512-x', resolved: 'https://example.org/a.tgz' }))).toHaveLength(
      1,
    );
    expect(lockProblems(lock({}))).toHaveLength(1);
    expect(lockProblems(lock({ integrity: 'sha512-x' }, 2))).toHaveLength(1);
  });
});

describe('package.json', () => {
  test('pins every version', () => {
    expect(unpinned(readOwn('package.json'))).toEqual([]);
  });

  test.each(['^1.0.0', '~1.0.0', '>=1', 'latest', '1.x'])('%s is not exact', (version) => {
    expect(unpinned(JSON.stringify({ devDependencies: { a: version } }))).toHaveLength(1);
  });
});

describe('texts', () => {
  test('no file names a package registry or a path of one machine', () => {
    const problems = ownFiles(TEXT).flatMap((path) =>
      forbiddenText(readOwn(path)).map((problem) => `${path}: ${problem}`),
    );
    expect(problems).toEqual([]);
  });

  test.each([
    ['https://registry.', 'npmjs.org/a'],
    ['GOPROXY=https://proxy.', 'golang.org'],
    ['pip install -i https://pypi.', 'org/simple'],
    ['see /wor', 'k/notes'],
    ["'/home/", "someone/x'"],
  ])('%s%s is found', (start, end) => {
    expect(forbiddenText(`first\n${start}${end}`)).toHaveLength(1);
  });

  test('a link that leads nowhere is found', () => {
    expect(deadLinks('README.md', '[a](docs/nothing.md) [b](https://example.org) [c](Makefile#x)')).toEqual([
      'docs/nothing.md',
    ]);
  });

  test('every link of the documentation leads somewhere', () => {
    const problems = ownFiles(/\.md$/).flatMap((path) =>
      deadLinks(path, readOwn(path)).map((target) => `${path}: ${target}`),
    );
    expect(problems).toEqual([]);
  });
});

test(`no source file has more than ${LIMIT} lines; those beyond ${NOTED} are listed`, () => {
  const lengths = ownFiles(/\.(ts|c|h|cc)$|^scripts\/[a-z-]+$/).map((path): [string, number] => [
    path,
    lineCount(readOwn(path)),
  ]);
  const long = lengths.filter(([, lines]) => lines > NOTED).sort((a, b) => b[1] - a[1]);
  if (long.length > 0)
    console.info(`longer than ${NOTED} lines:\n${long.map(([path, n]) => `  ${n} ${path}`).join('\n')}`);
  expect(long.filter(([, lines]) => lines > LIMIT)).toEqual([]);
});

test('the toolchain that scripts/bootstrap installs first has the same Node, and checksums', () => {
  type Manifest = { optionalDependencies: Record<string, string> };
  const node = (path: string): Record<string, string> =>
    (JSON.parse(readOwn(path)) as Manifest).optionalDependencies;
  expect(node('scripts/toolchain/package.json')).toEqual(node('package.json'));
  expect(lockProblems(readOwn('scripts/toolchain/package-lock.json'))).toEqual([]);
  expect(unpinned(readOwn('scripts/toolchain/package.json'))).toEqual([]);
});
