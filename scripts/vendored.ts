// Are the vendored sources what they claim to be? SHA256SUMS (in the form of sha256sum) says what each file was when it
// was reviewed, sources.json which release it was taken from. Checked by `make lint` and test/unit/architecture.
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { PrivateApt, run } from './private_apt.ts';

const SUMS = 'SHA256SUMS';
const SOURCES = 'sources.json';

/** What lies in the vendor folder itself and is ours. */
const OWN_FILES = [SUMS, SOURCES, 'README.md'];

type Origin =
  | {
      kind: 'debian-source';
      package: string;
      version: string;
      /** Where apt looks for it: a source package moves on, and stays in the suites that were released with it. */
      suites: string[];
      archive: string;
      sha256: string;
      /** Folder of the archive that the tree corresponds to. */
      folder: string;
    }
  | { kind: 'npm'; package: string; version: string; folder: string };

export type Tree = {
  release: string;
  /** SPDX. */
  licence: string;
  origin: Origin;
  /** Files in the tree that no release has. */
  ours: string[];
  /** Files whose paragraphs are some of those of a file of the archive. */
  excerpts: Record<string, string>;
};

type Sources = {
  trees: Record<string, Tree>;
  /** Symbolic links and where they point. */
  links: Record<string, string>;
};

export type Findings = {
  files: number;
  /** One sentence each; empty when all is well. */
  problems: string[];
};

export const readSources = (vendor: string): Sources =>
  JSON.parse(readFileSync(join(vendor, SOURCES), 'utf8')) as Sources;

/** Paths of all files and links below a folder, relative to it, sorted. No link is followed, as `recursive` would. */
function filesOf(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) =>
      entry.isDirectory()
        ? filesOf(join(folder, entry.name)).map((path) => join(entry.name, path))
        : [entry.name],
    )
    .sort();
}

const isLink = (path: string): boolean => lstatSync(path).isSymbolicLink();

const hash = (algorithm: string, encoding: 'hex' | 'base64', path: string): string =>
  createHash(algorithm).update(readFileSync(path)).digest(encoding);

const vendored = (vendor: string): string[] => filesOf(vendor).filter((path) => !OWN_FILES.includes(path));

/** Records every file's checksum; answers how many there are. */
export function writeSums(vendor: string): number {
  const files = vendored(vendor).filter((path) => !isLink(join(vendor, path)));
  const lines = files.map((path) => `${hash('sha256', 'hex', join(vendor, path))}  ${path}\n`);
  writeFileSync(join(vendor, SUMS), lines.join(''));
  return files.length;
}

/** Offline: the folder holds what SHA256SUMS and sources.json say, and nothing else. */
export function checkSums(vendor: string): Findings {
  const { trees, links } = readSources(vendor);
  const recorded = new Map<string, string>();
  for (const line of readFileSync(join(vendor, SUMS), 'utf8').split('\n').filter(Boolean)) {
    const [, sum, path] = /^([0-9a-f]{64}) {2}(.+)$/.exec(line) ?? [];
    if (sum === undefined || path === undefined)
      throw new Error(`${SUMS} has a line of another form: ${line}`);
    recorded.set(path, sum);
  }
  const problems: string[] = [];
  const found = vendored(vendor);
  for (const path of found) {
    const problem = problemOf(vendor, path, recorded.get(path), links[path], trees);
    if (problem !== undefined) problems.push(`native/vendor/${path} ${problem}`);
  }
  for (const path of [...recorded.keys(), ...Object.keys(links)]) {
    if (!found.includes(path)) problems.push(`native/vendor/${path} is recorded but not there`);
  }
  return { files: recorded.size, problems };
}

