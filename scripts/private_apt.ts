// apt with sources, lists and keys of its own in a folder, so that neither the host's release nor its sources matter.
// Used for Debian's kernels (test/guests) and for the origins of vendored sources (scripts/vendor).
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

/** Suites of Debian's archive; `security` ones come from the security archive. */
export type Suites = { suites: readonly string[]; security?: string };

export class PrivateApt {
  private readonly home: string;
  private readonly options: string[];
  private readonly from: Suites;
  private keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

  /** Makes a folder of its own within `parent`; `dispose` removes it. */
  constructor(parent: string, from: Suites) {
    this.from = from;
    this.home = mkdtempSync(join(parent, 'apt-'));
    for (const name of ['lists/partial', 'cache/archives/partial', 'files'])
      mkdirSync(join(this.home, name), { recursive: true });
    const settings = {
      'Dir::Etc::sourcelist': join(this.home, 'sources.list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::Etc::preferences': '/dev/null',
      'Dir::Etc::preferencesparts': '/dev/null',
      'Dir::State::lists': join(this.home, 'lists'),
      'Dir::Cache': join(this.home, 'cache'),
      'APT::Architecture': 'amd64',
      'APT::Architectures': 'amd64',
      'APT::Sandbox::User': '',
      'Acquire::Languages': 'none',
      'Acquire::Retries': '3',
    };
    this.options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  }

  /** Reads the lists of the suites; an old host learns the newer releases' keys from the older releases. */
  update(kind: 'deb' | 'deb-src' = 'deb'): void {
    const { suites, security } = this.from;
    const mirrors = debianMirrors();
    const line = (type: string, mirror: string, suite: string): string =>
      `${type} [signed-by=${this.keyring}] ${mirror} ${suite} main`;
    const lines = (): string[] => [
      ...suites.map((suite) => line(kind, mirrors.main, suite)),
      ...(security === undefined ? [] : [line(kind, mirrors.security, security)]),
    ];
    try {
      this.read(lines());
    } catch (error) {
      for (const release of ['bullseye', 'bookworm', 'trixie']) {
        try {
          this.read([line('deb', mirrors.main, release)]);
        } catch {
          continue; // not signed by a key that we have yet, or no longer mirrored
        }
        this.learnKeys();
      }
      try {
        this.read(lines());
      } catch {
        throw error;
      }
    }
  }

  private read(lines: string[]): void {
    writeFileSync(join(this.home, 'sources.list'), `${lines.join('\n')}\n`);
    this.get('-o', 'APT::Update::Error-Mode=any', 'update');
  }

  private learnKeys(): void {
    const [file] = this.download(['debian-archive-keyring']);
    const folder = join(this.home, 'keys');
    run('dpkg-deb', ['-x', file as string, folder]);
    rmSync(file as string);
    const names = ['debian-archive-keyring.gpg', 'debian-archive-keyring.pgp'];
    const found = names
      .map((name) => join(folder, 'usr/share/keyrings', name))
      .find((path) => existsSync(path));
    if (found !== undefined) this.keyring = found;
  }

  /** Names of packages that start so. */
  names(start: string): string[] {
    return run('apt-cache', [...this.options, 'pkgnames', start]).split('\n');
  }

  dependencies(name: string): string[] {
    const text = run('apt-cache', [...this.options, 'show', name]);
    const lines = text.split('\n').filter((line) => line.startsWith('Depends: '));
    const parts = lines.flatMap((line) => line.slice('Depends: '.length).split(','));
    return [...new Set(parts.map((part) => part.trim().split(' ')[0] ?? ''))];
  }

  /** Downloads packages, answers with the paths of all files that were downloaded. */
  download(names: string[]): string[] {
    this.get('download', ...names);
    return this.files();
  }

  /** Downloads a source package, answers like `download`. Needs `update('deb-src')`. */
  downloadSource(name: string, version: string): string[] {
    this.get('source', '--download-only', '--only-source', `${name}=${version}`);
    return this.files();
  }

  dispose(): void {
    rmSync(this.home, { recursive: true, force: true });
  }

  private get(...args: string[]): void {
    run('apt-get', [...this.options, ...args], join(this.home, 'files'));
  }

  private files(): string[] {
    const folder = join(this.home, 'files');
    return readdirSync(folder).map((file) => join(folder, file));
  }
}

/** The host's own Debian mirror where it has one; elsewhere (Ubuntu) Debian's public one, or $KNPTEST_DEBIAN_MIRROR. */
function debianMirrors(): { main: string; security: string } {
  const own = process.env.KNPTEST_DEBIAN_MIRROR;
  if (own !== undefined) return { main: own, security: own.replace(/debian\/?$/, 'debian-security') };
  let uris: string[] = [];
  if (/^ID=debian$/m.test(readFileSync('/etc/os-release', 'utf8'))) {
    const listed = run('apt-get', ['indextargets', '--format', '$(REPO_URI) $(ORIGIN)']).split('\n');
    uris = listed.filter((line) => line.endsWith(' Debian')).map((line) => line.split(' ')[0] as string);
  }
  const main = uris.find((uri) => /\/debian\/?$/.test(uri)) ?? 'http://deb.debian.org/debian';
  const security =
    uris.find((uri) => /\/debian-security\/?$/.test(uri)) ?? main.replace(/debian\/?$/, 'debian-security');
  return { main, security };
}

/** Runs a command, answers what it printed; throws an Error with the last lines that it complained with. */
export function run(command: string, args: string[], cwd?: string): string {
  try {
    return execFileSync(command, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1 << 28,
      ...(cwd === undefined ? {} : { cwd }),
    });
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    throw new Error(`${command} failed: ${(stderr ?? message).trim().split('\n').slice(-5).join(' | ')}`);
  }
}
