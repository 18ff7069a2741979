// The stream object (bpf/stream/) and the objects of protocols (bpf/protocol/): loads the first with the hooks that this
// kernel allows, each of the others by itself, and joins them by tail calls. A protocol that the kernel refuses is off
// alone. The probe of a protocol starts both; exporter/kernel/core.ts is there before.
import type { Btf } from './btf.ts';
import { CORE_MAPS, type KernelCore } from './core.ts';
import type { Feature } from './features.ts';
import type { Alternative, BpfLoader, CalledProgram, LoadedProbe, Purpose } from './loader.ts';
import type { BpfMap } from './native.ts';
import type { VariableValue } from './object.ts';

export type Provider = 'fentry' | 'tracepoint' | 'kprobe';

/** From here on a program may be preempted, each hook has a backup program, and each of them a working space of its own: see
 * bpf/stream/deliver.h. */
const PREEMPTIBLE_TRACEPOINTS: Feature = 'kernel:7.0';

/** They say which socket a call was for and how it ended. */
const LENGTHS = ['tracepoint:sock_send_length', 'tracepoint:sock_recv_length'] as const;

type PayloadAlternative = Alternative & { readonly provider: Provider; readonly program: readonly string[] };

/** Entry and exit of the functions, where those tracepoints are not there. */
function fexit(receiveExit: string, ...needs: readonly Feature[]): PayloadAlternative {
  return {
    provider: 'fentry',
    program: ['stream_send_entry', 'stream_receive_entry', 'stream_send_exit', receiveExit],
    needs: ['fentry', ...needs],
  };
}

/** The same with a backup program on every hook but that of system calls, where the kernel needs it and where not. */
function withBackup(alternative: PayloadAlternative): readonly PayloadAlternative[] {
  const program = alternative.program.flatMap((name) =>
    /_kprobe$|_sys_enter$/.test(name) ? [name] : [name, `${name}_backup`],
  );
  return [
    { ...alternative, program, needs: [...(alternative.needs ?? []), PREEMPTIBLE_TRACEPOINTS] },
    alternative,
  ];
}

/**
 * How to see payload, in order of preference: fentry sees what io_uring does too, and costs nothing elsewhere; the system
 * calls' registers need the least of a kernel; kprobes cost more than fentry and see the same.
 */
const PAYLOAD: readonly PayloadAlternative[] = [
  ...withBackup({
    provider: 'fentry',
    program: ['stream_send_entry', 'stream_receive_entry', 'stream_sent_context', 'stream_received_context'],
    needs: ['fentry', ...LENGTHS],
  }),
  // The parameters of tcp_recvmsg have changed; programs that ask for too many are refused.
  fexit('stream_receive_exit', 'kernel:5.19'),
  fexit('stream_receive_exit_nonblock'),
  ...withBackup({
    provider: 'tracepoint',
    program: ['stream_sent', 'stream_received', 'stream_begins'],
    needs: [...LENGTHS, 'tracepoint:tcp_sendmsg_locked'],
  }),
  ...withBackup({
    provider: 'tracepoint',
    program: ['stream_sent_entered', 'stream_received', 'stream_sys_enter'],
    needs: LENGTHS,
  }),
  ...withBackup({
    provider: 'kprobe',
    program: [
      'stream_send_kprobe',
      'stream_receive_kprobe',
      'stream_sent_context',
      'stream_received_context',
    ],
    needs: ['kprobe', ...LENGTHS],
  }),
];

/** Pages that a process sends without touching them, where the provider does not show them. */
const PAGES: Alternative = { program: 'stream_sendpage_exit', needs: ['fentry', 'function:tcp_sendpage'] };

function purposes(provider: Provider | 'auto'): Purpose[] {
  return [
    {
      purpose: 'payload',
      alternatives: PAYLOAD.filter((alternative) => provider === 'auto' || alternative.provider === provider),
    },
    { purpose: 'sendfile', alternatives: [PAGES], optional: true },
  ];
}

/** Maps of the stream object that every protocol's has too: bpf/stream/stream.h, bpf/requests/maps.h. */
const STREAM_MAPS = [
  'stream_work',
  'requests',
  'request_names',
  'request_active',
  'request_events',
  'request_states',
  'request_control',
  'request_tracestates',
  'request_serving',
  'request_threads',
];

/** STREAM_SLOTS of bpf/stream/stream.h: working spaces of a processor, by hook and program where these may be preempted. */
const SLOTS = 4;

