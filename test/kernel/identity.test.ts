// Real processes in real cgroups: what the running kernel says about them is what identity names them by. Needs root and
// a writable cgroup mount; uses every hierarchy that is mounted here.
import { type ChildProcess, spawn } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type CgroupMount,
  detectCgroupMode,
  parseCgroupMounts,
} from '../../exporter/identity/cgroup_mode.ts';
import { createHostIdentity } from '../../exporter/identity/host.ts';
import type { CgroupMode, OwnerInfo } from '../../exporter/identity/types.ts';

const CONTAINER = `${process.pid}`.padStart(64, 'c');
const title = (mount: CgroupMount): string => mount.controllers.join(',') || 'v2';
// Chroots may show the same hierarchies a second time.
const mounts = parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'))
  .filter(
    (mount) => mount.version === 2 || ['memory', 'pids'].some((name) => mount.controllers.includes(name)),
  )
  .filter((mount, index, all) => all.findIndex((other) => title(other) === title(mount)) === index);
const base = `knp-identity-${process.pid}`;
const children: ChildProcess[] = [];

function removeTree(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(join(path, entry.name));
  }
  rmdirSync(path);
}

/** A sleeping process in a cgroup made for it. */
function spawnIn(mount: CgroupMount, path: string): { pid: number; dir: string } {
  const dir = join(mount.mountpoint, base, path);
  mkdirSync(dir, { recursive: true });
  const child = spawn('sleep', ['600'], { stdio: 'ignore' });
  children.push(child);
  writeFileSync(join(dir, 'cgroup.procs'), String(child.pid));
  return { pid: child.pid as number, dir };
}

function modeOf(mount: CgroupMount): CgroupMode {
  const layout = detectCgroupMode().layout;
  const controller = ['memory', 'pids'].find((name) => mount.controllers.includes(name));
  return mount.version === 2
    ? { mode: 'v2', layout, mountpoint: mount.mountpoint }
    : { mode: 'v1', controller: controller as string, layout, mountpoint: mount.mountpoint };
}

/** As the kernel side records it; without captured names unless given, so that /proc and the mount must tell. */
function ownerOf(pid: number, dir: string, more: Partial<OwnerInfo> = {}): OwnerInfo {
  return {
    id: pid,
    pid,
    cgroupId: BigInt(statSync(dir).ino),
    comm: 'sleep',
    exe: 'sleep',
    flags: 0,
    path: [],
    ...more,
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

beforeAll(() => expect(mounts.length).toBeGreaterThan(0));
afterAll(async () => {
  await Promise.all(children.map(end));
  for (const mount of mounts) {
    try {
      removeTree(join(mount.mountpoint, base));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
});

describe.each(mounts.map((mount) => [title(mount), mount] as const))('hierarchy %s', (_, mount) => {
  it.each([
    ['a unit', 'system.slice/nginx.service', 'nginx.service', 'Unit'],
    ['a container', `system.slice/docker-${CONTAINER}.scope`, CONTAINER.slice(0, 12), 'Container'],
    ['a session', 'user.slice/user-0.slice/session-1.scope', 'sleep', 'Process'],
    [
      'a user manager, deeper than the kernel captures',
      'user.slice/user-1.slice/user@1.service/app.slice/a/b.service',
      'sleep',
      'Process',
    ],
    ['a unit with an escape in its name', 'system.slice/a\\x2db.service', 'a-b.service', 'Unit'],
    [
      'a name longer than the kernel captures',
      `system.slice/${'n'.repeat(120)}.service`,
      `${'n'.repeat(120)}.service`,
      'Unit',
    ],
  ])('%s: living by /proc, dead by the id of its cgroup', async (_title, path, name, kind) => {
    const { pid, dir } = spawnIn(mount, path);
    const captured = path
      .split('/')
      .reverse()
      .slice(0, 4)
      .map((part) => Buffer.from(part).subarray(0, 95));
    const expected = { name, kind, namespace: '' };
    const options = { cgroup: modeOf(mount), root: '/nowhere' };

    expect(createHostIdentity(options).local(ownerOf(pid, dir, { path: captured }))).toEqual(expected);
    expect(createHostIdentity(options).local(ownerOf(pid, dir))).toEqual(expected);
    await end(children.at(-1) as ChildProcess);
    expect(createHostIdentity(options).local(ownerOf(pid, dir))).toEqual(expected);
  });

  it('a process that moved after it was seen keeps the name of where it was seen', () => {
    const { pid, dir } = spawnIn(mount, 'system.slice/before.service');
    const elsewhere = join(mount.mountpoint, base, 'system.slice/after.service');
    mkdirSync(elsewhere);
    writeFileSync(join(elsewhere, 'cgroup.procs'), String(pid));
    const identity = createHostIdentity({ cgroup: modeOf(mount) });
    expect(identity.local(ownerOf(pid, dir)).name).toBe('before.service');
    expect(identity.local(ownerOf(pid, dir, { path: ['before.service', 'system.slice'] })).name).toBe(
      'before.service',
    );
  });
});

describe('detection follows the hierarchy in which processes have names', () => {
  // A view of /proc with our own processes only: others on this machine may run in containers as they like.
  const proc = mkdtempSync(join(tmpdir(), 'knp-identity-'));
  afterAll(() => rmSync(proc, { recursive: true }));

  it.each(mounts.map((mount) => [title(mount), mount] as const))('%s', (_, mount) => {
    mkdirSync(join(proc, 'self'), { recursive: true });
    writeFileSync(join(proc, 'self', 'mountinfo'), readFileSync('/proc/self/mountinfo'));
    const { pid } = spawnIn(mount, `system.slice/docker-${'d'.repeat(64)}.scope`);
    const view = join(proc, String(pid));
    symlinkSync(`/proc/${pid}`, view);
    try {
      const mode = detectCgroupMode({ proc });
      expect(mode).toEqual({ ...modeOf(mount), layout: mode.layout });
    } finally {
      rmSync(view);
    }
  });
});
