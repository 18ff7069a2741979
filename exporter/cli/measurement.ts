// Everything that measures, wired together: identity, series store, probes, collector; no server, no export. Made by
// the agent and by commands that measure for themselves.
import type { Config } from '../config/schema.ts';
import { createIdentity, type HostedIdentity } from '../identity/create.ts';
import type { Identity, OwnerInfo } from '../identity/types.ts';
import { BpfLoader, ProbeError } from '../kernel/loader.ts';
import { type RunningCore, startCore } from '../probes/core.ts';
import { createHttpProbe, type HttpProbe } from '../probes/http/index.ts';
import { createIdentitySource } from '../probes/identity_source.ts';
import { createTcpProbe, type TcpProbe } from '../probes/tcp/index.ts';
import { Collector, type Source } from '../telemetry/collector.ts';
import type { Log } from '../telemetry/log.ts';
import type { SpanSink } from '../telemetry/spans/types.ts';
import { SeriesStore } from '../telemetry/store.ts';
import { CliError, EXIT } from './exit.ts';
import { createKernelSource } from './kernel_source.ts';
import type { MapStatus, ProbeStatus } from './status.ts';

export interface Measurement {
  readonly store: SeriesStore;
  readonly collector: Collector;
  readonly identity: Identity;
  readonly probes: readonly ProbeStatus[];
  maps(): MapStatus[];
  /** What the kernel side lost since its start, by stage. */
  lost(): Readonly<Record<string, number>>;
  /** Share of open connections that have an edge of their own; null while there are none. */
  coverage(): number | null;
  /**
   * Loads and attaches all enabled probes; they count from here on. What is sampled goes to `spans`. When it throws,
   * nothing stays attached.
   * @throws CliError where the kernel refuses what cannot be done without.
   */
  start(spans?: SpanSink): Promise<void>;
  /** Attached probes that were not read yet. One that the kernel refuses is no reason to wait: the others measure. */
  unready(): { name: string; reason: string }[];
  /** Detaches all programs and stops all watchers. Idempotent. */
  close(): Promise<void>;
}

function createStore({ limits, probes }: Config): SeriesStore {
  const durations = probes.http.duration_buckets_seconds;
  // The kernel counts all of them in the same buckets.
  const buckets = {
    'http.server.request.duration': durations,
    'http.client.request.duration': durations,
    'knp.http.server.time_to_first_byte': durations,
    traces_service_graph_request_server_seconds: durations,
    traces_service_graph_request_client_seconds: durations,
  };
  return new SeriesStore({
    seriesPerMetric: limits.series_per_metric,
    idleMillis: limits.series_idle_seconds * 1000,
    buckets,
  });
}

/** Finds out whether measuring is possible here. @throws CliError where it is not; nothing is loaded yet. */
export async function prepareMeasurement(config: Config, log: Log): Promise<Measurement> {
  const loader = new BpfLoader();
  const problem = loader.features.preflight();
  if (problem !== undefined) throw new CliError(problem.sentence);
  return Running.create(config, loader, log);
}

/** Prepares and starts. */
export async function startMeasurement(config: Config, log: Log): Promise<Measurement> {
  const measurement = await prepareMeasurement(config, log);
  await measurement.start();
  return measurement;
}

/** Who both ends are. A wrong way to the API server is a wrong configuration. */
async function namedBy(
  config: Config,
  log: Log,
  listener: (port: number) => OwnerInfo | undefined,
): Promise<HostedIdentity> {
  try {
    return await createIdentity({
      config,
      listener,
      log: { warn: (message) => log.warn({}, message), info: (message) => log.info({}, message) },
    });
  } catch (error) {
    if ((error as Error).name !== 'ConnectionConfigError') throw error;
    throw new CliError((error as Error).message, EXIT.usage, { cause: error });
  }
}

/** Tells what crossed from the kernel to the agent; read after the probe's own source. */
function countEvents(source: HttpProbe['source'], store: SeriesStore): Source {
  const events = (['path', 'span'] as const).map((kind) => {
    return { name: `${kind}_events`, counter: store.counter('knp.http.events', { kind }), seen: 0 };
  });
  const collect = () => {
    for (const event of events) {
      const total = source.counters[event.name] ?? 0;
      event.counter.add(total - event.seen);
      event.seen = total;
    }
  };
  return { name: 'http events', collect };
}

class Running implements Measurement {
  readonly store: SeriesStore;
  readonly collector: Collector;
  readonly identity: HostedIdentity;
  readonly probes: ProbeStatus[] = [];
  readonly #config: Config;
  readonly #loader: BpfLoader;
  readonly #kernel;
  #core: RunningCore | undefined;
  #tcp: TcpProbe | undefined;
  #http: HttpProbe | undefined;

