// The agent's libbpf: objects, programs, maps, links, ring buffers. The only importer of the addon (native/*.cc), which
// owns the handles; this layer validates and words. Called by loader.ts and, for reading, by probes.
//
// Ownership: closing an object detaches its links and stops its ring readers; closing twice is safe; using what is
// closed throws KernelError with code 'MISUSE'. A link needs no reference: what is attached stays attached until it or
// its object is closed, or the process or worker ends, however it ends.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import { Btf } from './btf.ts';

declare const handle: unique symbol;
type External = { readonly [handle]: never };

// biome-ignore lint/suspicious/noExplicitAny: the addon's functions are typed by the methods that call them
const addon: Record<string, (...args: any[]) => any> = createRequire(import.meta.url)(
  '../../build/native/knp.node',
);

/** The kernel's ENOTSUPP, which reaches userspace from some BPF commands and has no name there. */
const ENOTSUPP = 524;

function errorName(errno: number): { code: string; text: string } {
  if (errno === 0) return { code: 'MISUSE', text: '' };
  if (errno === ENOTSUPP) return { code: 'ENOTSUPP', text: 'not supported by this kernel' };
  const [code, text] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, `error ${errno}`];
  return { code, text };
}

/** What the kernel, libbpf or this layer refuses. `log` is what libbpf and the verifier had to say, possibly empty. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  /** `EPERM`, `EINVAL`, ... or `MISUSE` where the caller is wrong and the kernel was not asked. */
  readonly code: string;
  readonly errno: number;
  readonly log: string;

  constructor(message: string, errno = 0, log = '') {
    const { code, text } = errorName(errno);
    super(errno === 0 ? message : `${message}: ${text} (${code})`);
    this.code = code;
    this.errno = errno;
    this.log = log;
  }
}
addon.setErrorClass?.(KernelError);

const call = addon as Record<
  | `object${'Open' | 'Close' | 'IsClosed' | 'Load' | 'Programs' | 'Maps' | 'Btf' | 'SetInitialValue' | 'SetAutoload'}`
  | `object${'SetMaxEntries' | 'SetAutocreate' | 'ReuseMap' | 'Map'}`
  | `program${'Fd' | 'Info' | 'TestRun'}`
  | `attach${'' | 'Iterator' | 'Uprobe' | 'Kprobe' | 'Tcx' | 'Tc' | 'Xdp' | 'Cgroup' | 'Netns'}`
  | `link${'Read' | 'Info' | 'Close' | 'IsClosed'}`
  | `map${'Info' | 'Lookup' | 'Update' | 'UpdateMany' | 'Delete' | 'ReadAll' | 'Clear'}`
  | `ring${'Open' | 'Take' | 'Ref' | 'Close' | 'IsClosed'}`
  | `stats${'Enable' | 'Close' | 'IsClosed'}`
  | 'possibleCpus'
  | 'libbpfVersion'
  | 'tryProgram'
  | 'tryPerfProbe'
  | 'hasMapType'
  | 'hasProgramType'
  | 'hasHelper',
  // biome-ignore lint/suspicious/noExplicitAny: see above
  (...args: any[]) => any
>;

function misuse(message: string): never {
  throw new KernelError(message);
}

function requireInteger(value: unknown, what: string, min: number, max: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  return misuse(`${what} must be an integer from ${min} to ${max}, not ${String(value)}`);
}

function requirePath(value: unknown, what: string): string {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return value;
  return misuse(`${what} must be a path`);
}

const U32_MAX = 0xffffffff;
const INT_MAX = 0x7fffffff;

/** A value for a global variable: integers by the variable's size and sign, or its bytes. */
export type VariableValue = number | bigint | boolean | Uint8Array;

export interface OpenOptions {
  /** Name in messages and, cut to 15 characters, in the kernel. Default: the file's name up to the first dot. */
  readonly name?: string;
  /** Values of `const volatile` globals, by name. */
  readonly rodata?: Readonly<Record<string, VariableValue>>;
  /** Programs to load (true) or leave out (false), by name. Default: what SEC() says, `?` meaning out. */
  readonly autoload?: Readonly<Record<string, boolean>>;
  readonly maxEntries?: Readonly<Record<string, number>>;
  /** Maps to share: this object's map of that name becomes the given one. Type and sizes must agree. */
  readonly reuseMaps?: Readonly<Record<string, BpfMap>>;
  /** Maps not to create, for programs that are left out too. */
  readonly withoutMaps?: readonly string[];
  /** Collect libbpf's debug messages too. */
  readonly debug?: boolean;
}

