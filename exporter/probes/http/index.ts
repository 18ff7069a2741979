// The HTTP probe: starts the stream layer and HTTP/1 on it (exporter/kernel/stream.ts), and gives the collector its source.
// It needs the core (exporter/probes/core.ts), loaded by the same loader.
import type { Config } from '../../config/schema.ts';
import type { BpfLoader, Choice, LoadedProbe } from '../../kernel/loader.ts';
import { RingBuffer } from '../../kernel/native.ts';
import type { VariableValue } from '../../kernel/object.ts';
import { type KernelStream, loadStream } from '../../kernel/stream.ts';
import { createLost } from '../../telemetry/lost.ts';
import { addExemplar } from '../../telemetry/spans/exemplars.ts';
import type { SpanSink } from '../../telemetry/spans/types.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import type { RunningCore } from '../core.ts';
import { createEventReader } from './events.ts';
import { Paths } from './paths.ts';
import { Records } from './records.ts';
import { needsExactPaths, RouteBook } from './routes.ts';
import { createSampleReader } from './samples.ts';
import { HttpSource } from './source.ts';

type HttpConfig = Config['probes']['http'];

export interface HttpProbeOptions {
  readonly loader: BpfLoader;
  readonly config: Pick<Config, 'detail'> & {
    readonly probes: { readonly http: HttpConfig };
    readonly identity: Pick<Config['identity'], 'zones'>;
  };
  /** Loaded by the same loader. */
  readonly core: RunningCore;
  readonly store: SeriesStore;
  /** Takes sampled requests; left out, nothing is sampled. */
  readonly spans?: SpanSink | undefined;
  /** Processors that share counters in the kernel; more spread the load over more memory. */
  readonly shards?: number;
}

/** The running probe. */
export interface HttpProbe {
  /** The stream object: the hooks that see bytes. */
  readonly loaded: LoadedProbe;
  readonly http1: LoadedProbe;
  /** Of both objects. */
  readonly choices: readonly Choice[];
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

/** What every object is told of requests. */
function requestRodata({ store, spans, shards = 1 }: HttpProbeOptions): Record<string, VariableValue> {
  const bounds = store.bounds('http.server.request.duration');
  return {
    request_bounds_ns: boundsValue(bounds),
    request_bounds: bounds.length,
    request_shard_mask: 2 ** Math.floor(Math.log2(Math.max(1, shards))) - 1,
    request_spans: spans !== undefined,
  };
}

function http1Rodata({ sampling, routes, idle_seconds }: HttpConfig): Record<string, VariableValue> {
  return {
    stream_idle_ns: BigInt(idle_seconds) * 1_000_000_000n,
    http1_fold_identifiers: !needsExactPaths(routes.patterns),
    request_sample_share: Math.min(0xffff_ffff, Math.round(sampling.ratio * 2 ** 32)),
    request_sample_errors: sampling.errors,
    request_sample_slow_ns: BigInt(Math.round(sampling.slow_millis * 1e6)),
    request_spans_per_second: sampling.spans_per_second,
  };
}

/**
 * Loads and attaches the probe; requests are counted from here on.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function createHttpProbe(options: HttpProbeOptions): HttpProbe {
  const { loader, config, core } = options;
  const { routes, provider } = config.probes.http;
  const stream = loadStream({
    loader,
    core,
    provider,
    requestRodata: requestRodata(options),
    maxEntries: { request_names: routes.max_paths },
  });
  try {
    const http1 = stream.addProtocol({ name: 'http1', rodata: http1Rodata(config.probes.http) });
    return runProbe(options, stream, http1);
  } catch (error) {
    stream.close();
    throw error;
  }
}

function runProbe(options: HttpProbeOptions, stream: KernelStream, http1: LoadedProbe): HttpProbe {
  const { config, store, core } = options;
  const { table, directory } = core;
  const { routes } = config.probes.http;
  const records = new Records(http1.btf);
  const book = new RouteBook({ patterns: routes.patterns, maxRoutes: routes.max_routes });
  const paths = new Paths({
    routes: http1.map('request_names'),
    records,
    book,
    directory,
    learn: () => directory.learn(table.read()),
  });
  const span =
    options.spans === undefined ? () => {} : sampleReader(options, http1, records, paths, () => source);
  const read = createEventReader(http1.btf, { paths: (events) => paths.take(events), span });
  const ring = new RingBuffer(http1.map('request_events'), read).unref();
  const drain = () => {
    for (let batch = ring.take(); batch !== undefined; batch = ring.take()) read(batch.buffer);
  };
  const active = http1.map('request_active');
  const ignore = core.source.listen({ beforeWalk: () => active.clear() });
  const sampling = watchSampling(stream, options.spans);
  const source: HttpSource = new HttpSource({
    requests: http1.map('requests'),
    active,
    states: http1.map('request_states'),
    records,
    paths,
    directory,
    store,
    labels: { detail: config.probes.http.detail ?? config.detail, zones: config.identity.zones },
    routes: () => book.size,
    drain,
  });
  const close = () => {
    clearInterval(sampling);
    ignore();
    ring.close();
    stream.close();
  };
  const choices = [...stream.loaded.choices, ...http1.choices];
  return { loaded: stream.loaded, http1, choices, source, drain, close };
}

function sampleReader(
  { core, spans, store }: HttpProbeOptions,
  loaded: LoadedProbe,
  records: Records,
  paths: Paths,
  source: () => HttpSource,
): (batch: Buffer, at: number) => void {
  if (spans === undefined) throw new Error('no span sink');
  const { directory, table } = core;
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

/** How often it is looked whether spans are wanted. */
const SAMPLING_CHECK_MILLIS = 250;

/** Tells the kernel whether samples are wanted, now and from time to time. */
function watchSampling(stream: KernelStream, sink: SpanSink | undefined): NodeJS.Timeout | undefined {
  if (sink === undefined) return undefined;
  const check = () => stream.setSampling(sink.active);
  check();
  return setInterval(check, SAMPLING_CHECK_MILLIS).unref();
}
