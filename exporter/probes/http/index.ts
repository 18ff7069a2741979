// The HTTP probe: loads bpf/http.bpf.c with the hooks that this kernel allows, and gives the collector its source.
// It needs the core (exporter/probes/core.ts), loaded by the same loader.
import type { z } from 'zod';
import type { Config } from '../../config/schema.ts';
import { CORE_MAPS } from '../../kernel/core.ts';
import type { EdgeTable } from '../../kernel/edge_table.ts';
import type { Feature } from '../../kernel/features.ts';
import type { Alternative, BpfLoader, LoadedProbe, Purpose } from '../../kernel/loader.ts';
import { type BpfMap, RingBuffer } from '../../kernel/native.ts';
import type { VariableValue } from '../../kernel/object.ts';
import { createLost } from '../../telemetry/lost.ts';
import { addExemplar } from '../../telemetry/spans/exemplars.ts';
import type { SpanSink } from '../../telemetry/spans/types.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import type { EdgeDirectory } from '../edges.ts';
import type { Probe, ProbeContext, RunningProbe } from '../probe.ts';
import { createEventReader } from './events.ts';
import { Paths } from './paths.ts';
import { Records } from './records.ts';
import { needsExactPaths, RouteBook } from './routes.ts';
import { createSampleReader } from './samples.ts';
import type { HTTP_SETTINGS } from './settings.ts';
import { HttpSource } from './source.ts';

export const probe: Probe<typeof HTTP_SETTINGS> = { start };

type HttpConfig = z.output<typeof HTTP_SETTINGS>;

type Provider = Exclude<HttpConfig['provider'], 'auto'>;

/** From here on a program may be preempted, and a second one stands by: see bpf/sockio_programs.h. */
const PREEMPTIBLE_TRACEPOINTS: Feature = 'kernel:7.0';

/** They say which socket a call was for and how it ended. */
const LENGTHS = ['tracepoint:sock_send_length', 'tracepoint:sock_recv_length'] as const;

/** Entry and exit of the functions, where those tracepoints are not there. */
function fexit(receiveExit: string, ...needs: readonly Feature[]): Way {
  return {
    provider: 'fentry',
    program: ['sockio_send_entry', 'sockio_receive_entry', 'sockio_send_exit', receiveExit],
    needs: ['fentry', ...needs],
  };
}

type Way = Alternative & { readonly provider: Provider; readonly program: readonly string[] };

/** The same with a second program on every hook but that of system calls, where the kernel needs it and where not. */
function standingBy(way: Way): readonly Way[] {
  const program = way.program.flatMap((name) =>
    /_kprobe$|_sys_enter$/.test(name) ? [name] : [name, `${name}_nested`],
  );
  return [{ ...way, program, needs: [...(way.needs ?? []), PREEMPTIBLE_TRACEPOINTS] }, way];
}

/**
 * Ways to see payload, in order of preference: fentry sees what io_uring does too, and costs nothing elsewhere; the
 * system calls' registers need the least of a kernel; kprobes cost more than fentry and see the same.
 */
const PAYLOAD: readonly Way[] = [
  ...standingBy({
    provider: 'fentry',
    program: ['sockio_send_entry', 'sockio_receive_entry', 'sockio_sent_noted', 'sockio_received_noted'],
    needs: ['fentry', ...LENGTHS],
  }),
  // The parameters of tcp_recvmsg have changed; programs that ask for too many are refused.
  fexit('sockio_receive_exit', 'kernel:5.19'),
  fexit('sockio_receive_exit_nonblock'),
  ...standingBy({
    provider: 'tracepoint',
    program: ['sockio_sent', 'sockio_received', 'sockio_begins'],
    needs: [...LENGTHS, 'tracepoint:tcp_sendmsg_locked'],
  }),
  ...standingBy({
    provider: 'tracepoint',
    program: ['sockio_sent_entered', 'sockio_received', 'sockio_sys_enter'],
    needs: LENGTHS,
  }),
  ...standingBy({
    provider: 'kprobe',
    program: ['sockio_send_kprobe', 'sockio_receive_kprobe', 'sockio_sent_noted', 'sockio_received_noted'],
    needs: ['kprobe', ...LENGTHS],
  }),
];

