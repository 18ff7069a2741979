// The loader on the running kernel: alternatives that are refused in every way there is, shared maps, accounts; and the
// preflight as processes with fewer privileges see it.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { BpfLoader, type ProbeDefinition, ProbeError } from '../../../exporter/kernel/loader.ts';
import { enableBpfStats, openObject } from '../../../exporter/kernel/native.ts';
import { bpftool, callGetppid, compile, OBJECTS, programIds, u32, u64, until } from './support.ts';

const SHARED = ['shared_here', 'shared_there'];
const TAIL_CALLS = ['tail_caller', 'tail_callee'];

beforeAll(() => {
  for (const name of ['alternatives', 'maps', 'ring', ...SHARED, ...TAIL_CALLS]) compile(name);
});

let loader: BpfLoader;
const fresh = (features?: KernelFeatures) => {
  loader = new BpfLoader({ directory: OBJECTS, ...(features && { features }) });
  return loader;
};
afterEach(() => loader?.close());

const definition = (
  programs: ProbeDefinition['programs'],
  rest: Partial<ProbeDefinition> = {},
): ProbeDefinition => ({
  object: 'alternatives',
  programs,
  rodata: { target_pid: process.pid },
  ...rest,
});
const alternatives = (...programs: (string | string[])[]) => programs.map((program) => ({ program }));

