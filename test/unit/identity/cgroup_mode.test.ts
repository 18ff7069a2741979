// Detection on /proc trees as hosts of each layout have them, written to disk, and id lookup in a real directory tree.
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CgroupLookup } from '../../../exporter/identity/cgroup_lookup.ts';
import {
  detectCgroupMode,
  parseCgroupMounts,
  parseProcCgroup,
} from '../../../exporter/identity/cgroup_mode.ts';

const ID = 'ab'.repeat(32);
let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'knp-identity-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

const V2_MOUNT =
  '29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n';
const UNIFIED_MOUNT =
  '30 29 0:26 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:5 - cgroup2 cgroup2 rw,nsdelegate\n';
const V1_MOUNTS =
  '31 29 0:27 / /sys/fs/cgroup/systemd rw,relatime shared:6 - cgroup cgroup rw,xattr,name=systemd\n' +
  '33 29 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:8 - cgroup cgroup rw,cpu,cpuacct\n' +
  '34 29 0:30 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n' +
  '35 29 0:31 / /sys/fs/cgroup/pids rw,relatime shared:10 - cgroup cgroup rw,pids\n';
const OTHER_MOUNT = '23 28 0:21 / /proc rw,relatime shared:12 - proc proc rw\n';

const v1Lines = (memory: string, pids: string, systemd: string, v2?: string) =>
  `12:memory:${memory}\n9:pids:${pids}\n3:cpu,cpuacct:${memory}\n1:name=systemd:${systemd}\n${v2 === undefined ? '' : `0::${v2}\n`}`;

describe('detectCgroupMode', () => {
  it('v2 only: Ubuntu 22.04, Debian 12, Fedora', () => {
    write('self/mountinfo', OTHER_MOUNT + V2_MOUNT);
    write('self/cgroup', '0::/user.slice/user-0.slice/session-1.scope\n');
    write('801/cgroup', '0::/system.slice/nginx.service\n');
    expect(detectCgroupMode({ proc: root })).toEqual({
      mode: 'v2',
      layout: 'v2',
      mountpoint: '/sys/fs/cgroup',
    });
  });

  it('v1 only: CentOS 7 with Docker', () => {
    write('self/mountinfo', V1_MOUNTS);
    write('self/cgroup', v1Lines('/', '/', '/user.slice/user-0.slice/session-1.scope'));
    write('801/cgroup', v1Lines(`/docker/${ID}`, `/docker/${ID}`, `/docker/${ID}`));
    expect(detectCgroupMode({ proc: root })).toEqual({
      mode: 'v1',
      controller: 'memory',
      layout: 'v1',
      mountpoint: '/sys/fs/cgroup/memory',
    });
  });

  it('hybrid: systemd names units in v2 and pids, memory holds few: v2', () => {
    write('self/mountinfo', UNIFIED_MOUNT + V1_MOUNTS);
    write(
      'self/cgroup',
      v1Lines('/', '/system.slice/ssh.service', '/system.slice/ssh.service', '/system.slice/ssh.service'),
    );
    expect(detectCgroupMode({ proc: root })).toMatchObject({
      mode: 'v2',
      layout: 'hybrid',
      mountpoint: '/sys/fs/cgroup/unified',
    });
  });

  it('hybrid: everybody in the root of v2, units in pids only: pids', () => {
    write('self/mountinfo', UNIFIED_MOUNT + V1_MOUNTS);
    write('self/cgroup', v1Lines('/', '/', '/', '/'));
    write(
      '801/cgroup',
      v1Lines('/system.slice', '/system.slice/nginx.service', '/system.slice/nginx.service', '/'),
    );
    expect(detectCgroupMode({ proc: root })).toMatchObject({
      mode: 'v1',
      controller: 'pids',
      layout: 'hybrid',
    });
  });

  it('hybrid: containers in v1 although some units are in v2', () => {
    write('self/mountinfo', UNIFIED_MOUNT + V1_MOUNTS);
    write('self/cgroup', v1Lines('/', '/', '/', '/'));
    write('1/cgroup', v1Lines('/', '/', '/system.slice/a.service', '/system.slice/a.service'));
    for (const pid of [50, 51, 52])
      write(`${pid}/cgroup`, v1Lines(`/docker/${ID}`, `/docker/${ID}`, `/docker/${ID}`, '/'));
    expect(detectCgroupMode({ proc: root })).toMatchObject({ mode: 'v1', controller: 'memory' });
  });

  it('hybrid where nothing has a name yet: where runtimes will put containers', () => {
    write('self/mountinfo', UNIFIED_MOUNT + V1_MOUNTS);
    write('self/cgroup', v1Lines('/anything', '/', '/', '/'));
    expect(detectCgroupMode({ proc: root })).toMatchObject({
      mode: 'v1',
      controller: 'memory',
      layout: 'hybrid',
    });
  });

  it('a mount that shows the whole hierarchy is preferred to a part of it', () => {
    const part = V2_MOUNT.replace(' / /sys', ' /kubepods/pod1/c1 /sys');
    write('self/mountinfo', part + V2_MOUNT.replace('/sys/fs/cgroup', '/host/sys/fs/cgroup'));
    write('self/cgroup', '0::/\n');
    expect(detectCgroupMode({ proc: root }).mountpoint).toBe('/host/sys/fs/cgroup');
  });

  it('no /proc at all: v2, which every kernel that the agent supports has', () => {
    expect(detectCgroupMode({ proc: join(root, 'nowhere') })).toEqual({ mode: 'v2', layout: 'v2' });
  });
});

