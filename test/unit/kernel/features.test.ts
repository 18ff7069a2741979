// What the preflight says on machines that this one is not: each cause gives one sentence that says what to do.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type KernelAccess, KernelFeatures } from '../../../exporter/kernel/features.ts';

const ALL_CAPABILITIES = 'CapEff:\t000001ffffffffff\n';

/** A machine on which everything is there, but for what is given. */
function machine(
  files: Record<string, string | undefined>,
  access: Partial<KernelAccess> = {},
): KernelFeatures {
  return new KernelFeatures({
    release: () => '6.12.48+deb13-amd64',
    readText: (path) => ({ '/proc/self/status': ALL_CAPABILITIES, ...files })[path],
    btf: () => readFileSync('/sys/kernel/btf/vmlinux'),
    tryProgram: () => ({ stage: 'ok', code: '', log: '' }),
    tryKprobe: () => '',
    hasMapType: () => true,
    ...access,
  });
}

describe('preflight', () => {
  test('a machine that has everything', () => {
    expect(machine({}).preflight()).toBeUndefined();
  });

  test('kernel releases at the boundary', () => {
    const at = (release: string) => machine({}, { release: () => release }).preflight();
    expect(at('5.10.0-32-amd64')).toEqual({
      code: 'kernel_too_old',
      sentence:
        "Linux 5.10.0-32-amd64 is too old: KubeNetProbe needs Linux 5.15 or newer; upgrade this machine's kernel.",
    });
    for (const release of ['5.14.21', '4.19.0', '3.10.0-1160.el7.x86_64'])
      expect(at(release)?.code).toBe('kernel_too_old');
    for (const release of ['5.15.0-91-generic', '5.15', '6.1.0-13', '7.3.0', '10.0'])
      expect(at(release)).toBeUndefined();
  });

  test('an old kernel is told before anything else, for no privilege would help', () => {
    const files = { '/proc/self/status': 'CapEff:\t0000000000000000\n' };
    expect(machine(files, { release: () => '5.10.0' }).preflight()?.code).toBe('kernel_too_old');
  });

  test('no type information: absent, and not what it should be', () => {
    const absent = () => {
      throw new Error('ENOENT');
    };
    for (const btf of [
      absent,
      () => Buffer.alloc(0),
      () => Buffer.from('garbage that is long enough to have a header'),
    ]) {
      const problem = machine({}, { btf }).preflight();
      expect(problem?.code).toBe('no_btf');
      expect(problem?.sentence).toMatch(
        /no type information in \/sys\/kernel\/btf\/vmlinux.*CONFIG_DEBUG_INFO_BTF=y/,
      );
    }
  });

  test('lockdown: confidentiality forbids, integrity does not', () => {
    const path = '/sys/kernel/security/lockdown';
    const problem = machine({ [path]: 'none integrity [confidentiality]\n' }).preflight();
    expect(problem?.code).toBe('lockdown');
    expect(problem?.sentence).toMatch(
      /confidentiality mode.*boot it with lockdown=integrity or without lockdown\.$/,
    );
    expect(machine({ [path]: 'none [integrity] confidentiality\n' }).preflight()).toBeUndefined();
  });

  test('lockdown is found by trying where securityfs is not mounted', () => {
    const log = 'program of this type cannot use helper bpf_probe_read_kernel#113';
    const tryProgram: KernelAccess['tryProgram'] = ({ target }) =>
      target === undefined ? { stage: 'load', code: 'EINVAL', log } : { stage: 'ok', code: '', log: '' };
    expect(machine({}, { tryProgram }).preflight()?.code).toBe('lockdown');
  });

  test('bpf() forbidden by a seccomp profile although the capabilities are there', () => {
    const tryProgram: KernelAccess['tryProgram'] = () => ({ stage: 'load', code: 'EPERM', log: '' });
    expect(machine({}, { tryProgram }).preflight()).toEqual({
      code: 'bpf_refused',
      sentence:
        "The kernel refuses a minimal BPF program although the capabilities are there (the kernel refuses to load tp_btf programs (EPERM)): allow the bpf() system call in the container's seccomp profile and in the security modules.",
    });
  });

  test('every sentence is one', () => {
    const problems = [
      machine({}, { release: () => '5.10.0' }),
      machine({ '/proc/self/status': 'CapEff:\t0000000000000000\n' }),
      machine({ '/proc/self/status': 'CapEff:\t0000000000001000\n' }),
      machine({ '/sys/kernel/security/lockdown': 'none integrity [confidentiality]' }),
      machine({}, { btf: () => Buffer.alloc(3) }),
    ].map((m) => m.preflight()?.sentence ?? '');
    for (const sentence of problems) expect(sentence).toMatch(/^[A-Z][^\n]*[^.]\.$/);
  });
});

