// Finds cgroups of the v2 hierarchy, for programs that are attached to some and not to the root.
import { type Dirent, readFileSync, statSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import type { AttachedLink, Scan, Target } from './attachments.ts';
import { TargetGone } from './attachments.ts';
import { KernelError } from './native.ts';

/** The root of the v2 hierarchy is its first node. */
const ROOT_NODE = 1;

/** Where the root of the v2 hierarchy is mounted, if it is: what is attached there sees the whole host. */
export function cgroupRoot(): string | undefined {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const path = left.split(' ')[4];
    if (path === undefined || !right.startsWith('cgroup2 ')) continue;
    if (statSync(path, { throwIfNoEntry: false })?.ino === ROOT_NODE) return path;
  }
  return undefined;
}

export interface Cgroup {
  readonly key: string;
  /** From the root of the hierarchy: `/kubepods.slice/...`. */
  readonly path: string;
  /** Where it is now. */
  readonly directory: string;
}

export interface CgroupOptions {
  /** Where the hierarchy is mounted. */
  readonly root: string;
  readonly matches: (path: string) => boolean;
  /** How many links `attach` makes at most. */
  readonly links: number;
  readonly attach: (cgroup: Cgroup) => Iterable<AttachedLink>;
  /** Beyond this depth nothing is looked for. Default 16. */
  readonly depth?: number;
  /** Cgroups that one scan looks at; where there are more, it fails. Default 16384. */
  readonly limit?: number;
}

/**
 * Walks the hierarchy from the root, each directory on another thread. A cgroup's number, the inode number of its
 * directory, is not given again on 64-bit machines.
 */
export function cgroupScan(options: CgroupOptions): Scan {
  const { root, matches, links, attach, depth = 16, limit = 16_384 } = options;
  return async function* (): AsyncGenerator<Target, boolean> {
    let looked = 0;
    let level = [''];
    for (let at = 0; level.length > 0 && at <= depth; at++) {
      const below: string[] = [];
      for (const path of level) {
        if (++looked > limit) throw new Error(`more than ${limit} cgroups`);
        const directory = `${root}${path}`;
        if (path !== '' && matches(path)) {
          const number = await numberOf(directory);
          if (number === undefined) continue;
          const cgroup = { key: `cgroup:${number}`, path, directory };
          yield { key: cgroup.key, description: path, links, attach: () => attaching(cgroup, attach) };
        }
        for (const name of await children(directory)) below.push(`${path}/${name}`);
      }
      level = below;
    }
    return true;
  };
}

async function numberOf(directory: string): Promise<bigint | undefined> {
  return await stat(directory, { bigint: true }).then(
    ({ ino }) => ino,
    () => undefined, // removed since its parent was read
  );
}

async function children(directory: string): Promise<string[]> {
  const entries: Dirent[] = await readdir(directory, { withFileTypes: true }).catch((error) => {
    if (error.code === 'ENOENT' || error.code === 'ENODEV') return []; // removed meanwhile
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

function* attaching(
  cgroup: Cgroup,
  attach: (cgroup: Cgroup) => Iterable<AttachedLink>,
): Iterable<AttachedLink> {
  try {
    yield* attach(cgroup);
  } catch (error) {
    if (error instanceof KernelError && (error.code === 'ENOENT' || error.code === 'ENODEV'))
      throw new TargetGone(cgroup.path);
    throw error;
  }
}