/** One program of a protocol: where it is called from, and where in that array it goes. */
interface Callee {
  readonly program: string;
  readonly array: string;
  readonly index: (protocol: number) => number;
  /** The working space in which what it costs is counted. */
  readonly slot?: number;
}

const plain = (protocol: number) => protocol;

/** The programs of a protocol that the stream's programs in use will call. `preemptible`: each has a slot of its own. */
function payloadCallees(inUse: ReadonlySet<string>, preemptible: boolean): Callee[] {
  const some = (pattern: RegExp) => [...inUse].some((program) => pattern.test(program));
  const slots = [
    [0, some(/^stream_sent(_entered|_context)?$/)],
    [1, some(/^stream_sent(_entered|_context)?_backup$/)],
    [2, some(/^stream_received(_context)?$/)],
    [3, some(/^stream_received(_context)?_backup$/)],
  ] as const;
  const callees: Callee[] = slots
    .filter(([slot, used]) => used && (preemptible || slot === 0))
    .map(([slot]) => ({
      program: `length${slot}`,
      array: 'stream_length_programs',
      index: (protocol) => protocol * SLOTS + slot,
      slot,
    }));
  const exits = [
    ['send_exit', 'stream_send_programs', /^stream_send_exit$/, 0],
    ['receive_exit', 'stream_receive_programs', /^stream_receive_exit/, 2],
    ['sendpage_exit', 'stream_sendpage_programs', /^stream_sendpage_exit$/, 1],
  ] as const;
  for (const [program, array, caller, slot] of exits)
    if (some(caller)) callees.push({ program, array, index: plain, slot });
  return callees;
}

/** Those that the core's programs in use will call. */
function coreCallees(inUse: ReadonlySet<string>): Callee[] {
  const destroyed = { program: 'destroyed', array: 'stream_destroy_programs', index: plain };
  return [
    { program: 'state', array: 'stream_end_programs', index: plain },
    ...(inUse.has('core_state_destroyed') ? [destroyed] : []),
    inUse.has('core_walk')
      ? { program: 'walk', array: 'stream_walk_programs', index: plain }
      : { program: 'walk_files', array: 'stream_walk_file_programs', index: plain },
  ];
}

const programsOf = (loaded: LoadedProbe) => new Set(loaded.choices.flatMap((choice) => choice.programs));

export interface StreamOptions {
  readonly loader: BpfLoader;
  readonly core: Pick<KernelCore, 'loaded' | 'ownerRodata'>;
  readonly provider: Provider | 'auto';
  /** Values of `const volatile` globals of the stream object. */
  readonly rodata?: Readonly<Record<string, VariableValue>>;
  /** Of those that every object has (bpf/requests/maps.h). */
  readonly requestRodata?: Readonly<Record<string, VariableValue>>;
  readonly maxEntries?: Readonly<Record<string, number>>;
  /** No connection is looked at before `begin()`: one that no protocol wants is ignored for good, so all must be there. */
  readonly waits?: boolean;
}

export interface ProtocolOptions {
  /** Name of the object and prefix of its programs: `http1`. */
  readonly name: string;
  /** Values of `const volatile` globals that the stream object does not have. */
  readonly rodata?: Readonly<Record<string, VariableValue>>;
}

/** The attached stream object, and the protocols that it calls. */
export interface KernelStream {
  readonly loaded: LoadedProbe;
  /**
   * Loads a protocol's object; connections of it are followed from here on, or from `begin()` on where that is waited for.
   * @throws ProbeError when the kernel refuses it. The others go on.
   */
  addProtocol(options: ProtocolOptions): { readonly number: number; readonly loaded: LoadedProbe };
  /** All protocols are there. */
  begin(): void;
  /** Are spans wanted? */
  setSampling(sampling: boolean): void;
  /** Detaches everything. Idempotent. */
  close(): void;
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** Tells the kernel side since when it sees connections from their first byte, and what is wanted of it. */
class Control {
  readonly #map: BpfMap;
  readonly #at: { size: number; started: number; sampling: number; protocols: number };
  #begun: boolean;
  #startedNs = 0n;
  #sampling = false;
  #protocols = 0;

  constructor(map: BpfMap, btf: Btf, begun: boolean) {
    this.#map = map;
    this.#begun = begun;
    const layout = btf.layout('request_control');
    this.#at = {
      size: layout.size,
      started: layout.offset('started_ns'),
      sampling: layout.offset('sampling'),
      protocols: layout.offset('protocols'),
    };
  }