describe('features', () => {
  test('lsm needs bpf among the active modules', () => {
    const path = '/sys/kernel/security/lsm';
    expect(machine({ [path]: 'lockdown,capability,apparmor' }).missing('lsm')).toMatch(
      /bpf is not among the active/,
    );
    expect(machine({ [path]: 'capability,bpf\n' }).missing('lsm')).toBeUndefined();
  });

  test('kprobes need the event source and permission', () => {
    const path = '/sys/bus/event_source/devices/kprobe/type';
    expect(machine({}).missing('kprobe')).toBe('this kernel was built without kprobes');
    expect(machine({ [path]: '8\n' }).missing('kprobe')).toBeUndefined();
    expect(machine({ [path]: '8\n' }, { tryKprobe: () => 'EPERM' }).missing('kprobe')).toBe(
      'the kernel refuses kprobes (EPERM)',
    );
  });

  test('an iterator that may crash the kernel is not even tried', () => {
    let tries = 0;
    const tryProgram: KernelAccess['tryProgram'] = () => {
      tries++;
      return { stage: 'ok', code: '', log: '' };
    };
    const sockets = 'iter:bpf_sk_storage_map';
    expect(machine({}, { tryProgram, release: () => '7.3.4+deb13-amd64' }).missing(sockets)).toMatch(
      /may crash the kernel/,
    );
    expect(tries).toBe(0);
    expect(machine({}, { tryProgram }).missing(sockets)).toBeUndefined();
    expect(tries).toBe(1);
  });

  test('each is found out once', () => {
    let tries = 0;
    const tryProgram: KernelAccess['tryProgram'] = () => {
      tries++;
      return { stage: 'attach', code: 'EPERM', log: '' };
    };
    const features = machine({}, { tryProgram });
    for (let i = 0; i < 3; i++) {
      expect(features.missing('fentry')).toBe('the kernel refuses to attach fentry programs (EPERM)');
    }
    expect(tries).toBe(1);
  });

  test('names are looked up in the running kernel', () => {
    const features = machine({});
    expect(features.missing('tracepoint:inet_sock_set_state')).toBeUndefined();
    expect(features.missing('tracepoint:no_such')).toBe('this kernel has no tracepoint no_such');
    expect(features.missing('helper:bpf_map_lookup_elem')).toBeUndefined();
    expect(features.missing('helper:bpf_no_such')).toBe('this kernel has no BPF helper bpf_no_such');
    expect(features.missing('function:tcp_sendmsg')).toBeUndefined();
    expect(features.missing('kfunc:no_such')).toBe('this kernel has no kfunc no_such');
    expect(features.missing('attach:NO_SUCH')).toBe('this kernel has no attachment of type NO_SUCH');
    expect(features.missing('kernel:6.13')).toBe('it needs Linux 6.13 and this is 6.12.48+deb13-amd64');
    expect(features.missing('kernel:6.12')).toBeUndefined();
    expect(() => features.missing('fentri:x' as 'fentry')).toThrow('no such kernel feature');
  });
});
