// What the running kernel allows, found out by looking at its type information and by really trying; and the preflight,
// which turns what makes the agent impossible here into one sentence that says what to do. Called by loader.ts and doctor.
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { Btf } from './btf.ts';
import { hasMapType, kernelBtf, type TryResult, tryKprobe, tryProgram } from './native.ts';

/**
 * Something that an alternative needs:
 * - `fentry`, `lsm`, `kprobe`, `tp_btf`: programs of this kind load and attach
 * - `iter:NAME` (`bpf_sk_storage_map`): an iterator of this kind loads, and is safe to run
 * - `tracefs`: /sys/kernel/tracing is mounted, which plain tracepoints need
 * - `tracepoint:NAME`, `function:NAME`: exists; functions with type information only
 * - `helper:bpf_NAME`, `kfunc:NAME`, `map:NAME` (`ringbuf`), `attach:NAME` (`TCX_INGRESS`): the kernel knows it
 * - `kernel:MAJOR.MINOR`: at least this release
 */
export type Feature =
  | 'fentry'
  | 'lsm'
  | 'kprobe'
  | 'tp_btf'
  | 'tracefs'
  | `iter:${string}`
  | `tracepoint:${string}`
  | `function:${string}`
  | `helper:bpf_${string}`
  | `kfunc:${string}`
  | `map:${string}`
  | `attach:${string}`
  | `kernel:${number}.${number}`;

/** Where the facts come from; replaced in tests. */
export interface KernelAccess {
  release(): string;
  /** Contents of a file of /proc or /sys; undefined where it cannot be read. */
  readText(path: string): string | undefined;
  btf(): Uint8Array;
  tryProgram(options: Parameters<typeof tryProgram>[0]): TryResult;
  tryKprobe(pmuType: number, kernelFunction: string): string;
  hasMapType(type: number): boolean;
}

const REAL: KernelAccess = {
  release,
  readText(path) {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined; // absent or forbidden: the caller words what that means
    }
  },
  btf: kernelBtf,
  tryProgram,
  tryKprobe,
  hasMapType,
};

/** Oldest kernel: tracing programs with socket storage came with 5.11, and 5.15 is the first long-term release after. */
const MINIMUM = [5, 15] as const;

/**
 * From here on the iterator over socket storage is not trusted: `__bpf_sk_storage_map_seq_show` was seen to follow a null
 * pointer on 7.3.4, a panic, while connections were closing. On 6.x it never was.
 */
const UNSAFE_STORAGE_ITERATOR = [7, 0] as const;

/** Bits of capabilities(7) that the agent needs, and what for. CAP_SYS_ADMIN stands for BPF and PERFMON. */
const CAPABILITIES = [
  { name: 'CAP_BPF', bit: 39n, or: 21n },
  { name: 'CAP_PERFMON', bit: 38n, or: 21n },
  { name: 'CAP_NET_ADMIN', bit: 12n },
] as const;

// r0 = 0; exit
const RETURN_ZERO = Buffer.from('b7000000000000009500000000000000', 'hex');

// bpf_probe_read_kernel(r10 - 8, 8, NULL); r0 = 0; exit
const READ_KERNEL = Buffer.concat([
  Buffer.from('bfa100000000000007010000f8ffffffb702000008000000b7030000000000008500000071000000', 'hex'),
  RETURN_ZERO,
]);

/** What would make the agent impossible here. `code` is stable, `sentence` says what to do. */
export interface PreflightProblem {
  readonly code: 'kernel_too_old' | 'no_root' | 'missing_capability' | 'no_btf' | 'lockdown' | 'bpf_refused';
  readonly sentence: string;
}

/** Facts about this kernel, each found out once and remembered. */
export class KernelFeatures {
  readonly #access: KernelAccess;
  readonly #known = new Map<Feature, string | undefined>();
  #btf: Btf | undefined;

  constructor(access: Partial<KernelAccess> = {}) {
    this.#access = { ...REAL, ...access };
  }

  get release(): string {
    return this.#access.release();
  }

  /** The kernel's own type information. Throws KernelError where there is none. */
  get btf(): Btf {
    this.#btf ??= new Btf(this.#access.btf());
    return this.#btf;
  }

