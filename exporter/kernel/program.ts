// Programs of a loaded object and every way to attach them; links. Reached through native.ts.
import { call, type External, INT_MAX, misuse, requireInteger, requirePath, U32_MAX } from './addon.ts';
import type { BpfMap } from './map.ts';
import type { BpfObject } from './object.ts';

export interface ProgramDescription {
  readonly name: string;
  readonly section: string;
  /** libbpf's name of the type: `tracing`, `kprobe`, `raw_tracepoint`, `sched_cls`, `xdp`, ... */
  readonly type: string;
  /** libbpf's name: `trace_fentry`, `trace_raw_tp`, `trace_iter`, ...; meaningless for types without one. */
  readonly attachType: string;
  readonly autoload: boolean;
}

export interface ProgramInfo {
  readonly id: number;
  /** Total run time; stands still unless BPF statistics are enabled (`enableBpfStats`). */
  readonly runTimeNs: number;
  readonly runCount: number;
  /** Runs skipped because the program was running already on that CPU. */
  readonly recursionMisses: number;
  /** Instructions that the verifier looked at (its limit is 1,000,000); 0 before Linux 5.16. */
  readonly verifiedInstructions: number;
  readonly jitedBytes: number;
}

export interface UprobeOptions {
  readonly path: string;
  /** Byte offset in the file, or from `symbol`. Default 0 with a symbol. */
  readonly offset?: number | bigint;
  /** Function in the file's symbol table, `name` or `name@VERSION`. */
  readonly symbol?: string;
  /**
   * Only this process; default every one. With `retprobe` older kernels (6.12, not 6.18) also call the program in other
   * processes in which another probe sits at the same place: check the pid in the program where it matters.
   */
  readonly pid?: number;
  readonly retprobe?: boolean;
  /** What `bpf_get_attach_cookie` gives. */
  readonly cookie?: number | bigint;
  /** File offset of a USDT semaphore. */
  readonly refCtrOffset?: number | bigint;
}

export interface UprobeMultiOptions {
  readonly path: string;
  /** Byte offsets in the file. */
  readonly offsets: readonly (number | bigint)[];
  /** What `bpf_get_attach_cookie` gives at each; default 0. */
  readonly cookies?: readonly (number | bigint)[];
  /** Only this process. Before Linux 6.10 (46ba0e49b642) only its first thread: leave it out there. */
  readonly pid?: number;
  readonly retprobe?: boolean;
}

/**
 * A network namespace other than the process's own. `path` leads to it (`/proc/PID/ns/net`), and `cookie` says which it
 * must be (`networkInterfaces`): where the path leads to another by now, attaching is refused with ESTALE.
 */
export interface NetnsOption {
  readonly path: string;
  readonly cookie: bigint;
}

export interface TestRunOptions {
  readonly data?: Uint8Array;
  readonly context?: Uint8Array;
  readonly repeat?: number;
  /** Room for the data that the program leaves behind; default: as much as goes in, plus 256. */
  readonly dataOut?: number;
}

export interface TestRunResult {
  readonly returnValue: number;
  /** Mean of one run. */
  readonly durationNs: number;
  readonly data: Buffer;
  readonly context: Buffer;
}

const XDP_MODES = ['default', 'generic', 'driver', 'hardware'] as const;

/** A program of a loaded object. */
export class BpfProgram {
  readonly name: string;
  readonly type: string;
  readonly section: string;
  readonly #object: BpfObject;
  readonly #external: External;

  /** Use `BpfObject.program`. */
  constructor(object: BpfObject, external: External, description: ProgramDescription) {
    this.#object = object;
    this.#external = external;
    this.name = description.name;
    this.type = description.type;
    this.section = description.section;
  }

