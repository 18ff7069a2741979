// Everything that measures, wired together: identity, series store, probes, collector; no server, no export. Made by
// the agent and by commands that measure for themselves.
import type { Config } from '../config/schema.ts';
import { createIdentity, type HostedIdentity } from '../identity/create.ts';
import type { Identity, OwnerInfo } from '../identity/types.ts';
import { BpfLoader, ProbeError } from '../kernel/loader.ts';
import { type RunningCore, startCore } from '../probes/core.ts';
import { PROBES } from '../probes/definitions.ts';
import type { AnyProbe } from '../probes/probe.ts';
import { Collector, type Source } from '../telemetry/collector.ts';
import type { Log } from '../telemetry/log.ts';
import type { SpanSink } from '../telemetry/spans/types.ts';
import { SeriesStore } from '../telemetry/store.ts';
import { createIdentitySource } from './identity_source.ts';
import { createKernelSource } from './kernel_source.ts';
import { ProbeSet } from './probe_set.ts';
import { StartError } from './start_error.ts';
import type { MapStatus, ProbeStatus } from './status.ts';

export interface Measurement {
  readonly store: SeriesStore;
  readonly collector: Collector;
  readonly identity: Identity;
  /** What became of each probe. */
  probes(): readonly ProbeStatus[];
  maps(): MapStatus[];
  /** What the kernel side lost since its start, by stage. */
  lost(): Readonly<Record<string, number>>;
  /** One sentence for each thing that is missing or wrong. */
  problems(): readonly string[];
  /** Share of open connections that have an edge of their own; null while there are none. */
  coverage(): number | null;
  /**
   * Loads and attaches all enabled probes; they count from here on. What is sampled goes to `spans`. When it throws,
   * nothing stays attached.
   * @throws StartError where the kernel refuses every probe.
   */
  start(spans?: SpanSink): Promise<void>;
  /** Attached probes that were not read yet. One that the kernel refuses is no reason to wait: the others measure. */
  unready(): { name: string; reason: string }[];
  /** Detaches all programs and stops all watchers. Idempotent. */
  close(): Promise<void>;
}

/** Bucket bounds that the probes' settings choose. */
function chosenBuckets(settings: Config['probes'], probes: readonly AnyProbe[]) {
  const byName: Readonly<Record<string, Config['probes'][keyof Config['probes']]>> = settings;
  const chosen = probes.map((probe) => {
    const own = byName[probe.name];
    return own === undefined ? {} : (probe.buckets?.(own) ?? {});
  });
  return Object.assign({}, ...chosen) as Record<string, readonly number[]>;
}

function createStore({ limits, probes }: Config): SeriesStore {
  return new SeriesStore({
    seriesPerMetric: limits.series_per_metric,
    idleMillis: limits.series_idle_seconds * 1000,
    buckets: chosenBuckets(probes, PROBES),
  });
}

/** Finds out whether measuring is possible here. @throws StartError where it is not; nothing is loaded yet. */
export async function prepareMeasurement(config: Config, log: Log): Promise<Measurement> {
  const loader = new BpfLoader();
  const problem = loader.features.preflight();
  if (problem !== undefined) throw new StartError(problem.sentence);
  let measurement: ProbedMeasurement | undefined;
  const identity = await createNames(config, log, (port) => measurement?.listener(port));
  measurement = new ProbedMeasurement({ config, loader, log, identity });
  return measurement;
}

/** Prepares and starts. */
export async function startMeasurement(config: Config, log: Log): Promise<Measurement> {
  const measurement = await prepareMeasurement(config, log);
  await measurement.start();
  return measurement;
}

/** Who both ends are. A wrong way to the API server is a wrong configuration. */
async function createNames(
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
    throw new StartError((error as Error).message, 'configuration', { cause: error });
  }
}

interface Parts {
  readonly config: Config;
  readonly loader: BpfLoader;
  readonly log: Log;
  readonly identity: HostedIdentity;
}

class ProbedMeasurement implements Measurement {
  readonly store: SeriesStore;
  readonly collector: Collector;
  readonly identity: HostedIdentity;
  readonly #parts: Parts;
  readonly #set: ProbeSet;
  readonly #kernel;
  #core: RunningCore | undefined;

  constructor(parts: Parts) {
    const { config, log, identity } = parts;
    this.#parts = parts;
    this.identity = identity;
    this.store = createStore(config);
    this.collector = new Collector({ store: this.store, log });
    this.#set = new ProbeSet(config.probes);
    this.#kernel = createKernelSource({
      store: this.store,
      stats: config.bpf.stats,
      lost: () => this.#set.lost(),
    });
  }

  async start(spans?: SpanSink): Promise<void> {
    const { loader, log, config } = this.#parts;
    const { identity, store } = this;
    try {
      await this.#set.start({ loader, identity, store, spans, log, config }, (features) => {
        this.#core = startCore({ loader, config, identity, features });
        return this.#core;
      });
    } catch (error) {
      await this.close();
      throw error instanceof ProbeError ? new StartError(error.message, 'host', { cause: error }) : error;
    }
    for (const { running } of this.#set.running) {
      for (const source of running.sources) this.collector.add(source);
      for (const object of running.objects) this.#kernel.watch(object);
    }
    this.collector.add(createIdentitySource({ store, identity }));
    this.collector.add(this.#kernel);
    this.collector.add(this.#readiness());
    await identity.start();
  }

  /** What only the whole can say; read last. */
  #readiness(): Source {
    return {
      name: 'agent',
      collect: () => {
        const waiting = new Set(this.unready().map(({ name }) => name));
        for (const { name, state, hooks } of this.probes()) {
          if (state === 'disabled') continue;
          const read = state === 'attached' && !waiting.has(name);
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

  /** Who listens on a port of this host. */
  listener(port: number): OwnerInfo | undefined {
    return this.#core?.listener(port);
  }

  probes(): readonly ProbeStatus[] {
    return this.#set.status();
  }

  maps(): MapStatus[] {
    return this.#kernel.maps();
  }

  lost(): Readonly<Record<string, number>> {
    return this.#set.lost();
  }

  problems(): readonly string[] {
    return [
      ...this.probes()
        .filter(({ state }) => state === 'failed')
        .map(({ name, reason }) => `${name} is not measured: ${reason}`),
      ...this.identity.stats().problems,
      ...this.#set.problems(),
    ];
  }

  coverage(): number | null {
    const { connections, named } = this.#core?.coverage() ?? { connections: 0, named: 0 };
    return connections > 0 ? named / connections : null;
  }

  unready(): { name: string; reason: string }[] {
    return this.#set.running
      .filter(({ running }) => !running.sources.every(({ name }) => this.collector.wasRead(name)))
      .map(({ name }) => ({ name, reason: 'not read yet' }));
  }

  async close(): Promise<void> {
    await this.#set.close();
    this.#parts.loader.close();
    this.#kernel.close();
    await this.identity.stop();
  }
}
