// Every kind of link: attaches, sees exactly what happened while it was attached, and nothing after it was closed.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Feature, KernelFeatures } from '../../../exporter/kernel/features.ts';
import {
  type BpfLink,
  type BpfObject,
  openObject,
  type ProgramDescription,
} from '../../../exporter/kernel/native.ts';
import { scaled } from '../../guests/scale.ts';
import {
  callGetppid,
  cgroup2Mount,
  compile,
  compileTarget,
  Driven,
  runChild,
  targetOffset,
  u32,
  u64,
} from './support.ts';

const features = new KernelFeatures();
const objectPath = compile('hooks');
const described = openObject(objectPath);
const programs: readonly ProgramDescription[] = described.programs;
described.close();
const only = (...names: string[]) =>
  Object.fromEntries(programs.map((p) => [p.name, names.includes(p.name)]));

function load(...names: string[]): BpfObject {
  const object = openObject(objectPath, { autoload: only(...names), rodata: { target_pid: process.pid } });
  object.load();
  return object;
}

const hits = (object: BpfObject, key: number) => u64(object.map('hits').lookup(u32(key)));

/** Skips, and says why, where this kernel refuses; in the guests nothing is refused. */
function testWith(needs: Feature[], name: string, run: () => void | Promise<void>): void {
  const missing = needs.map((need) => features.missing(need)).find((reason) => reason !== undefined);
  test.skipIf(missing !== undefined)(missing === undefined ? name : `${name} (skipped: ${missing})`, run);
}

describe('hooks named in SEC()', () => {
  const kernelHooks: [string, number, string, Feature[]][] = [
    ['knpt_raw_tp', 0, 'raw_tracepoint', []],
    ['knpt_tp_btf', 1, 'raw_tracepoint', ['tp_btf']],
    ['knpt_kprobe', 5, 'perf_event', ['kprobe']],
    ['knpt_kretprobe', 6, 'perf_event', ['kprobe']],
  ];
  for (const [name, key, type, needs] of kernelHooks) {
    testWith(needs, `${name} counts each call once, from attach to close`, () => {
      using object = load(name);
      callGetppid(100);
      expect(hits(object, key)).toBe(0);
      const link = object.program(name).attach();
      expect(link.info()?.type).toBe(type);
      callGetppid(1000);
      expect(hits(object, key)).toBe(1000);
      link.close();
      callGetppid(100);
      expect(hits(object, key)).toBe(1000);
    });
  }

  testWith(['fentry'], 'fentry and fexit', () => {
    using object = load('knpt_fentry', 'knpt_fexit');
    const links = [object.program('knpt_fentry').attach(), object.program('knpt_fexit').attach()];
    for (let i = 0; i < 5; i++) object.program('knpt_fentry').testRun();
    expect([hits(object, 3), hits(object, 4)]).toEqual([5, 5]);
    for (const link of links) link.close();
    object.program('knpt_fentry').testRun();
    expect([hits(object, 3), hits(object, 4)]).toEqual([5, 5]);
  });

  testWith(['lsm'], 'lsm', () => {
    using object = load('knpt_lsm');
    using link = object.program('knpt_lsm').attach();
    const folder = mkdtempSync('/dev/shm/knp-native-'); // one mkdir; on tmpfs, for an overlay makes several
    mkdirSync(`${folder}/a`);
    rmdirSync(`${folder}/a`);
    rmdirSync(folder);
    expect(hits(object, 7)).toBe(2);
    expect(link.info()?.type).toBe('tracing');
  });

  test('tracepoint, with tracefs mounted for this test alone', () => {
    const names = JSON.stringify(programs.map((p) => p.name));
    const mount = [
      'unshare',
      '--mount',
      'sh',
      '-c',
      'mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing; exec "$@"',
      'sh',
    ];
    const result = runChild('tracepoint', { prefix: mount, args: [objectPath, names] });
    expect(result).toEqual({ type: 'perf_event', count: 1000 });
  });

  testWith(['kprobe'], 'kprobe by name, with an error for a function that is not there', () => {
    using object = load('knpt_kprobe');
    const name = process.arch === 'arm64' ? '__arm64_sys_getppid' : '__x64_sys_getppid';
    using _link = object.program('knpt_kprobe').attachKprobe({ function: name });
    callGetppid(10);
    expect(hits(object, 5)).toBe(10);
    expect(() => object.program('knpt_kprobe').attachKprobe({ function: 'knpt_none' })).toThrow(
      /cannot attach program/,
    );
  });
});