/** Pages that a process sends without touching them, where the provider does not show them. */
const PAGES: Alternative = { program: 'sockio_sendpage_exit', needs: ['fentry', 'function:tcp_sendpage'] };

function programs(provider: HttpConfig['provider']): Purpose[] {
  const payload = PAYLOAD.filter((alternative) => provider === 'auto' || alternative.provider === provider);
  return [
    { purpose: 'payload', alternatives: payload },
    { purpose: 'sendfile', alternatives: [PAGES], optional: true },
    {
      purpose: 'end of connections',
      alternatives: [
        {
          program: ['http_state', 'http_state_nested', 'http_state_nested2', 'http_state_nested3'],
          needs: [PREEMPTIBLE_TRACEPOINTS],
        },
        { program: ['http_state', 'http_state_nested'] },
      ],
    },
    {
      purpose: 'requests in flight',
      alternatives: [
        {
          program: 'http_walk',
          needs: ['iter:bpf_sk_storage_map'],
          attach: (program, object) => program.attachIterator({ map: object.map('http_conns') }),
        },
        { program: 'http_walk_files', attach: (program) => program.attachIterator() },
      ],
    },
  ];
}

export interface HttpProbeOptions {
  readonly loader: BpfLoader;
  readonly config: Pick<Config, 'detail'> & {
    readonly probes: { readonly http: HttpConfig };
    readonly identity: Pick<Config['identity'], 'zones'>;
  };
  /** Of the core, which must be loaded by the same loader. */
  readonly table: EdgeTable;
  readonly directory: EdgeDirectory;
  /** What the core was told of owners: `agent_tgid`, `cgroup_subsystem`. */
  readonly rodata: Readonly<Record<string, VariableValue>>;
  readonly store: SeriesStore;
  /** Takes sampled requests; left out, nothing is sampled. */
  readonly spans?: SpanSink | undefined;
  /** Processors that share counters in the kernel; more spread the load over more memory. */
  readonly shards?: number;
}

/** The running probe. */
export interface HttpProbe {
  readonly loaded: LoadedProbe;
  readonly source: HttpSource;
  /** Takes in what waits in the ring buffer, without waiting for the event loop. */
  drain(): void;
  /** Detaches everything. Idempotent. */
  close(): void;
}

/** The bucket bounds as the kernel wants them: `const volatile u64 [24]`. */
function boundsValue(seconds: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(24 * 8);
  for (const [i, bound] of seconds.entries()) bytes.writeBigUInt64LE(BigInt(Math.round(bound * 1e9)), 8 * i);
  return bytes;
}

function rodata({
  loader,
  config,
  store,
  spans,
  shards = 1,
  rodata,
}: HttpProbeOptions): Record<string, VariableValue> {
  const { sampling, routes, idle_seconds } = config.probes.http;
  const bounds = store.bounds('http.server.request.duration');
  return {
    ...rodata,
    sockio_stand_by: loader.features.missing(PREEMPTIBLE_TRACEPOINTS) === undefined,
    http_bounds_ns: boundsValue(bounds),
    http_bounds: bounds.length,
    http_idle_ns: BigInt(idle_seconds) * 1_000_000_000n,
    http_shard_mask: 2 ** Math.floor(Math.log2(Math.max(1, shards))) - 1,
    http_fold_identifiers: !needsExactPaths(routes.patterns),
    http_spans: spans !== undefined,
    http_sample_share: Math.min(0xffff_ffff, Math.round(sampling.ratio * 2 ** 32)),
    http_sample_errors: sampling.errors,
    http_sample_slow_ns: BigInt(Math.round(sampling.slow_millis * 1e6)),
    http_spans_per_second: sampling.spans_per_second,
  };
}