  addProtocol(number: number): void {
    this.#protocols |= 1 << number;
    if (this.#begun) this.begin();
  }

  /** Connections that began before now are joined midway, those that begin from now on are looked at once. */
  begin(): void {
    this.#begun = true;
    this.#startedNs = process.hrtime.bigint();
    this.#write();
  }

  setSampling(sampling: boolean): void {
    if (sampling === this.#sampling) return;
    this.#sampling = sampling;
    this.#write();
  }

  #write(): void {
    const value = Buffer.alloc(this.#at.size);
    value.writeBigUInt64LE(this.#startedNs, this.#at.started);
    value.writeUInt32LE(this.#sampling ? 1 : 0, this.#at.sampling);
    value.writeUInt32LE(this.#protocols, this.#at.protocols);
    this.#map.update(u32(0), value);
  }
}

/** Reads what the runs of a protocol cost in one working space, on all processors. */
function costReader(loaded: LoadedProbe): (protocol: number, slot: number) => Cost {
  const work = loaded.btf.layout('stream_work');
  const cost = loaded.btf.layout('stream_cost');
  const map = loaded.map('stream_work');
  return (protocol, slot) => {
    const values = map.lookup(u32(slot)) ?? Buffer.alloc(0);
    const first = work.offset('costs') + protocol * cost.size;
    const sum = (field: string) => {
      let total = 0;
      for (let at = first; at < values.length; at += work.size)
        total += Number(values.readBigUInt64LE(at + cost.offset(field)));
      return total;
    };
    return { runs: sum('runs'), timedRuns: sum('timed_runs'), timedNs: sum('timed_ns') };
  };
}

/** `struct stream_cost`. */
interface Cost {
  readonly runs: number;
  readonly timedRuns: number;
  readonly timedNs: number;
}

/** What one program cost: of the runs since the last look as much as those of them that were timed, on average. */
class CalledCost {
  readonly #program: string;
  readonly #read: () => Cost;
  #seen: Cost = { runs: 0, timedRuns: 0, timedNs: 0 };
  #runTimeNs = 0;

  constructor(program: string, read: () => Cost) {
    this.#program = program;
    this.#read = read;
  }

  read(): CalledProgram {
    const now = this.#read();
    const timed = now.timedRuns - this.#seen.timedRuns;
    if (timed > 0) {
      this.#runTimeNs += ((now.timedNs - this.#seen.timedNs) / timed) * (now.runs - this.#seen.runs);
      this.#seen = now;
    }
    return { program: this.#program, runTimeNs: this.#runTimeNs, runCount: now.runs };
  }
}

/**
 * Loads and attaches the stream object. No connection is looked at before a protocol is added.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function loadStream(options: StreamOptions): KernelStream {
  const { loader, core, provider, maxEntries = {} } = options;
  const shared = { ...core.ownerRodata, ...options.requestRodata };
  const preemptible = loader.features.missing(PREEMPTIBLE_TRACEPOINTS) === undefined;
  const loaded = loader.load({
    object: 'stream',
    programs: purposes(provider),
    rodata: { ...shared, stream_preemptible: preemptible, ...options.rodata },
    maxEntries,
    shares: CORE_MAPS,
  });
  const control = new Control(loaded.map('request_control'), loaded.btf, options.waits !== true);
  const protocols: LoadedProbe[] = [];
  const cost = costReader(loaded);
  const addProtocol = ({ name, rodata = {} }: ProtocolOptions) => {
    const number = loaded.btf.enumerator('stream_protocol', `STREAM_${name.toUpperCase()}`);
    if (number === undefined) throw new Error(`the stream object knows no protocol ${name}`);
    const callees = [
      ...payloadCallees(programsOf(loaded), preemptible),
      ...coreCallees(programsOf(core.loaded)),
    ];
    const protocol = loader.load({
      object: name,
      programs: [],
      rodata: { ...shared, ...rodata },
      maxEntries,
      shares: [...CORE_MAPS, ...STREAM_MAPS],
      tailCalls: callees.map(({ program, array, index }) => ({
        program: `${name}_${program}`,
        array,
        index: index(number),
      })),
    });
    protocols.push(protocol);
    const costs = callees.flatMap(({ program, slot }) =>
      slot === undefined ? [] : [new CalledCost(`${name}_${program}`, () => cost(number, slot))],
    );
    control.addProtocol(number);
    const called = () => costs.map((one) => one.read());
    return { number, loaded: { ...protocol, called } };
  };
  const close = () => {
    for (const protocol of protocols) protocol.close();
    loaded.close();
  };
  const begin = () => control.begin();
  return { loaded, addProtocol, begin, setSampling: (sampling) => control.setSampling(sampling), close };
}