describe('uprobes', () => {
  let first: Driven;
  let second: Driven;
  beforeAll(async () => {
    first = await Driven.start();
    second = await Driven.start();
  });
  afterAll(() => {
    first.stop();
    second.stop();
  });
  const path = compileTarget();
  const fileOffset = targetOffset;
  const cookies = (object: BpfObject) => {
    const { count, keys, values } = object.map('cookies').readAll();
    return Object.fromEntries(
      Array.from({ length: count }, (_, i) => [
        String(keys.readBigUInt64LE(i * 8)),
        Number(values.readBigUInt64LE(i * 8)),
      ]),
    );
  };

  test('by offset for one process and by symbol for all, each with its cookie', async () => {
    using object = load('knpt_uprobe');
    const program = object.program('knpt_uprobe');
    const links: BpfLink[] = [
      program.attachUprobe({ path, offset: fileOffset(), pid: first.pid, cookie: 1 }),
      program.attachUprobe({ path, symbol: 'knpt_target', cookie: 2n ** 64n - 1n }),
    ];
    expect(links[0]?.info()?.type).toBe('perf_event');
    await first.call(300);
    await second.call(50);
    expect(cookies(object)).toEqual({ 1: 300, '18446744073709551615': 350 });
    links[1]?.close();
    await first.call(7);
    expect(cookies(object)).toEqual({ 1: 307, '18446744073709551615': 350 });
  });

  // alone: on 6.12 a return probe with a pid sees every process in which somebody else probes the same place
  test('at the return, for one process', async () => {
    using object = load('knpt_uprobe');
    const target = { path, offset: BigInt(fileOffset()), pid: second.pid, retprobe: true, cookie: 3 };
    object.program('knpt_uprobe').attachUprobe(target);
    await first.call(300);
    await second.call(50);
    expect(cookies(object)).toEqual({ 3: 50 });
  });

  test('what cannot be attached says so', () => {
    using object = load('knpt_uprobe');
    const program = object.program('knpt_uprobe');
    expect(() => program.attachUprobe({ path: '/nonexistent', offset: 1 })).toThrow(
      /\/nonexistent.*\(ENOENT\)/,
    );
    expect(() => program.attachUprobe({ path, symbol: 'knpt_none' })).toThrow(
      /cannot attach program 'knpt_uprobe' to/,
    );
    expect(() => program.attachUprobe({ path })).toThrow('attachUprobe needs an offset or a symbol');
    expect(() => program.attachUprobe({ path, offset: -1 })).toThrow(/offset must be a whole number/);
    expect(() => program.attachUprobe({ path, offset: 0, pid: 1.5 })).toThrow(
      /pid must be an integer from 0/,
    );
    expect(() => program.attachUprobe({ path: '', offset: 0 })).toThrow(/must be a path/);
  });
});

