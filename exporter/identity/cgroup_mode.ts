// Which cgroup hierarchy of this host names containers and units. Asked once at start: the loader tells the kernel side
// which cgroup id to read, and cgroup_lookup.ts where to look ids up.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { nameCgroup, splitCgroupPath } from './cgroup_path.ts';
import type { CgroupMode } from './types.ts';

/** v1 controllers whose cgroup a BPF program can read (`<name>_cgrp_id`), best first: runtimes fill these everywhere. */
const CONTROLLERS = [
  'memory',
  'pids',
  'cpu',
  'cpuacct',
  'blkio',
  'devices',
  'freezer',
  'cpuset',
  'perf_event',
  'net_cls',
];

/** Bounds the cost of detection on hosts with very many processes. */
const MAX_PROCESSES = 2048;

export interface CgroupMount {
  readonly version: 1 | 2;
  readonly mountpoint: string;
  /** v1: its controllers, or `name=systemd`. Empty for v2. */
  readonly controllers: readonly string[];
  /** Path within the hierarchy that the mountpoint shows: `/` unless a cgroup namespace or a bind mount is in play. */
  readonly root: string;
}

export interface DetectOptions {
  /** Where the host's /proc is. */
  readonly proc?: string;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Undoes the octal escapes of mountinfo (`\040` is a space). */
function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** All cgroup mounts in a mountinfo file (proc(5)). */
export function parseCgroupMounts(mountinfo: string): CgroupMount[] {
  const mounts: CgroupMount[] = [];
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ');
    if (left === undefined || right === undefined) continue;
    const [type, , superOptions = ''] = right.split(' ');
    if (type !== 'cgroup' && type !== 'cgroup2') continue;
    const fields = left.split(' ');
    const ignored = new Set(['rw', 'ro', 'xattr', 'nsdelegate', 'none', 'clone_children', 'noprefix']);
    mounts.push({
      version: type === 'cgroup2' ? 2 : 1,
      root: unescapeMount(fields[3] ?? '/'),
      mountpoint: unescapeMount(fields[4] ?? ''),
      controllers:
        type === 'cgroup2'
          ? []
          : superOptions.split(',').filter((o) => !ignored.has(o) && !o.startsWith('release_agent=')),
    });
  }
  return mounts;
}

/** Lines of /proc/PID/cgroup: `v2`, a controller, or `name=…` → path. */
export function parseProcCgroup(text: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^(\d+):([^:]*):(.*)$/.exec(line);
    if (match === null) continue;
    const [, id, controllers = '', path = ''] = match;
    if (id === '0' && controllers === '') paths.set('v2', path);
    else for (const controller of controllers.split(',')) paths.set(controller, path);
  }
  return paths;
}

function processIds(proc: string): string[] {
  try {
    return readdirSync(proc)
      .filter((name) => /^\d+$/.test(name))
      .slice(-MAX_PROCESSES);
  } catch {
    return [];
  }
}

/** For every hierarchy: how many processes have a container's or a unit's name there. */
function countNames(proc: string): Map<string, number> {
  const counts = new Map<string, number>();
  const named = new Map<string, boolean>();
  for (const pid of ['self', ...processIds(proc)]) {
    for (const [hierarchy, path] of parseProcCgroup(read(join(proc, pid, 'cgroup')))) {
      let isName = named.get(path);
      if (isName === undefined) {
        isName = nameCgroup(splitCgroupPath(path)).kind !== 'process';
        named.set(path, isName);
      }
      counts.set(hierarchy, (counts.get(hierarchy) ?? 0) + (isName ? 1 : 0));
    }
  }
  return counts;
}

/**
 * The hierarchy to read. v2 when it is the only one or names at least as many processes as any v1 controller; otherwise
 * the v1 controller that names most. Where nothing runs that has a name yet, a hybrid host gets v1 if its controllers
 * are there (that is where container runtimes will put containers), else v2.
 */
export function detectCgroupMode(options: DetectOptions = {}): CgroupMode {
  const proc = options.proc ?? '/proc';
  const mounts = parseCgroupMounts(read(join(proc, 'self', 'mountinfo')));
  const counts = countNames(proc);
  const v1 = CONTROLLERS.filter((name) => counts.has(name));
  const hasV2 = counts.has('v2') || mounts.some((mount) => mount.version === 2);
  const layout = v1.length === 0 ? 'v2' : mounts.some((mount) => mount.version === 2) ? 'hybrid' : 'v1';

  const best = v1.reduce<string | undefined>(
    (a, b) => (a === undefined || (counts.get(b) ?? 0) > (counts.get(a) ?? 0) ? b : a),
    undefined,
  );
  const v2Count = counts.get('v2') ?? 0;
  const v1Count = best === undefined ? 0 : (counts.get(best) ?? 0);
  if (best === undefined || (hasV2 && v2Count > 0 && v2Count >= v1Count)) {
    return withMount(
      { mode: 'v2', layout },
      mounts.filter((mount) => mount.version === 2),
    );
  }
  return withMount(
    { mode: 'v1', controller: best, layout },
    mounts.filter((mount) => mount.version === 1 && mount.controllers.includes(best)),
  );
}

/** One hierarchy may be mounted many times; a mount that shows all of it is worth more than a container's own part. */
function withMount(mode: CgroupMode, mounts: readonly CgroupMount[]): CgroupMode {
  const mount = mounts.find((candidate) => candidate.root === '/') ?? mounts[0];
  return mount === undefined ? mode : { ...mode, mountpoint: mount.mountpoint };
}