export interface ProgramDescription {
  readonly name: string;
  readonly section: string;
  /** libbpf's name of the type: `tracing`, `kprobe`, `raw_tracepoint`, `sched_cls`, `xdp`, ... */
  readonly type: string;
  /** libbpf's name: `trace_fentry`, `trace_raw_tp`, `trace_iter`, ...; meaningless for types without one. */
  readonly attachType: string;
  readonly autoload: boolean;
}

export interface MapDescription {
  readonly name: string;
  readonly type: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Bytes of initial value; of data sections only. */
  readonly initialSize: number;
}

/**
 * Opens a BPF object file without loading it.
 * @param source path of the ELF file, or its bytes.
 * @throws KernelError where it is no BPF object, or an option names what the object does not have.
 */
export function openObject(source: string | Uint8Array, options: OpenOptions = {}): BpfObject {
  let bytes: Uint8Array;
  if (typeof source === 'string') {
    try {
      bytes = readFileSync(source);
    } catch (error) {
      const errno = -((error as NodeJS.ErrnoException).errno ?? 0);
      throw new KernelError(`cannot read BPF object ${source}`, errno);
    }
  } else if (source instanceof Uint8Array) {
    bytes = source;
  } else {
    return misuse('openObject needs a path or the bytes of an ELF file');
  }
  const name = options.name ?? (typeof source === 'string' ? basename(source).split('.', 1)[0] : 'buffer');
  const external: External = call.objectOpen(bytes, name, options.debug === true);
  const object = new BpfObject(external, name as string, options.debug === true);
  try {
    configure(object, external, options);
  } catch (error) {
    object.close();
    throw error;
  }
  return object;
}

function configure(object: BpfObject, external: External, options: OpenOptions): void {
  const maps = new Set(object.maps.map((m) => m.name));
  const programs = new Set(object.programs.map((p) => p.name));
  const known = (names: Set<string>, name: string, option: string, what: string) => {
    if (names.has(name)) return;
    misuse(
      `${option}: BPF object '${object.name}' has no ${what} '${name}'; it has ${[...names].join(', ') || 'none'}`,
    );
  };
  for (const [program, on] of Object.entries(options.autoload ?? {})) {
    known(programs, program, 'autoload', 'program');
    if (typeof on !== 'boolean') misuse(`autoload.${program} must be true or false`);
    call.objectSetAutoload(external, program, on);
  }
  for (const [map, entries] of Object.entries(options.maxEntries ?? {})) {
    known(maps, map, 'maxEntries', 'map');
    call.objectSetMaxEntries(external, map, requireInteger(entries, `maxEntries.${map}`, 1, U32_MAX));
  }
  for (const map of options.withoutMaps ?? []) {
    known(maps, map, 'withoutMaps', 'map');
    call.objectSetAutocreate(external, map, false);
  }
  for (const [map, other] of Object.entries(options.reuseMaps ?? {})) {
    known(maps, map, 'reuseMaps', 'map');
    if (!(other instanceof BpfMap)) misuse(`reuseMaps.${map} must be a BpfMap`);
    call.objectReuseMap(external, map, other.external);
  }
  setReadOnlyData(object, external, options.rodata ?? {});
}

/** Encodes a value for a variable of `size` bytes; integers may use the signed or the unsigned range. */
function encodeVariable(name: string, value: VariableValue, size: number): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.byteLength > size) misuse(`rodata.${name}: ${value.byteLength} bytes do not fit in ${size}`);
    const padded = new Uint8Array(size);
    padded.set(value);
    return padded;
  }
  if (![1, 2, 4, 8].includes(size)) misuse(`rodata.${name} has ${size} bytes: give a Uint8Array`);
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    misuse(`rodata.${name} must be a whole number`);
  const integer = BigInt(value);
  const bits = BigInt(size * 8);
  if (integer < -(1n << (bits - 1n)) || integer >= 1n << bits) {
    misuse(`rodata.${name}: ${integer} does not fit in ${size} bytes`);
  }
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, integer));
  return bytes.subarray(0, size);
}