describe('network hooks, in a namespace of their own', () => {
  const namespace = `knp-native-${process.pid}`;
  const inside = ['ip', 'netns', 'exec', namespace];
  const run = (...command: string[]) => execFileSync(command[0] as string, command.slice(1));
  beforeAll(() => {
    run('ip', 'netns', 'add', namespace);
    run(...inside, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    run(...inside, 'ip', 'link', 'add', 'knpt0', 'type', 'veth', 'peer', 'name', 'knpt1');
    for (const name of ['lo', 'knpt0', 'knpt1']) run(...inside, 'ip', 'link', 'set', name, 'up');
    run(...inside, 'ip', 'address', 'add', '10.99.0.1/24', 'dev', 'knpt0');
    run(...inside, 'ip', 'neigh', 'add', '10.99.0.2', 'lladdr', '02:00:00:00:00:02', 'dev', 'knpt0');
  });
  afterAll(() => {
    spawnSync('ip', ['netns', 'delete', namespace]);
  });

  test('tcx, tc, XDP and sk_lookup see every packet while attached, none after', () => {
    const results = runChild<Record<string, unknown>>('attach_net', {
      prefix: inside,
      args: [objectPath, '20'],
    });
    const exact = (type: string) => ({ type, open: 20, closed: 0 });
    const tcx = features.missing('attach:TCX_INGRESS') === undefined;
    expect(results).toEqual({
      tcx_egress: tcx ? exact('tcx') : expect.objectContaining({ code: 'EINVAL' }),
      tcx_ingress: tcx ? exact('tcx') : expect.objectContaining({ code: 'EINVAL' }),
      tc_egress: exact('none'),
      tc_ingress: exact('none'),
      tc_replaces: exact('none'),
      xdp_generic: exact('xdp'),
      xdp_driver: exact('xdp'),
      sk_lookup: exact('netns'),
    });
  });

  test('an interface that is not there, a wrong direction, a wrong mode', () => {
    using object = load('knpt_tc_egress', 'knpt_xdp');
    const program = object.program('knpt_tc_egress');
    expect(() => program.attachTcx({ ifindex: 999999, direction: 'egress' })).toThrow(
      /interface 999999: .*\(E[A-Z]+\)/,
    );
    const sideways = { ifindex: 1, direction: 'sideways' as 'egress' };
    expect(() => program.attachTcx(sideways)).toThrow(
      "direction must be 'ingress' or 'egress', not sideways",
    );
    const filter = { ifindex: 1, direction: 'egress' as const, handle: 0, priority: 1 };
    expect(() => program.attachTc(filter)).toThrow('handle must be an integer from 1 to 4294967295, not 0');
    const mode = { ifindex: 1, mode: 'fast' as 'generic' };
    expect(() => object.program('knpt_xdp').attachXdp(mode)).toThrow(/mode must be one of default, generic/);
  });
});

describe('cgroups', () => {
  const group = `${cgroup2Mount()}/knp-native-${process.pid}`;
  beforeAll(() => {
    mkdirSync(group);
  });
  afterAll(() => {
    rmdirSync(group);
  });

  test('connect4 is seen for processes inside only', () => {
    using object = load('knpt_connect4');
    const link = object.program('knpt_connect4').attachCgroup({ path: group });
    expect(link.info()?.type).toBe('cgroup');
    const dial = 'for i in 1 2 3; do (exec 3<>/dev/tcp/127.0.0.1/1) 2>/dev/null; done; true';
    spawnSync('bash', ['-c', dial]);
    expect(hits(object, 11)).toBe(0);
    spawnSync('bash', ['-c', `echo $$ > ${group}/cgroup.procs; ${dial}`]);
    expect(hits(object, 11)).toBe(3);
    link.close();
    spawnSync('bash', ['-c', `echo $$ > ${group}/cgroup.procs; ${dial}`]);
    expect(hits(object, 11)).toBe(3);
  });

  test('a path that is no cgroup', () => {
    using object = load('knpt_connect4');
    const program = object.program('knpt_connect4');
    expect(() => program.attachCgroup({ path: '/knp-nowhere' })).toThrow(/cgroup \/knp-nowhere.*\(ENOENT\)/);
    expect(() => program.attachCgroup({ path: '/tmp' })).toThrow(/cgroup \/tmp.*\(EBADF\)/);
  });
});

describe('netlink', () => {
  const NETLINK_ROUTE = 0;
  /** nlmsghdr and a family: RTM_GETLINK, or a type that there is not. */
  const request = (type: number, flags: number) => {
    const message = Buffer.alloc(20);
    message.writeUInt32LE(20, 0);
    message.writeUInt16LE(type, 4);
    message.writeUInt16LE(flags, 6);
    return message;
  };
  const [DUMP, LINKS] = [0x301, 18];

  test('the answer to a request passes the filter, all of it', () => {
    using object = load('knpt_netlink');
    const link = object.program('knpt_netlink').attachNetlink({ protocol: NETLINK_ROUTE, groups: 0 });
    const datagrams = link.request(request(LINKS, DUMP));
    expect(datagrams).toBeGreaterThan(0);
    expect(hits(object, 13)).toBe(datagrams);
    expect(link.request(request(LINKS, DUMP))).toBe(datagrams);
    expect(link.info()).toBeUndefined();
    link.close();
    link.close();
    expect(() => link.request(request(LINKS, DUMP))).toThrow('the BPF link is closed');
  });

  test('what the kernel refuses is an error, also cut to its head', () => {
    using object = load('knpt_netlink');
    const program = object.program('knpt_netlink');
    const link = program.attachNetlink({ protocol: NETLINK_ROUTE, groups: 0 });
    expect(() => link.request(request(0x7ffe, 1))).toThrow(/refuses the netlink request.*ENOTSUP/);
    expect(() => link.read()).toThrow('only an iterator can be read');
    expect(() => program.attachNetlink({ protocol: 31, groups: 0 })).toThrow(/EPROTONOSUPPORT/);
    expect(() => program.attachNetlink({ protocol: 32, groups: 0 })).toThrow('protocol must be an integer');
  });

  test('other links take no request', () => {
    using object = load('knpt_connect4');
    const link = object.program('knpt_connect4').attachCgroup({ path: cgroup2Mount() });
    expect(() => link.request(request(LINKS, DUMP))).toThrow('only a netlink socket can be asked');
  });
});

describe('iterators', () => {
  const path = compile('iterators');
  const loaded = (program: string, pid = 0): BpfObject => {
    const autoload = { knpt_elements: false, knpt_tasks: false, [program]: true };
    const object = openObject(path, { autoload, rodata: { target_pid: pid } });
    object.load();
    return object;
  };

  testWith(
    ['iter:bpf_map_elem'],
    'over the elements of the map that it was attached with, more than once, in one buffer',
    () => {
      using object = loaded('knpt_elements');
      const map = object.map('walked');
      const count = scaled(50_000);
      const keys = Buffer.alloc(count * 4);
      const values = Buffer.alloc(count * 8);
      for (let i = 0; i < count; i++) {
        keys.writeUInt32LE(i, i * 4);
        values.writeBigUInt64LE(BigInt(i) * 3n, i * 8);
      }
      map.updateMany(keys, values, count);
      using link = object.program('knpt_elements').attachIterator({ map });
      expect(link.info()?.type).toBe('iter');
      for (let pass = 0; pass < 2; pass++) {
        const out = link.read();
        expect(out.length).toBe(count * 16);
        const seen = new Map<number, number>();
        for (let at = 0; at < out.length; at += 16)
          seen.set(out.readUInt32LE(at), Number(out.readBigUInt64LE(at + 8)));
        expect(seen.size).toBe(count);
        expect([...seen].every(([key, value]) => value === key * 3)).toBe(true);
      }
      expect(link.read({ maxBytes: count * 16 }).length).toBe(count * 16);
      expect(() => link.read({ maxBytes: count * 16 - 1 })).toThrow('(EFBIG)');
      expect(() => link.read({ maxBytes: 1000 })).toThrow(/reading the iterator failed: .*\(EFBIG\)/);
      expect(() => object.program('knpt_elements').attachIterator()).toThrow(/as an iterator/);
    },
  );

  test('over tasks, all and of one process', async () => {
    using object = loaded('knpt_tasks', process.pid);
    using link = object.program('knpt_tasks').attachIterator();
    const mine = link.read();
    const threads = execFileSync('sh', ['-c', `ls /proc/${process.pid}/task | wc -l`], { encoding: 'utf8' });
    expect(mine.length / 4).toBe(Number(threads));
    expect(mine.readUInt32LE(0)).toBe(process.pid);
  });

  testWith(['kernel:6.1'], 'of one process by the attach option', () => {
    using object = loaded('knpt_tasks');
    using link = object.program('knpt_tasks').attachIterator({ pid: process.pid });
    const out = link.read();
    const pids = new Set(Array.from({ length: out.length / 4 }, (_, i) => out.readUInt32LE(i * 4)));
    expect([...pids]).toEqual([process.pid]);
  });
});