  get fd(): number {
    return call.programFd(this.#external, this.name);
  }

  info(): ProgramInfo {
    return call.programInfo(this.#external, this.name);
  }

  #link(external: External): BpfLink {
    return new BpfLink(this.#object, this.name, external);
  }

  /** Attaches as its SEC() says: tp_btf, raw_tp, tracepoint, fentry, fexit, kprobe, lsm, sockops-free. */
  attach(): BpfLink {
    return this.#link(call.attach(this.#external, this.name));
  }

  /** @param options `map` for iterators over a map's elements, `pid` for one process's tasks or files. */
  attachIterator(options: { readonly map?: BpfMap; readonly pid?: number } = {}): BpfLink {
    const pid = options.pid === undefined ? undefined : requireInteger(options.pid, 'pid', 1, INT_MAX);
    return this.#link(call.attachIterator(this.#external, this.name, options.map?.external, pid));
  }

  attachUprobe(options: UprobeOptions): BpfLink {
    const path = requirePath(options.path, 'attachUprobe: path');
    const { symbol, offset, pid } = options;
    if (offset === undefined && symbol === undefined) misuse('attachUprobe needs an offset or a symbol');
    const at = requireAddress(offset ?? 0, 'offset');
    return this.#link(
      call.attachUprobe(
        this.#external,
        this.name,
        path,
        symbol,
        at,
        pid === undefined ? -1 : requireInteger(pid, 'pid', 0, INT_MAX),
        options.retprobe === true,
        requireAddress(options.cookie ?? 0, 'cookie'),
        requireAddress(options.refCtrOffset ?? 0, 'refCtrOffset'),
      ),
    );
  }

  /** Many places of one file with one link, Linux 6.6: detaching waits once, not once a place. For `uprobe.multi` programs. */
  attachUprobeMulti(options: UprobeMultiOptions): BpfLink {
    const path = requirePath(options.path, 'attachUprobeMulti: path');
    const { offsets, cookies = offsets.map(() => 0), pid } = options;
    return this.#link(
      call.attachUprobeMulti(
        this.#external,
        this.name,
        path,
        packed(offsets, 'offset'),
        packed(cookies, 'cookie'),
        pid === undefined ? -1 : requireInteger(pid, 'pid', 1, INT_MAX),
        options.retprobe === true,
      ),
    );
  }

  /** Attaches to a kernel function by name, as an alternative to naming it in SEC(). */
  attachKprobe(options: {
    readonly function: string;
    readonly offset?: number | bigint;
    readonly retprobe?: boolean;
    readonly cookie?: number | bigint;
  }): BpfLink {
    const offset = requireAddress(options.offset ?? 0, 'offset');
    const cookie = requireAddress(options.cookie ?? 0, 'cookie');
    const name = requirePath(options.function, 'attachKprobe: function');
    return this.#link(
      call.attachKprobe(this.#external, this.name, name, offset, options.retprobe === true, cookie),
    );
  }

  /** tcx, Linux 6.6: a link, so nothing stays behind. */
  attachTcx(options: {
    readonly ifindex: number;
    readonly direction: 'ingress' | 'egress';
    readonly netns?: NetnsOption;
  }): BpfLink {
    const ifindex = requireInteger(options.ifindex, 'ifindex', 1, INT_MAX);
    const ingress = requireDirection(options.direction);
    const [path, cookie] = requireNetns(options.netns);
    return this.#link(call.attachTcx(this.#external, this.name, ifindex, ingress, path, cookie));
  }

  /**
   * A classic clsact filter, for kernels before 6.6. It outlives a killed process: give a handle and priority of your
   * own, so that attaching again replaces what was left. The clsact qdisc stays; others may use it by then. While the
   * filter is there it keeps its network namespace.
   */
  attachTc(options: {
    readonly ifindex: number;
    readonly direction: 'ingress' | 'egress';
    readonly handle: number;
    readonly priority: number;
    readonly netns?: NetnsOption;
  }): BpfLink {
    const ifindex = requireInteger(options.ifindex, 'ifindex', 1, INT_MAX);
    const id = requireInteger(options.handle, 'handle', 1, U32_MAX);
    const priority = requireInteger(options.priority, 'priority', 1, 0xffff);
    const ingress = requireDirection(options.direction);
    const [path, cookie] = requireNetns(options.netns);
    return this.#link(call.attachTc(this.#external, this.name, ifindex, ingress, id, priority, path, cookie));
  }

  attachXdp(options: {
    readonly ifindex: number;
    readonly mode?: (typeof XDP_MODES)[number];
    readonly netns?: NetnsOption;
  }): BpfLink {
    const ifindex = requireInteger(options.ifindex, 'ifindex', 1, INT_MAX);
    const mode = XDP_MODES.indexOf(options.mode ?? 'default');
    if (mode < 0) misuse(`mode must be one of ${XDP_MODES.join(', ')}, not ${String(options.mode)}`);
    const [path, cookie] = requireNetns(options.netns);
    return this.#link(call.attachXdp(this.#external, this.name, ifindex, mode, path, cookie));
  }

  /** @param options `path`: a cgroup v2 directory. */
  attachCgroup(options: { readonly path: string }): BpfLink {
    const path = requirePath(options.path, 'attachCgroup: path');
    return this.#link(call.attachCgroup(this.#external, this.name, path));
  }