  constructor(config: Config, loader: BpfLoader, log: Log, identity: HostedIdentity) {
    this.#config = config;
    this.#loader = loader;
    this.identity = identity;
    this.store = createStore(config);
    this.collector = new Collector({ store: this.store, log });
    this.#kernel = createKernelSource({
      store: this.store,
      stats: config.bpf.stats,
      lost: () => this.#core?.table.lost() ?? {},
    });
  }

  static async create(config: Config, loader: BpfLoader, log: Log): Promise<Running> {
    let running: Running | undefined;
    const identity = await namedBy(config, log, (port) => running?.listener(port));
    running = new Running(config, loader, log, identity);
    return running;
  }

  listener(port: number): OwnerInfo | undefined {
    return this.#core?.listener(port);
  }

  async start(spans?: SpanSink): Promise<void> {
    try {
      this.#startCore();
      this.#startTcp();
      this.#startHttp(spans);
    } catch (error) {
      await this.close();
      throw error instanceof ProbeError ? new CliError(error.message, EXIT.failure, { cause: error }) : error;
    }
    this.collector.add(createIdentitySource({ store: this.store, identity: this.identity }));
    this.collector.add(this.#kernel);
    this.collector.add(this.#readiness());
    await this.identity.start();
  }

  #startCore(): void {
    const { probes } = this.#config;
    if (!probes.tcp.enabled && !probes.http.enabled) return;
    const core = startCore({
      loader: this.#loader,
      config: this.#config,
      identity: this.identity,
      tcpTotals: probes.tcp.enabled,
    });
    this.#core = core;
    this.collector.add(core.source);
    this.#kernel.watch(core.loaded);
  }

  #startTcp(): void {
    const { probes, detail } = this.#config;
    if (!probes.tcp.enabled || this.#core === undefined) {
      this.probes.push({ name: 'tcp', state: 'disabled', hooks: [] });
      return;
    }
    const config = { ...this.#config, detail: probes.tcp.detail ?? detail };
    const tcp = createTcpProbe({ core: this.#core, config, store: this.store });
    this.#tcp = tcp;
    this.collector.add(tcp.source);
    this.probes.push({ name: 'tcp', state: 'attached', hooks: this.#core.loaded.choices });
  }

  /** Where the kernel refuses it, everything else goes on. */
  #startHttp(spans: SpanSink | undefined): void {
    const { store } = this;
    if (!this.#config.probes.http.enabled || this.#core === undefined) {
      this.probes.push({ name: 'http', state: 'disabled', hooks: [] });
      return;
    }
    const core = this.#core;
    try {
      this.#http = createHttpProbe({
        loader: this.#loader,
        config: this.#config,
        core,
        store,
        spans,
      });
    } catch (error) {
      if (!(error instanceof ProbeError)) throw error;
      this.#httpFailed(error.message, error.skipped);
      return;
    }
    this.collector.add(this.#http.requests.source);
    this.collector.add(this.#http.source);
    this.collector.add(countEvents(this.#http.source, store));
    this.#kernel.watch(this.#http.loaded);
    this.#kernel.watch(this.#http.http1);
    this.probes.push({ name: 'http', state: 'attached', hooks: this.#http.choices });
  }

  #httpFailed(reason: string, skipped: ProbeStatus['hooks'][number]['skipped']): void {
    const hooks = skipped.length === 0 ? [] : [{ purpose: 'payload', programs: [], hooks: [], skipped }];
    this.probes.push({ name: 'http', state: 'failed', reason, hooks });
  }

  /** What only the whole can say; read last. */
  #readiness(): Source {
    return {
      name: 'agent',
      collect: () => {
        for (const { name, state, hooks } of this.probes) {
          if (state === 'disabled') continue;
          const read = state === 'attached' && this.collector.wasRead(name);
          this.store.gauge('knp.probe.ready', { probe: name }).set(read ? 1 : 0);
          for (const hook of hooks.flatMap((purpose) => purpose.hooks)) {
            this.store.gauge('knp.probe.info', { probe: name, hook }).set(1);
          }
        }
        const coverage = this.coverage();
        if (coverage !== null) this.store.gauge('knp.agent.coverage_ratio', {}).set(coverage);
      },
    };
  }

  maps(): MapStatus[] {
    return this.#kernel.maps();
  }

  lost(): Readonly<Record<string, number>> {
    const http = Object.entries(this.#http?.source.counters ?? {})
      .filter(([name]) => name.startsWith('lost_'))
      .map(([name, count]) => [`http_${name.slice('lost_'.length)}`, count]);
    return { ...this.#core?.table.lost(), ...Object.fromEntries(http) };
  }

  coverage(): number | null {
    let all = 0;
    let other = 0;
    for (const { labels, value } of this.store.family('knp.tcp.connections').points) {
      all += value;
      if (labels.includes('_kind="other"')) other += value;
    }
    return all > 0 ? (all - other) / all : null;
  }

  unready(): { name: string; reason: string }[] {
    return this.probes
      .filter(({ name, state }) => state === 'attached' && !this.collector.wasRead(name))
      .map(({ name }) => ({ name, reason: 'not read yet' }));
  }

  async close(): Promise<void> {
    this.#http?.close();
    this.#tcp?.close();
    this.#core?.close();
    this.#loader.close();
    this.#kernel.close();
    await this.identity.stop();
  }
}