function problemOf(
  vendor: string,
  path: string,
  sum: string | undefined,
  target: string | undefined,
  trees: Sources['trees'],
): string | undefined {
  const full = join(vendor, path);
  if (isLink(full)) {
    if (target === undefined) return `is a link that ${SOURCES} does not know`;
    return readlinkSync(full) === target ? undefined : `points to ${readlinkSync(full)}, not to ${target}`;
  }
  if (trees[path.split('/')[0] as string] === undefined) return `belongs to no tree of ${SOURCES}`;
  if (sum === undefined) return `is not in ${SUMS}`;
  return hash('sha256', 'hex', full) === sum ? undefined : `differs from its checksum in ${SUMS}`;
}

/**
 * Online: fetches every release again and compares each file with it byte by byte. Debian's archives are verified by
 * apt's keys and by the checksum in sources.json, npm's by the checksum in the lock file.
 */
export function checkOrigins(vendor: string, lockFile: string): Findings {
  const findings: Findings = { files: 0, problems: [] };
  const folder = mkdtempSync(join(tmpdir(), 'knp-vendor-'));
  try {
    for (const [name, tree] of Object.entries(readSources(vendor).trees)) {
      const release = join(folder, name);
      mkdirSync(release);
      run('tar', ['-xf', fetchOrigin(tree.origin, folder, lockFile), '-C', release]);
      const compared = compareTree(join(vendor, name), tree, release);
      findings.files += compared.files;
      findings.problems.push(...compared.problems.map((problem) => `native/vendor/${name}/${problem}`));
    }
    return findings;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Compares one tree with the unpacked archive of its release. */
export function compareTree(folder: string, tree: Tree, release: string): Findings {
  const problems: string[] = [];
  const files = filesOf(folder).filter((path) => !tree.ours.includes(path));
  for (const path of files) {
    const own = readFileSync(join(folder, path));
    const excerptOf = tree.excerpts[path];
    const origin = join(release, excerptOf ?? join(tree.origin.folder, path));
    if (!existsSync(origin)) problems.push(`${path} is not in ${tree.origin.package} ${tree.origin.version}`);
    else if (excerptOf !== undefined) {
      const whole = readFileSync(origin, 'utf8');
      const strange = own
        .toString()
        .trim()
        .split(/\n\s*\n/)
        .find((paragraph) => !whole.includes(paragraph));
      if (strange !== undefined)
        problems.push(`${path} has a paragraph that ${excerptOf} has not: ${strange}`);
    } else if (!own.equals(readFileSync(origin))) {
      problems.push(`${path} differs from ${tree.origin.package} ${tree.origin.version}`);
    }
  }
  return { files: files.length, problems };
}

/** Downloads an archive into `folder` and verifies its checksum; answers its path. */
function fetchOrigin(origin: Origin, folder: string, lockFile: string): string {
  if (origin.kind === 'npm') return fetchPackage(origin, folder, lockFile);
  const apt = new PrivateApt(folder, { suites: origin.suites });
  apt.update('deb-src');
  const archive = apt
    .downloadSource(origin.package, origin.version)
    .find((path) => basename(path) === origin.archive);
  if (archive === undefined) throw new Error(`Debian's ${origin.package} has no ${origin.archive}`);
  expectSum(archive, hash('sha256', 'hex', archive), origin.sha256);
  return archive;
}

function fetchPackage(origin: Origin, folder: string, lockFile: string): string {
  const lock = JSON.parse(readFileSync(lockFile, 'utf8')) as {
    packages: Record<string, { version: string; integrity: string } | undefined>;
  };
  const locked = lock.packages[`node_modules/${origin.package}`];
  if (locked?.version !== origin.version)
    throw new Error(`the lock file has ${origin.package} ${locked?.version}, ${SOURCES} ${origin.version}`);
  const name = `${origin.package}@${origin.version}`;
  const printed = run('npm', ['pack', name, '--ignore-scripts', '--silent', '--pack-destination', folder]);
  const archive = join(folder, printed.trim().split('\n').at(-1) as string);
  expectSum(archive, `sha512-${hash('sha512', 'base64', archive)}`, locked.integrity);
  return archive;
}

function expectSum(path: string, found: string, expected: string): void {
  if (found !== expected) throw new Error(`${basename(path)} has the checksum ${found}, not ${expected}`);
}