function setReadOnlyData(
  object: BpfObject,
  external: External,
  values: Readonly<Record<string, VariableValue>>,
): void {
  if (Object.keys(values).length === 0) return;
  const raw = object.btf();
  const btf = raw && new Btf(raw);
  const sections = object.maps.filter((m) => /\.rodata(\.|$)/.test(m.name)).map((m) => m.name);
  const variables = new Map(
    sections.flatMap((map) =>
      (btf?.variables(map.slice(map.indexOf('.'))) ?? []).map((v) => [v.name, { ...v, map }] as const),
    ),
  );
  for (const [name, value] of Object.entries(values)) {
    const variable = variables.get(name);
    if (!variable) {
      const known = [...variables.keys()].join(', ') || 'none';
      misuse(`rodata: BPF object '${object.name}' has no read-only variable '${name}'; it has ${known}`);
    }
    const bytes = encodeVariable(name, value, variable.size);
    call.objectSetInitialValue(external, variable.map, variable.offset, bytes);
  }
}

/** A BPF object file, and once loaded its maps and programs in the kernel. Made by `openObject`. */
export class BpfObject {
  readonly name: string;
  readonly #external: External;
  readonly #debug: boolean;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();

  /** Use `openObject`. */
  constructor(external: External, name: string, debug: boolean) {
    this.#external = external;
    this.name = name;
    this.#debug = debug;
  }