describe('alternatives', () => {
  test('the first that this kernel takes is used, and every other has a sentence', async () => {
    const before = programIds('knpt_works_too', 'knpt_unsafe', 'knpt_no_attach');
    const probe = fresh().load(
      definition([
        {
          purpose: 'calls',
          alternatives: [
            { program: 'knpt_no_target', needs: ['tracepoint:knpt_no_such_tracepoint'] },
            ...alternatives(
              'knpt_unsafe',
              'knpt_no_target',
              ['knpt_works_too', 'knpt_no_attach'],
              'knpt_works',
            ),
            { program: 'knpt_works_too' },
          ],
        },
      ]),
    );
    const [choice] = probe.choices;
    expect(choice).toMatchObject({ purpose: 'calls', programs: ['knpt_works'], hooks: ['raw_tp/sys_enter'] });
    expect(choice?.skipped.map((s) => s.reason)).toEqual([
      'knpt_no_target is not used: this kernel has no tracepoint knpt_no_such_tracepoint.',
      expect.stringMatching(
        /^knpt_unsafe is not used: the kernel refuses to load it \(EACCES: .*map_value_or_null.*\)\.$/,
      ),
      expect.stringMatching(/^knpt_no_target is not used: the kernel refuses to load it \(E[A-Z]+: .*\)\.$/),
      expect.stringMatching(
        /^knpt_works_too \+ knpt_no_attach is not used: the kernel refuses to attach it \(E[A-Z]+/,
      ),
      'knpt_works_too is not needed: knpt_works works.',
    ]);
    callGetppid(100);
    // once: what was attached of the alternative that was given up half-way is gone
    expect(u64(probe.map('shared').lookup(u32(0)))).toBe(100);
    expect([...probe.links.keys()]).toEqual(['knpt_works']);
    const others = () => programIds('knpt_works_too', 'knpt_unsafe', 'knpt_no_attach');
    await until(() => others().every((id) => before.includes(id)), 'the others to be freed');
  });

  test('every purpose has its own choice; optional ones may have none; manual ones are left to the probe', () => {
    const probe = fresh().load(
      definition([
        { purpose: 'calls', alternatives: alternatives('knpt_unsafe', 'knpt_works') },
        { purpose: 'extra', alternatives: alternatives('knpt_no_attach'), optional: true },
        { purpose: 'late', alternatives: [{ program: 'knpt_works_too', attach: 'manual' }] },
      ]),
    );
    expect(probe.choices.map((c) => c.programs)).toEqual([['knpt_works'], [], ['knpt_works_too']]);
    expect([...probe.links.keys()]).toEqual(['knpt_works']);
    callGetppid(10);
    expect(u64(probe.map('shared').lookup(u32(0)))).toBe(10);
    probe.program('knpt_works_too').attach();
    callGetppid(10);
    expect(u64(probe.map('shared').lookup(u32(0)))).toBe(30);
  });

  test('nothing left: one error with all reasons, nothing loaded', async () => {
    const before = programIds('knpt_no_attach', 'knpt_unsafe');
    const load = () =>
      fresh().load(
        definition([{ purpose: 'calls', alternatives: alternatives('knpt_unsafe', 'knpt_no_attach') }]),
      );
    expect(load).toThrow(ProbeError);
    expect(load).toThrow(
      /^Probe alternatives cannot run on this kernel: nothing is left for its calls\. knpt_unsafe is not used: .*\. knpt_no_attach is not used: the kernel refuses to attach/,
    );
    expect(loader.probes).toEqual([]);
    await until(
      () => programIds('knpt_no_attach', 'knpt_unsafe').length === before.length,
      'programs to be freed',
    );
  });

  test('fentry by trying, with the reason where this kernel refuses it', () => {
    const missing = new KernelFeatures().missing('fentry');
    const purpose = {
      purpose: 'entry',
      alternatives: [{ program: 'knpt_entry', needs: ['fentry' as const] }, { program: 'knpt_works' }],
    };
    const [choice] = fresh().load(definition([purpose])).choices;
    expect(choice?.programs).toEqual([missing === undefined ? 'knpt_entry' : 'knpt_works']);
    if (missing !== undefined) expect(choice?.skipped[0]?.reason).toBe(`knpt_entry is not used: ${missing}.`);
  });

  test('maps are filled before anything is attached', () => {
    const seen: number[] = [];
    const probe = fresh().load(
      definition([{ purpose: 'calls', alternatives: alternatives('knpt_no_attach', 'knpt_works') }], {
        prepare: (object) => {
          callGetppid(5);
          seen.push(object.map('shared').readAll().count);
          object.map('shared').update(u32(0), Buffer.from('e803000000000000', 'hex'));
        },
      }),
    );
    expect(seen).toEqual([0, 0]); // once for each attempt
    callGetppid(5);
    expect(u64(probe.map('shared').lookup(u32(0)))).toBe(1005);
  });

  test('definitions that do not fit the object, and objects that are not there', () => {
    const wrong = definition([{ purpose: 'x', alternatives: alternatives('knpt_misspelt') }]);
    expect(() => fresh().load(wrong)).toThrow("has no program 'knpt_misspelt'");
    expect(() => fresh().load({ object: 'nowhere', programs: [] })).toThrow(
      /^Probe nowhere is not built: there is no/,
    );
  });
});

describe('shared maps', () => {
  const calls = [{ purpose: 'calls', alternatives: alternatives('knpt_works') }];
  const shares = ['shared'];
  test('a map that is declared shared is one map; the sum of what both count is in it', () => {
    const first = fresh().load(definition(calls));
    const second = loader.load(
      definition(calls, { rodata: { target_pid: process.pid, mark: 1 }, shares, privateMaps: ['seen'] }),
    );
    expect(second.map('shared').id).toBe(first.map('shared').id);
    expect(second.map('seen').id).not.toBe(first.map('seen').id);
    callGetppid(10);
    expect(u64(first.map('shared').lookup(u32(0)))).toBe(10);
    expect(u64(first.map('shared').lookup(u32(1)))).toBe(10);
    // the map outlives the probe that came first, and those that come later still find it
    const { id } = first.map('shared');
    first.close();
    const third = loader.load(
      definition(calls, { rodata: { target_pid: process.pid, mark: 2 }, shares, privateMaps: ['seen'] }),
    );
    expect(third.map('shared').id).toBe(id);
    callGetppid(10);
    expect(u64(third.map('shared').lookup(u32(1)))).toBe(20);
    expect(u64(third.map('shared').lookup(u32(2)))).toBe(10);
    expect(loader.mapUsage().filter((m) => m.map === 'shared')).toEqual([
      { map: 'shared', type: 'hash', entries: 3, capacity: 100 },
    ]);
  });
});

describe('maps of the same name', () => {
  const there = { object: 'shared_there', programs: [] };
  const here = (rest: Partial<ProbeDefinition>) => ({ object: 'shared_here', programs: [], ...rest });

  test('laid out alike they are shared, whatever their structs are called', () => {
    const first = fresh().load(there);
    const second = loader.load(here({ shares: ['alike'], privateMaps: ['different'] }));
    expect(second.map('alike').id).toBe(first.map('alike').id);
    expect(second.map('different').id).not.toBe(first.map('different').id);
  });

  test('equal in size and not in layout is an error that says where', () => {
    fresh().load(there);
    const load = () => loader.load(here({ shares: ['alike', 'different'] }));
    expect(load).toThrow(ProbeError);
    expect(load).toThrow(
      'The BPF object shared_here (here) shares the map different of shared_there (there), but they differ: member 1 of value is first here and second there.',
    );
    expect(loader.probes.map(({ name }) => name)).toEqual(['shared_there']);
  });

  test('equal by accident is an error, and so is what nobody has', () => {
    fresh().load(there);
    expect(() => loader.load(here({ shares: ['alike'] }))).toThrow(
      'The BPF object shared_here and shared_there both have a map different, and it is not said whether they share it.',
    );
    expect(() => loader.load(here({ shares: ['misspelt'] }))).toThrow(
      'The BPF object shared_here is said to share the map misspelt, which it does not have.',
    );
    expect(() => fresh().load(here({ shares: ['alike'] }))).toThrow(
      'The BPF object shared_here shares the map alike, which no loaded object has.',
    );
  });
});

describe('tail calls between objects', () => {
  const caller: ProbeDefinition = {
    object: 'tail_caller',
    programs: [{ purpose: 'calls', alternatives: alternatives('knpt_caller') }],
    rodata: { target_pid: process.pid },
  };
  const callee = (program: string): ProbeDefinition => ({
    object: 'tail_callee',
    programs: [],
    shares: ['counts'],
    tailCalls: [{ array: 'calls', index: 2, program }],
  });

  test('the program is called while its object is open, and the slot is empty before and after', () => {
    const counts = fresh().load(caller).map('counts');
    const seen = () => [u64(counts.lookup(u32(0))), u64(counts.lookup(u32(1)))];
    callGetppid(5);
    expect(seen()).toEqual([5, 0]);
    const called = loader.load(callee('knpt_callee'));
    expect(called.links.size).toBe(0); // called, not attached
    callGetppid(7);
    expect(seen()).toEqual([5, 7]);
    called.close();
    callGetppid(3);
    expect(seen()).toEqual([8, 7]);
  });

  test('a program of another prototype is refused, and its object alone is off', () => {
    const counts = fresh().load(caller).map('counts');
    expect(() => loader.load(callee('knpt_stranger'))).toThrow(
      /^Probe tail_callee cannot run on this kernel: it refuses knpt_stranger in calls \(EINVAL\)\.$/,
    );
    expect(loader.probes.map(({ name }) => name)).toEqual(['tail_caller']);
    callGetppid(4);
    expect(u64(counts.lookup(u32(0)))).toBe(4);
  });

  test('without the array there is nothing to be called from', () => {
    expect(() => fresh().load({ ...callee('knpt_callee'), shares: [] })).toThrow(
      'Probe tail_callee has a program for calls, and no loaded object has such an array.',
    );
  });
});

describe('accounts', () => {
  test('run time and count per program are those that bpftool reads', () => {
    using _stats = enableBpfStats();
    const probe = fresh().load(definition([{ purpose: 'calls', alternatives: alternatives('knpt_works') }]));
    callGetppid(1000);
    probe.links.get('knpt_works')?.close();
    const [usage] = loader.programUsage();
    const seen = bpftool<{ run_cnt: number; run_time_ns: number }>('prog', 'show', 'id', String(usage?.id));
    expect(usage).toMatchObject({ probe: 'alternatives', program: 'knpt_works' });
    expect(usage?.runCount).toBeGreaterThanOrEqual(1000);
    expect([usage?.runCount, usage?.runTimeNs]).toEqual([seen.run_cnt, seen.run_time_ns]);
  });

  test('fill of maps', () => {
    const maps = fresh().load({ object: 'maps', programs: [] });
    maps.map('plain').updateMany(Buffer.concat([u32(1), u32(2), u32(3)]), Buffer.alloc(48), 3);
    const usage = Object.fromEntries(loader.mapUsage().map((m) => [m.map, [m.entries, m.capacity]]));
    expect(usage).toMatchObject({
      plain: [3, 20000],
      per_cpu: [0, 20000],
      flat: [1000, 1000],
      prefixes: [0, 5000],
    });
    expect(Object.keys(usage).some((name) => name.includes('rodata'))).toBe(false);
    loader.load({ object: 'ring', programs: [] });
    expect(loader.mapUsage().find((m) => m.map === 'events')).toMatchObject({
      type: 'ringbuf',
      entries: undefined,
    });
  });
});

describe('preflight', () => {
  const script = fileURLToPath(new URL('./children/preflight.ts', import.meta.url));
  const as = (...setpriv: string[]) => {
    const result = spawnSync('setpriv', [...setpriv, process.execPath, script], { encoding: 'utf8' });
    if (result.status !== 0) throw new Error(result.stderr);
    return JSON.parse(result.stdout);
  };

  test('as root nothing is in the way', () => {
    expect(new KernelFeatures().preflight()).toBeUndefined();
  });

  test('without root', () => {
    expect(as('--reuid=65534', '--regid=65534', '--clear-groups')).toEqual({
      code: 'no_root',
      sentence: 'KubeNetProbe may not use BPF as this user: run it as root, for example with sudo.',
    });
  });

  test('with one capability or several missing', () => {
    const drop = (list: string) => as(`--bounding-set=${list}`, `--inh-caps=${list}`);
    expect(drop('-net_admin')).toEqual({
      code: 'missing_capability',
      sentence:
        'This process lacks CAP_NET_ADMIN: run it as root, or add this capability to its container or service.',
    });
    expect(drop('-sys_admin,-bpf,-perfmon').sentence).toBe(
      'This process lacks CAP_BPF, CAP_PERFMON: run it as root, or add these capabilities to its container or service.',
    );
    // CAP_SYS_ADMIN stands for both
    expect(drop('-bpf,-perfmon')).toBeNull();
  });

  test('and nothing can be loaded then: the error says EPERM', () => {
    const code = `
      const { openObject } = await import(${JSON.stringify(new URL('../../../exporter/kernel/native.ts', import.meta.url))});
      try { openObject(${JSON.stringify(compile('ring'))}).load(); } catch (error) { process.stdout.write(error.code); }`;
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
    const node = [process.execPath, '--input-type=module', '-e', code];
    expect(spawnSync('setpriv', [...nobody, ...node], { encoding: 'utf8' }).stdout).toBe('EPERM');
  });
});

afterAll(() => {
  using object = openObject(compile('alternatives')); // still opens after all that
  expect(object.closed).toBe(false);
});