  /** Undefined where the feature is there, else why not, as the rest of a sentence that began with the alternative. */
  missing(feature: Feature): string | undefined {
    if (!this.#known.has(feature)) this.#known.set(feature, this.#find(feature));
    return this.#known.get(feature);
  }

  /** Capabilities of this process that are effective, as bits. */
  get capabilities(): bigint {
    const status = this.#access.readText('/proc/self/status') ?? '';
    return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  }

  /** `none`, `integrity` or `confidentiality`. */
  get lockdown(): string {
    const text = this.#access.readText('/sys/kernel/security/lockdown');
    return /\[(\w+)\]/.exec(text ?? '')?.[1] ?? 'none';
  }

  /** The first thing that makes the agent impossible here, or undefined. Cheap causes are looked at first. */
  preflight(): PreflightProblem | undefined {
    return (
      this.#tooOld() ??
      this.#unprivileged() ??
      this.#withoutBtf() ??
      this.#lockedDown() ??
      this.#refused() ??
      undefined
    );
  }

  #tooOld(): PreflightProblem | undefined {
    if (this.#atLeast(...MINIMUM)) return undefined;
    return {
      code: 'kernel_too_old',
      sentence: `Linux ${this.release} is too old: KubeNetProbe needs Linux ${MINIMUM.join('.')} or newer; upgrade this machine's kernel.`,
    };
  }

  #unprivileged(): PreflightProblem | undefined {
    const held = this.capabilities;
    const has = (bit: bigint) => ((held >> bit) & 1n) === 1n;
    const lacking = CAPABILITIES.filter((c) => !has(c.bit) && !('or' in c && has(c.or))).map((c) => c.name);
    if (lacking.length === 0) return undefined;
    if (held === 0n) {
      return {
        code: 'no_root',
        sentence: 'KubeNetProbe may not use BPF as this user: run it as root, for example with sudo.',
      };
    }
    const names = lacking.join(', ');
    return {
      code: 'missing_capability',
      sentence: `This process lacks ${names}: run it as root, or add ${lacking.length > 1 ? 'these capabilities' : 'this capability'} to its container or service.`,
    };
  }