it('reads mountinfo and /proc/PID/cgroup with their oddities', () => {
  expect(
    parseCgroupMounts(
      '31 29 0:27 /docker/x /sys/fs/my\\040cgroup ro - cgroup cgroup rw,cpuset,noprefix,clone_children,release_agent=/x\nbroken\n',
    ),
  ).toEqual([{ version: 1, root: '/docker/x', mountpoint: '/sys/fs/my cgroup', controllers: ['cpuset'] }]);
  const paths = parseProcCgroup('5:cpu,cpuacct:/a:b\n1:name=systemd:/s\n0::/v\nrubbish\n');
  expect(Object.fromEntries(paths)).toEqual({ cpu: '/a:b', cpuacct: '/a:b', 'name=systemd': '/s', v2: '/v' });
});

describe('CgroupLookup', () => {
  const ino = (path: string) => statSync(join(root, path)).ino;

  it('finds directories by inode, sees new ones, forgets the removed', () => {
    mkdirSync(join(root, 'system.slice/nginx.service'), { recursive: true });
    let now = 0;
    const lookup = new CgroupLookup({ mountpoint: root, now: () => now });
    expect(lookup.path(ino('system.slice/nginx.service'))).toBe('/system.slice/nginx.service');
    expect(lookup.path(BigInt(ino('')))).toBe('/');
    expect(lookup.walks).toBe(1);

    mkdirSync(join(root, 'late.service'));
    expect(lookup.path(ino('late.service'))).toBeUndefined();
    expect(lookup.walks).toBe(1);
    now = 1000;
    expect(lookup.path(ino('late.service'))).toBe('/late.service');
    expect(lookup.walks).toBe(2);
  });

  it('an id that does not exist costs one walk, not one per question', () => {
    let now = 0;
    const lookup = new CgroupLookup({ mountpoint: root, now: () => now });
    for (; now < 10_000; now += 1000) expect(lookup.path(2 ** 40)).toBeUndefined();
    expect(lookup.walks).toBe(1);
    expect(lookup.path(0)).toBeUndefined();
  });

  it('stops at its bound and says so', () => {
    for (let index = 0; index < 50; index++) mkdirSync(join(root, `d${index}`));
    const lookup = new CgroupLookup({ mountpoint: root, maxDirectories: 20 });
    lookup.path(ino('d49'));
    expect(lookup.size).toBeLessThanOrEqual(20);
    expect(lookup.truncated).toBe(true);
  });

  it('survives a mountpoint that is not there', () => {
    expect(new CgroupLookup({ mountpoint: join(root, 'nowhere') }).path(5)).toBeUndefined();
  });
});
