// Debian's kernels as directories in a cache: a kernel image and its modules, fetched with apt from Debian's mirrors
// into lists of their own, so that neither the host's release nor its sources matter. Called by guest.ts.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Each series and the suites that carry it; `security` ones come from the security archive. */
export const SERIES: Readonly<Record<string, { suites: readonly string[]; security?: string }>> = {
  '5.10': { suites: ['bullseye'], security: 'bullseye-security' },
  '6.1': { suites: ['bookworm'], security: 'bookworm-security' },
  '6.12': { suites: ['trixie'], security: 'trixie-security' },
  '7': { suites: ['sid', 'trixie-backports'] },
};

export type Kernel = {
  /** As `uname -r` says it in the guest. */
  release: string;
  /** Bootable image. */
  image: string;
  /** Folder that holds one folder by the name of the release, with modules.dep. */
  modules: string;
};

/** Where kernels are kept: $KNPTEST_CACHE, else $XDG_CACHE_HOME/kubenetprobe, else ~/.cache/kubenetprobe. */
export function cacheFolder(): string {
  const base =
    process.env.KNPTEST_CACHE ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kubenetprobe');
  return join(base, 'guests');
}

/**
 * The newest kernel of a series (a key of SERIES), fetched when the cache has none or `update` is set.
 * Throws an Error with one sentence when it cannot be had.
 */
export function kernelOf(series: string, options: { update?: boolean } = {}): Kernel {
  if (SERIES[series] === undefined) {
    throw new Error(`no kernel series ${series}; there are ${Object.keys(SERIES).join(', ')}`);
  }
  const folder = join(cacheFolder(), `kernel-${series}`);
  if (options.update) rmSync(folder, { recursive: true, force: true });
  if (!existsSync(folder)) fetchKernel(series, folder);
  return describe(folder);
}

function describe(folder: string): Kernel {
  const modules = join(folder, existsSync(join(folder, 'lib/modules')) ? 'lib/modules' : 'usr/lib/modules');
  const release = readdirSync(modules)[0];
  if (release === undefined) throw new Error(`${folder} holds no kernel; remove it and try again`);
  // Up to 6.x the image lies in /boot, since 7.x beside its modules.
  const places = [join(folder, 'boot', `vmlinuz-${release}`), join(modules, release, 'vmlinuz')];
  const image = places.find((place) => existsSync(place));
  if (image === undefined) throw new Error(`${folder} holds no kernel image; remove it and try again`);
  return { release, image, modules };
}

function fetchKernel(series: string, folder: string): void {
  mkdirSync(cacheFolder(), { recursive: true });
  const apt = new PrivateApt(series);
  apt.update();
  const image = apt.newestImage(series);
  // Since 7.x the image is split: the kernel and its modules are packages of their own.
  const parts = apt.dependencies(image).filter((name) => /^linux-(binary|modules)-/.test(name));
  const temporary = mkdtempSync(join(cacheFolder(), 'unpack-'));
  try {
    for (const file of apt.download([image, ...parts])) run('dpkg-deb', ['-x', file, temporary]);
    if (!existsSync(join(temporary, 'lib'))) symlinkSync('usr/lib', join(temporary, 'lib'));
    run('depmod', ['-b', temporary, describe(temporary).release]);
    renameSync(temporary, folder);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
    apt.dispose();
  }
}

/** apt with sources, lists and keys of its own in the cache. */
class PrivateApt {
  private readonly home: string;
  private readonly options: string[];
  private readonly series: string;
  private keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

  constructor(series: string) {
    this.series = series;
    this.home = mkdtempSync(join(cacheFolder(), 'apt-'));
    for (const name of ['lists/partial', 'cache/archives/partial', 'debs'])
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

  /** Reads the lists of the series' suites; an old host learns the newer releases' keys from the older releases. */
  update(): void {
    const { suites, security } = SERIES[this.series] as (typeof SERIES)[string];
    const mirrors = debianMirrors();
    const lines = (): string[] => [
      ...suites.map((suite) => `deb [signed-by=${this.keyring}] ${mirrors.main} ${suite} main`),
      ...(security === undefined
        ? []
        : [`deb [signed-by=${this.keyring}] ${mirrors.security} ${security} main`]),
    ];
    try {
      this.read(lines());
    } catch (error) {
      for (const release of ['bullseye', 'bookworm', 'trixie']) {
        try {
          this.read([`deb [signed-by=${this.keyring}] ${mirrors.main} ${release} main`]);
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
    run('apt-get', [...this.options, '-o', 'APT::Update::Error-Mode=any', 'update']);
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

  newestImage(series: string): string {
    const names = run('apt-cache', [...this.options, 'pkgnames', `linux-image-${series}.`]).split('\n');
    // linux-image-6.12.57+deb13-amd64, not its -cloud, -rt, -dbg or -unsigned sisters; no release candidates
    const plain = names.filter((name) => /^linux-image-\d+\.[0-9.]+(-\d+|\+[a-z0-9+~]+)?-amd64$/.test(name));
    const newest = plain.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
    if (newest === undefined) throw new Error(`Debian's mirror has no kernel ${series}`);
    return newest;
  }

  dependencies(name: string): string[] {
    const text = run('apt-cache', [...this.options, 'show', name]);
    const lines = text.split('\n').filter((line) => line.startsWith('Depends: '));
    return [
      ...new Set(
        lines.flatMap((line) =>
          line
            .slice(9)
            .split(',')
            .map((part) => part.trim().split(' ')[0] ?? ''),
        ),
      ),
    ];
  }

  /** Downloads packages, answers with their files. */
  download(names: string[]): string[] {
    const folder = join(this.home, 'debs');
    run('apt-get', [...this.options, 'download', ...names], folder);
    return readdirSync(folder).map((file) => join(folder, file));
  }

  dispose(): void {
    rmSync(this.home, { recursive: true, force: true });
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

function run(command: string, args: string[], cwd?: string): string {
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