/**
 * Loads and attaches the probe; requests are counted from here on.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function createHttpProbe(options: HttpProbeOptions): HttpProbe {
  const { loader, config, store, table, directory } = options;
  const { routes, provider } = config.probes.http;
  const loaded = loader.load({
    object: 'http',
    programs: programs(provider),
    rodata: rodata(options),
    maxEntries: { http_routes: routes.max_paths },
    shares: CORE_MAPS,
  });
  const records = new Records(loaded.btf);
  const book = new RouteBook({ patterns: routes.patterns, maxRoutes: routes.max_routes });
  const paths = new Paths({
    routes: loaded.map('http_routes'),
    records,
    book,
    directory,
    learn: () => directory.learn(table.read()),
  });
  const span =
    options.spans === undefined ? () => {} : sampleReader(options, loaded, records, paths, () => source);
  const read = createEventReader(loaded.btf, { paths: (events) => paths.take(events), span });
  const ring = new RingBuffer(loaded.map('http_events'), read).unref();
  const drain = () => {
    for (let batch = ring.take(); batch !== undefined; batch = ring.take()) read(batch.buffer);
  };
  const control = new Control(loaded.map('http_control'), records, options.spans);
  const source: HttpSource = new HttpSource({
    requests: loaded.map('http_requests'),
    active: loaded.map('http_active'),
    shared: loaded.map('http_shared'),
    records,
    paths,
    directory,
    store,
    labels: { detail: config.probes.http.detail ?? config.detail, zones: config.identity.zones },
    routes: () => book.size,
    drain,
    walk: () => void (loaded.links.get('http_walk') ?? loaded.links.get('http_walk_files'))?.read(),
  });
  const close = () => {
    control.close();
    ring.close();
    loaded.close();
  };
  return { loaded, source, drain, close };
}

function sampleReader(
  { directory, table, spans, store }: HttpProbeOptions,
  loaded: LoadedProbe,
  records: Records,
  paths: Paths,
  source: () => HttpSource,
): (batch: Buffer, at: number) => void {
  if (spans === undefined) throw new Error('no span sink');
  const lost = createLost(store);
  return createSampleReader({
    btf: loaded.btf,
    records,
    paths,
    directory,
    sink: spans,
    learn: () => directory.learn(table.read()),
    exemplar: (key, route, record, identity) => {
      const histogram = source().histogram(key, route);
      if (histogram !== undefined) addExemplar(histogram, record, identity);
    },
    unnamed: () => lost('http_span_unnamed'),
  });
}

/** How often it is looked whether somebody wants spans. */
const SAMPLING_CHECK_MILLIS = 250;

/** Tells the kernel since when it sees connections from their first byte, and whether somebody wants samples. */
class Control {
  readonly #map: BpfMap;
  readonly #records: Records;
  readonly #sink: SpanSink | undefined;
  readonly #startedNs = process.hrtime.bigint();
  readonly #timer: NodeJS.Timeout | undefined;
  #sampling: boolean | undefined;

  constructor(map: BpfMap, records: Records, sink: SpanSink | undefined) {
    this.#map = map;
    this.#records = records;
    this.#sink = sink;
    this.check();
    if (sink !== undefined) this.#timer = setInterval(() => this.check(), SAMPLING_CHECK_MILLIS).unref();
  }

  check(): void {
    const sampling = this.#sink?.active ?? false;
    if (sampling === this.#sampling) return;
    this.#sampling = sampling;
    const { size, started, sampling: at } = this.#records.control;
    const value = Buffer.alloc(size);
    value.writeBigUInt64LE(this.#startedNs, started);
    value.writeUInt32LE(sampling ? 1 : 0, at);
    this.#map.update(Buffer.alloc(4), value);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

function start(context: ProbeContext, settings: HttpConfig): RunningProbe {
  const { loader, core, config, store, spans } = context;
  const { source, loaded, close } = createHttpProbe({
    loader,
    config: { ...config, probes: { http: settings } },
    table: core.table,
    directory: core.directory,
    rodata: core.ownerRodata,
    store,
    spans,
  });
  return { sources: [source], objects: [loaded], problems: () => [], lost: () => source.lost(), close };
}
