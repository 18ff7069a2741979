// Debian's kernels as directories in a cache: a kernel image and its modules, fetched with apt from Debian's mirrors.
// Called by guest.ts.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { PrivateApt, run, type Suites } from '../../scripts/private_apt.ts';

/** Each series and the suites that carry it. */
export const SERIES: Readonly<Record<string, Suites>> = {
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
  const apt = new PrivateApt(cacheFolder(), SERIES[series] as Suites);
  apt.update();
  const image = newestImage(series, apt.names(`linux-image-${series}.`));
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

function newestImage(series: string, names: readonly string[]): string {
  // linux-image-6.12.57+deb13-amd64, not its -cloud, -rt, -dbg or -unsigned sisters; no release candidates
  const plain = names.filter((name) => /^linux-image-\d+\.[0-9.]+(-\d+|\+[a-z0-9+~]+)?-amd64$/.test(name));
  const newest = plain.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
  if (newest === undefined) throw new Error(`Debian's mirror has no kernel ${series}`);
  return newest;
}