  #withoutBtf(): PreflightProblem | undefined {
    try {
      if (this.btf.count > 0) return undefined;
    } catch {
      // no file, or not what it should be: the sentence is the same
    }
    return {
      code: 'no_btf',
      sentence:
        'This kernel has no type information in /sys/kernel/btf/vmlinux: mount sysfs if it is not, else use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as current distributions ship.',
    };
  }

  #lockedDown(): PreflightProblem | undefined {
    // securityfs is often not mounted in containers, so ask the kernel too
    if (this.lockdown !== 'confidentiality' && this.#mayReadKernel()) return undefined;
    return {
      code: 'lockdown',
      sentence:
        'The kernel is locked down in confidentiality mode, in which BPF programs may not read kernel memory: boot it with lockdown=integrity or without lockdown.',
    };
  }

  #mayReadKernel(): boolean {
    const type = this.#number('bpf_prog_type', 'BPF_PROG_TYPE_RAW_TRACEPOINT');
    if (type === undefined) return true;
    const result = this.#access.tryProgram({ type, instructions: READ_KERNEL });
    // a kernel that refuses every program is worded by #refused
    return (
      result.stage === 'ok' || !/bpf_probe_read_kernel#113|cannot use helper|unknown func/.test(result.log)
    );
  }

  #refused(): PreflightProblem | undefined {
    const reason = this.missing('tp_btf');
    if (reason === undefined) return undefined;
    return {
      code: 'bpf_refused',
      sentence: `The kernel refuses a minimal BPF program although the capabilities are there (${reason}): allow the bpf() system call in the container's seccomp profile and in the security modules.`,
    };
  }

  #atLeast(major: number, minor: number): boolean {
    const [, a, b] = /^(\d+)\.(\d+)/.exec(this.release) ?? [];
    return Number(a) > major || (Number(a) === major && Number(b) >= minor);
  }

  #find(feature: Feature): string | undefined {
    const [kind, name = ''] = feature.split(/:(.*)/s) as [string, string?];
    switch (kind) {
      case 'fentry':
        // a function that exists to be attached to
        return this.#try('fentry', 'BPF_TRACE_FENTRY', 'bpf_fentry_test1');
      case 'tp_btf':
        return this.#try('tp_btf', 'BPF_TRACE_RAW_TP', 'sched_process_exit');
      case 'iter':
        if (name === 'bpf_sk_storage_map' && this.#atLeast(...UNSAFE_STORAGE_ITERATOR))
          return `from Linux ${UNSAFE_STORAGE_ITERATOR.join('.')} on it may crash the kernel when a socket closes meanwhile`;
        return this.#try(`iter/${name}`, 'BPF_TRACE_ITER', name, { attach: false });
      case 'lsm':
        return this.#tryLsm();
      case 'kprobe':
        return this.#tryKprobe();
      case 'tracefs':
        return this.#tracefs();
      case 'kernel':
        return this.#atLeast(...(name.split('.').map(Number) as [number, number]))
          ? undefined
          : `it needs Linux ${name} and this is ${this.release}`;
      default:
        return this.#findByName(kind, name);
    }
  }

  #findByName(kind: string, name: string): string | undefined {
    const { btf } = this;
    switch (kind) {
      case 'tracepoint':
        return btf.find(`btf_trace_${name}`, 'typedef') ? undefined : `this kernel has no tracepoint ${name}`;
      case 'function':
      case 'kfunc':
        return btf.find(name, 'function') ? undefined : `this kernel has no ${kind} ${name}`;
      case 'helper': {
        const enumerator = `BPF_FUNC_${name.replace(/^bpf_/, '')}`;
        return this.#number('bpf_func_id', enumerator) === undefined
          ? `this kernel has no BPF helper ${name}`
          : undefined;
      }
      case 'attach':
        return this.#number('bpf_attach_type', `BPF_${name}`) === undefined
          ? `this kernel has no attachment of type ${name}`
          : undefined;
      case 'map': {
        const type = this.#number('bpf_map_type', `BPF_MAP_TYPE_${name.toUpperCase()}`);
        return type !== undefined && this.#access.hasMapType(type)
          ? undefined
          : `this kernel has no BPF maps of type ${name}`;
      }
      default:
        throw new Error(`no such kernel feature: ${kind}:${name}`);
    }
  }

  /** Numbers come from the running kernel's own enums. */
  #number(enumName: string, name: string): number | undefined {
    return this.btf.enumerator(enumName, name);
  }

  #try(
    label: string,
    attachName: string,
    target: string,
    { programName = 'BPF_PROG_TYPE_TRACING', attach = true } = {},
  ): string | undefined {
    const type = this.#number('bpf_prog_type', programName);
    const attachType = this.#number('bpf_attach_type', attachName);
    if (type === undefined || attachType === undefined) return `this kernel does not know ${label} programs`;
    const result = this.#access.tryProgram({
      type,
      attachType,
      target,
      instructions: RETURN_ZERO,
      attach,
    });
    if (result.stage === 'ok') return undefined;
    const verb = {
      target: 'cannot find the target of',
      load: 'refuses to load',
      attach: 'refuses to attach',
    };
    return `the kernel ${verb[result.stage]} ${label} programs (${result.code})`;
  }

  #tryLsm(): string | undefined {
    const active = this.#access.readText('/sys/kernel/security/lsm');
    if (active !== undefined && !active.trim().split(',').includes('bpf')) {
      return 'bpf is not among the active security modules (boot parameter lsm=)';
    }
    return this.#try('lsm', 'BPF_LSM_MAC', 'syslog', { programName: 'BPF_PROG_TYPE_LSM' });
  }

  #tryKprobe(): string | undefined {
    const pmu = this.#access.readText('/sys/bus/event_source/devices/kprobe/type');
    if (pmu === undefined) return 'this kernel was built without kprobes';
    const code = this.#access.tryKprobe(Number(pmu), 'bpf_fentry_test1');
    return code === '' ? undefined : `the kernel refuses kprobes (${code})`;
  }

  #tracefs(): string | undefined {
    const paths = ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'];
    const mounted = paths.some((p) => this.#access.readText(`${p}/available_tracers`) !== undefined);
    return mounted ? undefined : 'tracefs is not mounted on /sys/kernel/tracing';
  }
}
