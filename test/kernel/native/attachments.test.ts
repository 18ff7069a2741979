// Sets of attachments on real targets: programs that start, exec, are replaced and deleted, in other mount namespaces and
// on overlays; interfaces that come and go in several network namespaces. What is counted is what the peers did.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { basename } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { AttachmentSet, type AttachmentStatus } from '../../../exporter/kernel/attachments.ts';
import { cgroupScan } from '../../../exporter/kernel/cgroups.ts';
import { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { InterfaceScanner, type NetworkInterface } from '../../../exporter/kernel/interfaces.ts';
import { MappedFileScanner } from '../../../exporter/kernel/mapped_files.ts';
import {
  type BpfLink,
  type BpfObject,
  networkInterfaces,
  openObject,
} from '../../../exporter/kernel/native.ts';
import { scaled } from '../../guests/scale.ts';
import {
  cgroup2Mount,
  compile,
  compileTarget,
  Driven,
  linkIds,
  openFiles,
  runChild,
  until,
} from './support.ts';

const objectPath = compile('attach');
const PROGRAM = `knpt-${process.pid}`;

/** Rescans when told to only. */
const BOUNDS = { maxTargets: 16, maxLinks: 32, rescanMillis: 3_600_000, retryMillis: 0, attempts: 2 };

/** Pokes until `holds`: a target counts as gone when two rounds have missed it, and links take their time to close. */
async function pokeUntil(set: AttachmentSet, holds: (status: AttachmentStatus) => boolean, what: string) {
  await until(async () => {
    await set.poke();
    return holds(set.status());
  }, what);
}

function loaded(...programs: string[]): BpfObject {
  const described = openObject(objectPath);
  const autoload = Object.fromEntries(described.programs.map(({ name }) => [name, programs.includes(name)]));
  described.close();
  const object = openObject(objectPath, { autoload });
  object.load();
  return object;
}

describe('files that processes execute', () => {
  let folder = '';
  let object: BpfObject;
  let scanner: MappedFileScanner;
  let set: AttachmentSet;
  let broken = false;
  /** Cookie by key of the file, in the order in which they were attached to. */
  const cookies = new Map<string, number>();
  const driven: Driven[] = [];

  beforeAll(() => {
    folder = mkdtempSync('/dev/shm/knp-attachments-'); // a tmpfs: in a guest the root is an overlay
    object = loaded('knpt_call');
    const program = object.program('knpt_call');
    let last = 0;
    scanner = new MappedFileScanner({
      matches: (path) => basename(path) === PROGRAM,
      links: 2,
      *attach(file, path): Generator<BpfLink> {
        const cookie = ++last;
        cookies.set(file.key, cookie);
        yield program.attachUprobe({ path, symbol: 'knpt_target', cookie });
        const second = broken ? 'knpt_none' : 'main';
        yield program.attachUprobe({ path, symbol: second, cookie: cookie + 1_000_000 });
      },
    });
    set = new AttachmentSet({ ...BOUNDS, name: 'test programs', scan: scanner.scan });
  });
  afterEach(async () => {
    for (const child of driven.splice(0)) await child.ended();
    await pokeUntil(set, ({ links, failed }) => links + failed.length === 0, 'everything to be detached');
    cookies.clear();
    broken = false;
  });
  afterAll(async () => {
    await set.close();
    object.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const start = async (...command: string[]): Promise<Driven> => {
    const child = await Driven.start(command);
    driven.push(child);
    return child;
  };
  const install = (name = PROGRAM): string => {
    const path = `${folder}/${name}`;
    copyFileSync(compileTarget(), `${path}.new`);
    renameSync(`${path}.new`, path);
    return path;
  };
  /** Calls counted for the files attached to, in the order in which they were attached to. */
  const counts = (): number[] => {
    const { count, keys, values } = object.map('cookies').readAll();
    const seen = new Map<number, number>();
    for (let i = 0; i < count; i++)
      seen.set(Number(keys.readBigUInt64LE(i * 8)), Number(values.readBigUInt64LE(i * 8)));
    return [...cookies.values()].map((cookie) => seen.get(cookie) ?? 0);
  };
  const id = () => object.program('knpt_call').info().id;

  test('processes of one file are one target, which goes with the last of them', async () => {
    const path = install();
    const first = await start(path);
    const second = await start(path);
    await first.call(7); // before it was attached to
    await set.poke();
    expect(set.status()).toMatchObject({ links: 2, failed: [] });
    expect(set.status().targets[0]).toMatch(`${path} (process `);
    expect(linkIds([id()])).toHaveLength(2);
    await first.call(100);
    await second.call(20);
    expect(counts()).toEqual([120]);
    await first.ended();
    for (let i = 0; i < 4; i++) await set.poke();
    await second.call(3);
    expect(counts()).toEqual([123]);
    await second.ended();
    await pokeUntil(set, ({ links }) => links === 0, 'the links to be closed');
    expect(linkIds([id()])).toEqual([]);
  });

  test('a process that becomes the program by exec', async () => {
    const path = install();
    const shell = spawn('sh', ['-c', `read line; exec ${path}`], { stdio: 'pipe' });
    try {
      await set.poke();
      expect(set.status().targets).toEqual([]);
      shell.stdin.write('go\n');
      await pokeUntil(set, ({ targets }) => targets.length === 1, 'the program to be found');
    } finally {
      shell.kill('SIGKILL');
    }
  });

  test('a replaced program: the old inode is still executed, the new one has its path', async () => {
    const path = install();
    const old = await start(path);
    install();
    const current = await start(path);
    await set.poke();
    await old.call(11);
    await current.call(5);
    expect(set.status()).toMatchObject({ links: 4, failed: [] });
    expect(counts().sort((a, b) => a - b)).toEqual([5, 11]);
    await old.ended();
    await pokeUntil(set, ({ links }) => links === 2, 'the old one to be detached');
    await current.call(1);
    expect(counts().sort((a, b) => a - b)).toEqual([6, 11]);
  });

  test('a deleted program that is still executed', async () => {
    const path = install();
    const child = await start(path);
    unlinkSync(path);
    await set.poke();
    await child.call(9);
    expect(counts()).toEqual([9]);
    expect(set.status().targets[0]).toMatch(path);
  });

  test('in a mount namespace of its own, under a path that leads nowhere here', async () => {
    const path = install();
    const inside = `mount -t tmpfs none ${folder} && cp ${compileTarget()} ${folder}/${PROGRAM} && exec ${folder}/${PROGRAM}`;
    const here = await start(path);
    const there = await start('unshare', '--mount', '--propagation', 'private', 'sh', '-c', inside);
    await set.poke();
    await there.call(4);
    await here.call(2);
    expect(set.status().links).toBe(4);
    expect(counts().sort((a, b) => a - b)).toEqual([2, 4]);
  });

  test('one file of an image in two containers is one target: each call counts once', async () => {
    install();
    const mount = (name: string) =>
      `mkdir -p ${folder}/${name}-u ${folder}/${name}-w ${folder}/${name} && ` +
      `mount -t overlay none -o lowerdir=${folder}/image,upperdir=${folder}/${name}-u,workdir=${folder}/${name}-w ${folder}/${name} && ` +
      `exec ${folder}/${name}/${PROGRAM}`;
    // on a tmpfs of its own: overlays do not lie on overlays, and this machine's root may be one
    execFileSync('mount', ['-t', 'tmpfs', 'none', folder]);
    try {
      execFileSync('mkdir', [`${folder}/image`]);
      copyFileSync(compileTarget(), `${folder}/image/${PROGRAM}`);
      const first = await start('unshare', '--mount', 'sh', '-c', mount('a'));
      const second = await start('unshare', '--mount', 'sh', '-c', mount('b'));
      await set.poke();
      await first.call(30);
      await second.call(12);
      expect(set.status()).toMatchObject({ links: 2, failed: [] });
      expect(counts()).toEqual([42]);
      for (const child of driven.splice(0)) await child.ended();
    } finally {
      execFileSync('umount', ['--lazy', folder]);
    }
  });

  test('a program in which one of two places cannot be attached to has none, and says why', async () => {
    broken = true;
    const files = openFiles();
    await start(install());
    await set.poke();
    await pokeUntil(set, ({ failed }) => failed[0]?.givenUp === true, 'it to be given up');
    const [failed] = set.status().failed;
    expect(failed?.reason).toMatch(/cannot attach program 'knpt_call' to \/proc\/self\/fd/);
    expect(failed?.attempts).toBe(2);
    await pokeUntil(set, ({ pendingCloses }) => pendingCloses === 0, 'the first link to be closed');
    expect(linkIds([id()])).toEqual([]);
    expect(set.status()).toMatchObject({ targets: [], links: 0 });
    expect(openFiles()).toBe(files + 3); // the process's pipes: no descriptor of the file stays open
  });

  test('without the capability for map_files: by the path in the process, if that is what it maps', async () => {
    const path = install();
    await start(path);
    const bare = ['setpriv', '--bounding-set=-sys_admin,-checkpoint_restore'];
    type Found = { keys: string[]; status: { unverified: number } };
    const scan = (prefix: string[]) => {
      const { keys, status } = runChild<Found>('scan_files', { prefix, args: [PROGRAM] });
      return { keys, unverified: status.unverified };
    };
    const exact = scan([]);
    expect(exact).toEqual({ keys: [expect.stringMatching(/^file:/)], unverified: 0 });
    expect(scan(bare)).toEqual(exact);
    install(); // another file has the path now: to guess that it is this one would be wrong
    expect(scan([])).toEqual(exact);
    expect(scan(bare)).toEqual({ keys: [], unverified: 1 });
  });
});

describe('interfaces', () => {
  const features = new KernelFeatures();
  const tcx = features.missing('attach:TCX_INGRESS') === undefined;
  const [near, far] = [`knpa-${process.pid}`, `knpb-${process.pid}`];
  // numbers of their own, so that one map serves all namespaces
  const [NEAR, FAR] = [7101, 7102];
  const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8' });
  const holders: ReturnType<typeof spawn>[] = [];

  const addNamespace = (name: string) => {
    ip('netns', 'add', name);
    ip('netns', 'exec', name, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    ip('netns', 'exec', name, 'sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1');
    holders.push(spawn('ip', ['netns', 'exec', name, 'sleep', '600'], { stdio: 'ignore' }));
  };
  const addPair = () => {
    const peer = ['peer', 'name', 'knpv1', 'index', String(FAR), 'netns', far];
    ip('-n', near, 'link', 'add', 'knpv0', 'index', String(NEAR), 'type', 'veth', ...peer);
  };
  const setUp = () => {
    ip('-n', near, 'address', 'add', '10.98.0.1/24', 'dev', 'knpv0');
    ip('-n', far, 'address', 'add', '10.98.0.2/24', 'dev', 'knpv1');
    ip('-n', near, 'link', 'set', 'knpv0', 'up');
    ip('-n', far, 'link', 'set', 'knpv1', 'up');
  };
  beforeAll(async () => {
    addNamespace(near);
    addNamespace(far);
    const own = readlinkSync('/proc/self/ns/net');
    const inside = ({ pid }: ReturnType<typeof spawn>) => readlinkSync(`/proc/${pid}/ns/net`) !== own;
    await until(() => holders.every(inside), 'a process to be in each namespace');
  });
  afterAll(() => {
    for (const holder of holders) holder.kill('SIGKILL');
    for (const name of [near, far]) spawnSync('ip', ['netns', 'delete', name]);
  });

  const attachments = (object: BpfObject, useTcx: boolean, met: NetworkInterface[] = []) => {
    const scanner = new InterfaceScanner({
      matches: (name) => name.startsWith('knpv'),
      namespaces: 'all',
      links: 2,
      *attach(at): Generator<BpfLink> {
        met.push(at);
        const place = { ifindex: at.index, ...(at.netns && { netns: at.netns }) };
        for (const direction of ['ingress', 'egress'] as const) {
          const program = object.program(direction === 'ingress' ? 'knpt_in' : 'knpt_out');
          if (useTcx) yield program.attachTcx({ ...place, direction });
          else yield program.attachTc({ ...place, direction, handle: 77, priority: 4321 });
        }
      },
    });
    return new AttachmentSet({ ...BOUNDS, name: 'interfaces', scan: scanner.scan });
  };
  type Traffic = { packets: number; bytes: number };
  const counted = (object: BpfObject, ifindex: number, egress: boolean): Traffic => {
    const key = Buffer.alloc(4);
    key.writeUInt32LE((ifindex | (egress ? 1 << 31 : 0)) >>> 0);
    const value = object.map('traffic').lookup(key);
    if (!value) return { packets: 0, bytes: 0 };
    return { packets: Number(value.readBigUInt64LE(0)), bytes: Number(value.readBigUInt64LE(8)) };
  };
  /** What the interface itself has counted. */
  const statistics = (namespace: string, name: string) => {
    const [link] = JSON.parse(ip('-n', namespace, '-s', '-j', 'link', 'show', name));
    const { rx, tx } = link.stats64;
    return { rx: { packets: rx.packets, bytes: rx.bytes }, tx: { packets: tx.packets, bytes: tx.bytes } };
  };
  const ping = (count: number) =>
    ip('netns', 'exec', near, 'ping', '-q', '-i', '0.002', '-c', String(count), '-s', '700', '10.98.0.2');

  for (const kind of tcx ? (['tcx', 'tc'] as const) : (['tc'] as const)) {
    test(`${kind}: what the programs count at both ends is what the interfaces count; they come and go`, async () => {
      using object = loaded('knpt_in', 'knpt_out');
      const met: NetworkInterface[] = [];
      const set = attachments(object, kind === 'tcx', met);
      await set.poke();
      expect(set.status().targets).toEqual([]);
      addPair();
      await set.poke();
      expect(set.status()).toMatchObject({ links: 4, failed: [] });
      expect(met.map(({ name }) => name).sort()).toEqual(['knpv0', 'knpv1']);
      expect(new Set(met.map(({ netns }) => netns?.cookie)).size).toBe(2);
      setUp(); // attached before they carry anything
      const count = scaled(200, 20);
      ping(count);
      for (const [namespace, name, ifindex] of [
        [near, 'knpv0', NEAR],
        [far, 'knpv1', FAR],
      ] as const) {
        const { rx, tx } = statistics(namespace, name);
        expect(rx.packets).toBeGreaterThanOrEqual(count);
        expect(counted(object, ifindex, false)).toEqual(rx);
        expect(counted(object, ifindex, true)).toEqual(tx);
      }
      ip('-n', near, 'link', 'delete', 'knpv0');
      await pokeUntil(set, ({ links }) => links === 0, 'the interfaces to be forgotten');
      expect(set.status()).toMatchObject({ targets: [], counts: { attached: 2, failures: 0 } });
      await set.close();
    });
  }

  test('an interface that is replaced between two scans by one with its number', async (context) => {
    if (!tcx) return context.skip('this kernel has no tcx');
    using object = loaded('knpt_in', 'knpt_out');
    const set = attachments(object, true);
    addPair();
    await set.poke();
    ip('-n', near, 'link', 'delete', 'knpv0');
    addPair();
    setUp();
    await pokeUntil(
      set,
      ({ counts, links, pendingCloses }) => counts.attached === 4 && links === 4 && pendingCloses === 0,
      'the new ones to be attached to',
    );
    expect(set.status().counts).toMatchObject({ lost: 2, detached: 2, failures: 0 });
    const before = counted(object, NEAR, true).packets;
    ping(10);
    expect(counted(object, NEAR, true).packets - before).toBeGreaterThanOrEqual(10);
    await set.close();
    const after = counted(object, NEAR, true).packets;
    ping(10);
    expect(counted(object, NEAR, true).packets).toBe(after);
    ip('-n', near, 'link', 'delete', 'knpv0');
    return undefined;
  });

  test('XDP, generic: what the program counts is what the interface receives', async () => {
    using object = loaded('knpt_frame');
    const program = object.program('knpt_frame');
    const scanner = new InterfaceScanner({
      matches: (name) => name === 'knpv1',
      namespaces: 'all',
      links: 1,
      attach: ({ index, netns }) => [
        program.attachXdp({ ifindex: index, mode: 'generic', ...(netns && { netns }) }),
      ],
    });
    const set = new AttachmentSet({ ...BOUNDS, name: 'frames', scan: scanner.scan });
    addPair();
    await set.poke();
    setUp();
    ping(10);
    const { rx } = statistics(far, 'knpv1');
    expect(counted(object, FAR, false)).toEqual(rx);
    expect(rx.packets).toBeGreaterThanOrEqual(10);
    ip('-n', near, 'link', 'delete', 'knpv0');
    await pokeUntil(set, ({ links }) => links === 0, 'the interface to be forgotten');
    await set.close();
  });

  test('a namespace is told by its cookie: a path that leads to another by now is refused', async () => {
    using object = loaded('knpt_out');
    const path = `/run/netns/${far}`;
    const { cookie, interfaces } = await networkInterfaces(path, 100);
    expect(interfaces).toContainEqual({ index: 1, name: 'lo' });
    const program = object.program('knpt_out');
    const place = { ifindex: 1, direction: 'egress' as const };
    const filter = { ...place, handle: 78, priority: 4322 };
    const wrong = { path, cookie: cookie + 1n };
    expect(() => program.attachTc({ ...filter, netns: wrong })).toThrow(/\(ESTALE\)/);
    if (tcx) expect(() => program.attachTcx({ ...place, netns: wrong })).toThrow(/\(ESTALE\)/);
    program.attachTc({ ...filter, netns: { path, cookie } }).close();
    await expect(networkInterfaces('/proc/self/ns/none', 1)).rejects.toThrow(/\(ENOENT\)/);
    await expect(networkInterfaces(path, 0)).resolves.toMatchObject({ interfaces: [], more: true });
    // and this thread is where it was
    const own = await networkInterfaces(undefined, 1000);
    expect(own.cookie).not.toBe(cookie);
  });
});

describe('cgroups', () => {
  const group = (name: string) => `${cgroup2Mount()}/knp-set-${process.pid}-${name}`;
  const made = new Set<string>();
  const make = (name: string) => {
    mkdirSync(group(name));
    made.add(group(name));
  };
  const remove = (name: string) => {
    rmdirSync(group(name));
    made.delete(group(name));
  };
  afterAll(() => {
    for (const directory of made) rmdirSync(directory);
  });
  const dial = (name: string, times: number) => {
    const command = `echo $$ > ${group(name)}/cgroup.procs; for i in $(seq ${times}); do (exec 3<>/dev/tcp/127.0.0.1/1) 2>/dev/null; done; true`;
    spawnSync('bash', ['-c', command]);
  };

  test('that come and go: connections of the processes inside are counted while it is attached to', async () => {
    using object = loaded('knpt_connect');
    const program = object.program('knpt_connect');
    const scan = cgroupScan({
      root: cgroup2Mount(),
      matches: (path) => path.startsWith(`/knp-set-${process.pid}-`),
      links: 1,
      attach: ({ directory }) => [program.attachCgroup({ path: directory })],
    });
    const set = new AttachmentSet({ ...BOUNDS, name: 'groups', scan });
    const counted = (inode: bigint) => {
      const key = Buffer.alloc(8);
      key.writeBigUInt64LE(inode);
      return Number(object.map('cookies').lookup(key)?.readBigUInt64LE(0) ?? 0);
    };
    make('a');
    await set.poke();
    make('b');
    const [a, b] = ['a', 'b'].map((name) => statSync(group(name), { bigint: true }).ino) as [bigint, bigint];
    dial('a', 3);
    dial('b', 2);
    expect([counted(a), counted(b)]).toEqual([3, 0]);
    await set.poke();
    dial('a', 1);
    dial('b', 2);
    expect([counted(a), counted(b)]).toEqual([4, 2]);
    expect(set.status().targets.toSorted()).toEqual([
      `/knp-set-${process.pid}-a`,
      `/knp-set-${process.pid}-b`,
    ]);
    remove('a');
    await pokeUntil(set, ({ links }) => links === 1, 'the removed one to be forgotten');
    await set.close();
    dial('b', 5);
    expect(counted(b)).toBe(2);
    remove('b');
  });
});