  /** Creates maps and loads programs. Returns what libbpf printed. Throws KernelError with the verifier's log. */
  load(): string {
    return call.objectLoad(this.#external, this.#debug);
  }

  get programs(): readonly ProgramDescription[] {
    return call.objectPrograms(this.#external);
  }

  get maps(): readonly MapDescription[] {
    return call.objectMaps(this.#external);
  }

  /** The object's type information (data section offsets filled in), or undefined where it has none. */
  btf(): Buffer | undefined {
    return call.objectBtf(this.#external);
  }

  /** A loaded program. Throws where the object has none of this name. */
  program(name: string): BpfProgram {
    let program = this.#programs.get(name);
    if (!program) {
      const description = this.programs.find((p) => p.name === name);
      if (!description) return misuse(`BPF object '${this.name}' has no program '${name}'`);
      program = new BpfProgram(this, this.#external, description);
      this.#programs.set(name, program);
    }
    return program;
  }

  /** A map of the loaded object. Throws where the object has none of this name. */
  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (!map) {
      map = new BpfMap(this, call.objectMap(this.#external, name));
      this.#maps.set(name, map);
    }
    return map;
  }

  get closed(): boolean {
    return call.objectIsClosed(this.#external);
  }

  /** Detaches every link, stops every ring reader, unloads. Idempotent. */
  close(): void {
    call.objectClose(this.#external);
  }

  [Symbol.dispose](): void {
    this.close();
  }
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
  /** Only this process; default every one. */
  readonly pid?: number;
  readonly retprobe?: boolean;
  /** What `bpf_get_attach_cookie` gives. */
  readonly cookie?: number | bigint;
  /** File offset of a USDT semaphore. */
  readonly refCtrOffset?: number | bigint;
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

  /** tcx, Linux 6.6: a link, so nothing stays behind. In the network namespace of the calling thread. */
  attachTcx(options: { readonly ifindex: number; readonly direction: 'ingress' | 'egress' }): BpfLink {
    const ifindex = requireInteger(options.ifindex, 'ifindex', 1, INT_MAX);
    return this.#link(
      call.attachTcx(this.#external, this.name, ifindex, requireDirection(options.direction)),
    );
  }

  /**
   * A classic clsact filter, for kernels before 6.6. It outlives a killed process: give a handle and priority of your
   * own, so that attaching again replaces what was left. The clsact qdisc stays; others may use it by then.
   */
  attachTc(options: {
    readonly ifindex: number;
    readonly direction: 'ingress' | 'egress';
    readonly handle: number;
    readonly priority: number;
  }): BpfLink {
    const ifindex = requireInteger(options.ifindex, 'ifindex', 1, INT_MAX);
    const id = requireInteger(options.handle, 'handle', 1, U32_MAX);
    const priority = requireInteger(options.priority, 'priority', 1, 0xffff);
    const ingress = requireDirection(options.direction);
    return this.#link(call.attachTc(this.#external, this.name, ifindex, ingress, id, priority));
  }

  attachXdp(options: { readonly ifindex: number; readonly mode?: (typeof XDP_MODES)[number] }): BpfLink {
    const ifindex = requireInteger(options.ifindex, 'ifindex', 1, INT_MAX);
    const mode = XDP_MODES.indexOf(options.mode ?? 'default');
    if (mode < 0) misuse(`mode must be one of ${XDP_MODES.join(', ')}, not ${String(options.mode)}`);
    return this.#link(call.attachXdp(this.#external, this.name, ifindex, mode));
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

  /** Undefined for a classic tc filter, which is no link. */
  info(): { readonly id: number; readonly type: string; readonly programId: number } | undefined {
    return call.linkInfo(this.#external);
  }

  get closed(): boolean {
    return call.linkIsClosed(this.#external);
  }

  /** Detaches. Idempotent. */
  close(): void {
    call.linkClose(this.#external);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** `u64`, `u32`: values of per-CPU maps are taken as arrays of such words and added up over the CPUs, modulo 2^64, 2^32. */
export type SumWidth = 'u64' | 'u32';

function sumBytes(sum: SumWidth | undefined): number {
  if (sum === undefined) return 0;
  if (sum === 'u64' || sum === 'u32') return sum === 'u64' ? 8 : 4;
  return misuse(`sum must be 'u64' or 'u32', not ${String(sum)}`);
}

const UPDATE_FLAGS = ['any', 'noexist', 'exist'] as const;
const READ_METHODS = ['auto', 'batch', 'next_key'] as const;

export interface ReadAllOptions {
  /** Add up the CPUs of a per-CPU map; without it `values` holds every CPU's value, each padded to 8 bytes. */
  readonly sum?: SumWidth;
  /** Take the elements out of the map, each in one step with its reading, so that no update in between is lost. */
  readonly remove?: boolean;
  /** Default: batch commands, and key by key where the kernel has none for this map type. */
  readonly method?: (typeof READ_METHODS)[number];
}

/** Elements back to back: `keys` in strides of `keySize`, `values` in strides of `values.length / count`. */
export interface MapContents {
  readonly count: number;
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly method: 'batch' | 'next_key';
}

/** A map of a loaded object. Keys and values are bytes; decode.ts knows their fields. */
export class BpfMap {
  readonly name: string;
  /** libbpf's name: `hash`, `percpu_hash`, `lru_hash`, `array`, `ringbuf`, `lpm_trie`, ... */
  readonly type: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly perCpu: boolean;
  readonly fd: number;
  readonly id: number;
  readonly object: BpfObject;
  /** For this module: what the addon knows the map by. */
  readonly external: External;

  /** Use `BpfObject.map`. */
  constructor(object: BpfObject, external: External) {
    const info = call.mapInfo(external);
    this.object = object;
    this.external = external;
    this.name = info.name;
    this.type = info.type;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
    this.perCpu = info.perCpu;
    this.fd = info.fd;
    this.id = info.id;
  }

  /** The value, or undefined. Of a per-CPU map: all CPUs', or with `sum` one value. */
  lookup(key: Uint8Array, options: { readonly sum?: SumWidth } = {}): Buffer | undefined {
    return call.mapLookup(this.external, key, sumBytes(options.sum), false);
  }

  /** Like lookup, taking the element out in the same step. */
  lookupAndDelete(key: Uint8Array, options: { readonly sum?: SumWidth } = {}): Buffer | undefined {
    return call.mapLookup(this.external, key, sumBytes(options.sum), true);
  }

  /** Returns false where `flags` forbids it: `noexist` and the key exists, `exist` and it does not. E2BIG when full. */
  update(key: Uint8Array, value: Uint8Array, flags: (typeof UPDATE_FLAGS)[number] = 'any'): boolean {
    const flag = UPDATE_FLAGS.indexOf(flags);
    if (flag < 0) misuse(`flags must be one of ${UPDATE_FLAGS.join(', ')}, not ${String(flags)}`);
    return call.mapUpdate(this.external, key, value, flag);
  }

  /** Writes many elements, laid out as in MapContents. Not atomic: an error leaves some written. */
  updateMany(keys: Uint8Array, values: Uint8Array, count: number): void {
    call.mapUpdateMany(this.external, keys, values, requireInteger(count, 'count', 0, U32_MAX));
  }

  /** Returns false where there was no such key. */
  delete(key: Uint8Array): boolean {
    return call.mapDelete(this.external, key);
  }

  /** All elements. Those that exist throughout are in it exactly once; those that come or go meanwhile may be. */
  readAll(options: ReadAllOptions = {}): MapContents {
    const method = READ_METHODS.indexOf(options.method ?? 'auto');
    if (method < 0) misuse(`method must be one of ${READ_METHODS.join(', ')}, not ${String(options.method)}`);
    return call.mapReadAll(this.external, sumBytes(options.sum), options.remove === true, method);
  }

  /** Deletes every element; zeroes those of an array. */
  clear(): void {
    call.mapClear(this.external);
  }
}

/** Records of a ring buffer batch: a u32 with the size, 4 bytes of zero, the record, padding to 8. */
export const RECORD_HEADER_BYTES = 8;

/** Calls `visit` with offset and size of every record in a batch. */
export function forEachRecord(batch: Buffer, visit: (offset: number, size: number) => void): void {
  for (let at = 0; at < batch.length; ) {
    const size = batch.readUInt32LE(at);
    visit(at + RECORD_HEADER_BYTES, size);
    at += RECORD_HEADER_BYTES + ((size + 7) & ~7);
  }
}

export interface RingBufferOptions {
  /** A batch ends with the record that reaches this size; the rest follows on the next turn. Default 1 MiB. */
  readonly batchBytes?: number;
}

/** Reads one ring buffer; at most one callback per turn of the event loop, which it keeps alive until closed or unref'd. */
export class RingBuffer {
  readonly #external: External;
  readonly #map: BpfMap;

  /** @param onBatch gets the records (see `forEachRecord`) and how many; what it throws is an uncaught exception. */
  constructor(map: BpfMap, onBatch: (batch: Buffer, count: number) => void, options: RingBufferOptions = {}) {
    if (typeof onBatch !== 'function') misuse('RingBuffer needs a callback');
    const limit = requireInteger(options.batchBytes ?? 1 << 20, 'batchBytes', 1, 1 << 30);
    this.#map = map;
    this.#external = call.ringOpen(map.external, onBatch, limit);
  }

  get map(): BpfMap {
    return this.#map;
  }

  /** One batch of what is there now, or undefined, without waiting for the event loop: for the last words at shutdown. */
  take(): { readonly buffer: Buffer; readonly count: number } | undefined {
    return call.ringTake(this.#external);
  }

  /** Lets the process end although this is open. */
  unref(): this {
    call.ringRef(this.#external, false);
    return this;
  }

  ref(): this {
    call.ringRef(this.#external, true);
    return this;
  }

  get closed(): boolean {
    return call.ringIsClosed(this.#external);
  }

  /** Stops reading; records still in the ring stay there. Idempotent. */
  close(): void {
    call.ringClose(this.#external);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Keeps the kernel's BPF run-time statistics enabled while open (Linux 5.8; costs about 20 ns per run). */
export class BpfStats {
  readonly #external: External = call.statsEnable();

  get closed(): boolean {
    return call.statsIsClosed(this.#external);
  }

  close(): void {
    call.statsClose(this.#external);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export function enableBpfStats(): BpfStats {
  return new BpfStats();
}

/** The running kernel's type information, raw. Throws KernelError with what to do where the kernel has none. */
export function kernelBtf(path = '/sys/kernel/btf/vmlinux'): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const errno = -((error as NodeJS.ErrnoException).errno ?? 0);
    throw new KernelError(`cannot read the kernel's type information from ${path}`, errno);
  }
}

/** CPUs that per-CPU values have room for; may be more than are online. */
export function possibleCpus(): number {
  return call.possibleCpus();
}

export function libbpfVersion(): string {
  return call.libbpfVersion();
}

/** What came of loading and attaching a program of raw instructions; nothing of it remains. */
export interface TryResult {
  readonly stage: 'target' | 'load' | 'attach' | 'ok';
  readonly code: string;
  readonly log: string;
}

/**
 * Tries what the kernel allows. Numbers are those of the kernel's `enum bpf_prog_type` and `bpf_attach_type`.
 * @param options `target`: kernel function or tracepoint of a BTF-typed program; `attach`: also attach it.
 */
export function tryProgram(options: {
  readonly type: number;
  readonly attachType?: number;
  readonly target?: string;
  readonly instructions: Uint8Array;
  readonly attach?: boolean;
}): TryResult {
  const { type, attachType = 0, target = '', instructions, attach = false } = options;
  const result = call.tryProgram(type, attachType, target, instructions, attach);
  return {
    stage: result.stage,
    code: result.error === 0 ? '' : errorName(result.error).code,
    log: result.log,
  };
}

/** Tries to open a kprobe on a kernel function. Returns '' or the error's code. */
export function tryKprobe(pmuType: number, kernelFunction: string): string {
  const errno: number = call.tryPerfProbe(pmuType, kernelFunction);
  return errno === 0 ? '' : errorName(errno).code;
}

export function hasMapType(type: number): boolean {
  return call.hasMapType(type);
}

export function hasProgramType(type: number): boolean {
  return call.hasProgramType(type);
}

/** Whether programs of this type may call this helper. Not for tracing programs, which libbpf cannot probe. */
export function hasHelper(programType: number, helper: number): boolean {
  return call.hasHelper(programType, helper);
}
