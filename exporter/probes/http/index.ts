// The HTTP probe: starts the stream layer (exporter/probes/requests/stream.ts) and HTTP/1 on it, and gives the collector
// its source. It needs the core (exporter/probes/core.ts), loaded by the same loader.
import type { z } from 'zod';
import type { Config } from '../../config/schema.ts';
import type { BpfLoader, Choice, LoadedProbe } from '../../kernel/loader.ts';
import type { VariableValue } from '../../kernel/object.ts';
import { createLost } from '../../telemetry/lost.ts';
import { addExemplar } from '../../telemetry/spans/exemplars.ts';
import type { SpanSink } from '../../telemetry/spans/types.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import type { RunningCore } from '../core.ts';
import type { Probe, ProbeContext, RunningProbe } from '../probe.ts';
import { type RequestStream, sharedStream, startStream } from '../requests/stream.ts';
import { needsExactPaths, OVERFLOW_ROUTE, RouteBook } from './routes.ts';
import { spanRecord } from './samples.ts';
import { HttpNames } from './series.ts';
import type { HTTP_SETTINGS } from './settings.ts';
import { HttpSource } from './source.ts';

export const probe: Probe<typeof HTTP_SETTINGS> = { start };

type HttpConfig = z.output<typeof HTTP_SETTINGS>;

export interface HttpProbeOptions {
  readonly loader: BpfLoader;
  readonly config: Pick<Config, 'detail'> & {
    readonly probes: { readonly http: HttpConfig };
    readonly identity: Pick<Config['identity'], 'zones'>;
    /** `stats`: count what the programs of protocols cost. Off when left out. */
    readonly bpf?: Pick<Config['bpf'], 'stats'>;
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
  /** Its source is read before this probe's. */
  readonly requests: RequestStream;
  readonly source: HttpSource;
  /** Takes in what waits in the ring buffer, without waiting for the event loop. */
  drain(): void;
  /** Detaches everything. Idempotent. */
  close(): void;
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
 * Loads and attaches the stream layer and the probe; requests are counted from here on.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function createHttpProbe(options: HttpProbeOptions): HttpProbe {
  const { loader, config, core, spans } = options;
  const stream = startStream({
    loader,
    core,
    spans,
    provider: config.probes.http.provider,
    maxEntries: { request_names: config.probes.http.routes.max_paths },
    rodata: { stream_stats: config.bpf?.stats ?? false },
  });
  try {
    return addHttp1(options, stream);
  } catch (error) {
    stream.close();
    throw error;
  }
}

function start(context: ProbeContext, settings: HttpConfig): RunningProbe {
  const { loader, core, config, store, spans } = context;
  const options = { loader, core, config: { ...config, probes: { http: settings } }, store, spans };
  const { source, http1 } = addHttp1(options, sharedStream(context));
  return {
    sources: [source],
    objects: [http1],
    problems: () => [],
    lost: () => source.lost(),
    close: () => http1.close(),
  };
}

function addHttp1({ config, store, shards }: HttpProbeOptions, stream: RequestStream): HttpProbe {
  const { routes } = config.probes.http;
  const book = new RouteBook({ patterns: routes.patterns, maxRoutes: routes.max_routes });
  const lost = createLost(store);
  const requests = stream.add({
    name: 'http1',
    rodata: http1Rodata(config.probes.http),
    bounds: store.bounds('http.server.request.duration'),
    shards,
    book: {
      overflow: OVERFLOW_ROUTE,
      get size() {
        return book.size;
      },
      learn: (server, path, cut) => book.route(server, path, cut),
      number: (route, first) => book.number(route, first),
      name: (number, first) => book.name(number, first),
    },
    record: (sample) => spanRecord(sample, names),
    exemplar: ({ key, name }, record, identity) => {
      const histogram = source.seriesOf(key, name)?.duration;
      if (histogram !== undefined) addExemplar(histogram, record, identity);
    },
    unnamed: () => lost('http_span_unnamed'),
  });
  const names = new HttpNames(requests.loaded.btf);
  const source: HttpSource = new HttpSource({
    requests,
    names,
    store,
    labels: { detail: config.probes.http.detail ?? config.detail, zones: config.identity.zones },
    routes: () => book.size,
  });
  return {
    loaded: stream.loaded,
    http1: requests.loaded,
    choices: [...stream.loaded.choices, ...requests.loaded.choices],
    requests: stream,
    source,
    drain: () => stream.drain(),
    close: () => stream.close(),
  };
}