  /** sk_lookup and flow dissector programs. @param options `path`: a network namespace, default the process's own. */
  attachNetns(options: { readonly path?: string } = {}): BpfLink {
    const path = requirePath(options.path ?? '/proc/self/ns/net', 'attachNetns: path');
    return this.#link(call.attachNetns(this.#external, this.name, path));
  }

  /**
   * Makes a socket filter the filter of a new netlink socket in the process's network namespace.
   * @param options `protocol`: NETLINK_* of linux/netlink.h; `groups`: multicast groups to subscribe to, a bit each
   */
  attachNetlink(options: { readonly protocol: number; readonly groups: number }): BpfLink {
    const protocol = requireInteger(options.protocol, 'protocol', 0, 31);
    const groups = requireInteger(options.groups, 'groups', 0, INT_MAX);
    return this.#link(call.attachNetlink(this.#external, this.name, protocol, groups));
  }

  /** Runs the program on given data or context (BPF_PROG_TEST_RUN). */
  testRun(options: TestRunOptions = {}): TestRunResult {
    const repeat = requireInteger(options.repeat ?? 1, 'repeat', 1, INT_MAX);
    const room = options.dataOut ?? (options.data ? options.data.byteLength + 256 : 0);
    const out = requireInteger(room, 'dataOut', 0, 1 << 20);
    return call.programTestRun(this.#external, this.name, options.data, options.context, repeat, out);
  }
}

function requireDirection(direction: unknown): boolean {
  if (direction === 'ingress' || direction === 'egress') return direction === 'ingress';
  return misuse(`direction must be 'ingress' or 'egress', not ${String(direction)}`);
}

function requireNetns(netns: NetnsOption | undefined): [path: string | undefined, cookie: bigint] {
  if (netns === undefined) return [undefined, 0n];
  return [requirePath(netns.path, 'netns.path'), requireAddress(netns.cookie, 'netns.cookie')];
}

/** Numbers as u64 back to back. */
function packed(values: readonly (number | bigint)[], what: string): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values.map((value) => requireAddress(value, what))).buffer);
}

function requireAddress(value: unknown, what: string): bigint {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  if (typeof value === 'bigint' && value >= 0n && value < 1n << 64n) return value;
  return misuse(`${what} must be a whole number from 0 to 2^64-1, not ${String(value)}`);
}

/** One attachment. Stays until closed, or its object is, or the process or worker ends. */
export class BpfLink {
  /** Name of the attached program. */
  readonly program: string;
  readonly #external: External;
  readonly #object: BpfObject; // keeps the object's wrapper reachable with its links
  #closing: Promise<void> | undefined;

  /** Use the `attach` methods of BpfProgram. */
  constructor(object: BpfObject, program: string, external: External) {
    this.#object = object;
    this.program = program;
    this.#external = external;
  }

  get object(): BpfObject {
    return this.#object;
  }

  /**
   * Runs the iterator once and returns all that it wrote.
   * @param options `maxBytes`: refuse to collect more than this (EFBIG); default 256 MiB.
   */
  read(options: { readonly maxBytes?: number } = {}): Buffer {
    const maxBytes = requireInteger(options.maxBytes ?? 256 << 20, 'maxBytes', 1, INT_MAX);
    return call.linkRead(this.#external, maxBytes);
  }

  /**
   * Sends a request through an attached netlink socket and waits until all of the answer has passed the filter.
   * @returns how many datagrams of it the filter let through
   * @throws KernelError for what the kernel answers to a request that it refuses
   */
  request(message: Uint8Array): number {
    return call.linkRequest(this.#external, message);
  }

  /**
   * Undefined for a classic tc filter and a netlink socket, which are no links. `interfaceIndex`: of tcx and XDP; 0 once
   * the interface is gone, and the link attached to nothing.
   */
  info():
    | {
        readonly id: number;
        readonly type: string;
        readonly programId: number;
        readonly interfaceIndex?: number;
      }
    | undefined {
    return call.linkInfo(this.#external);
  }

  /** Closed, or about to be by `closeLater`. */
  get closed(): boolean {
    return call.linkIsClosed(this.#external);
  }

  /** False once closed, and where the interface of a tcx or XDP link is gone. */
  attached(): boolean {
    return !this.closed && this.info()?.interfaceIndex !== 0;
  }

  /**
   * Detaches on another thread, one link after the other in the order of the calls; never rejects. What is closed so
   * takes no more calls from now on. `close()` of the link or its object meanwhile returns when it is detached.
   */
  closeLater(): Promise<void> {
    this.#closing ??= call.linkCloseLater(this.#external) as Promise<void>;
    return this.#closing;
  }

  /** Detaches. Idempotent. */
  close(): void {
    call.linkClose(this.#external);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
