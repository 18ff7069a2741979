// The repository's own files, and rules that hold for all of them. Checked by test/unit/architecture/files.test.ts.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** Paths of the files that git knows or would add, without vendored and generated ones. */
export function ownFiles(pattern: RegExp = /./): string[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return listed
    .split('\0')
    .filter((path) => path !== '' && !/(^|\/)(vendor|generated)\//.test(path))
    .filter((path) => pattern.test(path) && existsSync(join(ROOT, path)));
}

export function readOwn(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

// Written so that this file does not name one itself.
const PACKAGE_REGISTRY =
  /\b(registry\.(npmjs|yarnpkg|npmmirror)\.|npm\.pkg\.github\.|pypi\.(org|python)|proxy\.golang\.|goproxy\.|index\.crates\.|(^|[^.\w])crates\.io)/;
const FOREIGN_PATH = /(^|[\s"'`(=])\/(work|home\/[a-z]\w*|Users)\/\w/;

/** What may stand in no file: a package registry's host, a path that exists on one developer's machine. */
export function forbiddenText(text: string): string[] {
  const problems: string[] = [];
  text.split('\n').forEach((line, index) => {
    if (PACKAGE_REGISTRY.test(line)) problems.push(`line ${index + 1} names a package registry`);
    if (FOREIGN_PATH.test(line)) problems.push(`line ${index + 1} names a path of somebody's machine`);
  });
  return problems;
}

/** The lock file's rules: npm's format 3, a checksum for everything, no download address. */
export function lockProblems(text: string): string[] {
  type Entry = { resolved?: string; integrity?: string; link?: boolean; inBundle?: boolean };
  const lock = JSON.parse(text) as { lockfileVersion: number; packages: Record<string, Entry> };
  const problems = lock.lockfileVersion === 3 ? [] : [`lockfileVersion is ${lock.lockfileVersion}, not 3`];
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (entry.resolved !== undefined) problems.push(`${path} has a download address`);
    const needsChecksum = path !== '' && !entry.link && !entry.inBundle;
    if (needsChecksum && entry.integrity === undefined) problems.push(`${path} has no checksum`);
  }
  return problems;
}

/** Versions in package.json are exact: an update is a commit. */
export function unpinned(text: string): string[] {
  const manifest = JSON.parse(text) as Record<string, Record<string, string> | undefined>;
  const kinds = ['dependencies', 'devDependencies', 'optionalDependencies'];
  return kinds.flatMap((kind) =>
    Object.entries(manifest[kind] ?? {})
      .filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))
      .map(([name, version]) => `${name} is ${version}, not an exact version`),
  );
}

/** Links of a Markdown file that lead to no file of the repository. */
export function deadLinks(path: string, text: string): string[] {
  const prose = text.replace(/```[\s\S]*?```/g, '').replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
    .map((match) => match[1] as string)
    .filter((target) => !/^(https?:|mailto:|#)/.test(target))
    .filter((target) => !existsSync(join(ROOT, dirname(path), target.replace(/#.*/, ''))));
}

/** Lines of a file; beyond NOTED it is listed, beyond LIMIT the check fails. */
export const NOTED = 400;
export const LIMIT = 800;
export const lineCount = (text: string): number => text.split('\n').length;
