// Everything that measures, wired together: identity, series store, probes, collector; no server, no export. Made by
// the agent and by commands that measure for themselves.
import type { Config } from '../config/schema.ts';
import { createHostIdentity } from '../identity/host.ts';
import type { Identity } from '../identity/types.ts';
import { BpfLoader, ProbeError } from '../kernel/loader.ts';
import { createTcpProbe, type TcpProbe } from '../probes/tcp/index.ts';
import { Collector, type Source } from '../telemetry/collector.ts';
import type { Log } from '../telemetry/log.ts';
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
  /** True when every enabled probe is attached and was read at least once. */
  ready(): boolean;
  /** Detaches all programs and stops all watchers. Idempotent. */
  close(): Promise<void>;
}

function createStore({ limits, probes }: Config): SeriesStore {
  const durations = probes.http.duration_buckets_seconds;
  return new SeriesStore({
    seriesPerMetric: limits.series_per_metric,
    idleMillis: limits.series_idle_seconds * 1000,
    buckets: { 'http.server.request.duration': durations, 'http.client.request.duration': durations },
  });
}

/**
 * Loads and attaches all enabled probes; they count from here on.
 * @throws CliError where this kernel or this process' rights do not allow it.
 */
export async function startMeasurement(config: Config, log: Log): Promise<Measurement> {
  const loader = new BpfLoader();
  const problem = loader.features.preflight();
  if (problem !== undefined) throw new CliError(problem.sentence);
  const measurement = new Running(config, loader, log);
  try {
    await measurement.start();
    return measurement;
  } catch (error) {
    await measurement.close();
    throw error instanceof ProbeError ? new CliError(error.message, EXIT.failure, { cause: error }) : error;
  }
}

class Running implements Measurement {
  readonly store: SeriesStore;
  readonly collector: Collector;
  readonly identity;
  readonly probes: ProbeStatus[] = [];
  readonly #config: Config;
  readonly #loader: BpfLoader;
  readonly #kernel;
  #tcp: TcpProbe | undefined;

  constructor(config: Config, loader: BpfLoader, log: Log) {
    const { identity, kubernetes, bpf } = config;
    this.#config = config;
    this.#loader = loader;
    this.store = createStore(config);
    this.collector = new Collector({ store: this.store, log });
    this.identity = createHostIdentity({
      ranges: identity.ranges,
      ...(kubernetes.node_name !== '' && { nodeName: kubernetes.node_name }),
      proc: identity.proc_path,
      root: identity.root_path,
      listener: (port) => this.#tcp?.directory.listener(port),
    });
    this.#kernel = createKernelSource({ store: this.store, stats: bpf.stats, lost: () => this.lost() });
  }

  async start(): Promise<void> {
    this.#startTcp();
    this.collector.add(this.#kernel);
    this.collector.add(this.#readiness());
    await this.identity.start();
  }

  #startTcp(): void {
    const { probes, detail } = this.#config;
    if (!probes.tcp.enabled) {
      this.probes.push({ name: 'tcp', state: 'disabled', hooks: [] });
      return;
    }
    const config = { ...this.#config, detail: probes.tcp.detail ?? detail };
    const { identity, store } = this;
    const tcp = createTcpProbe({ loader: this.#loader, config, identity, store });
    this.#tcp = tcp;
    this.collector.add(tcp.source);
    this.#kernel.watch(tcp.loaded);
    this.probes.push({ name: 'tcp', state: 'attached', hooks: tcp.loaded.choices });
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
    return this.#tcp?.table.lost() ?? {};
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

  ready(): boolean {
    return this.probes.every(
      ({ name, state }) => state === 'disabled' || (state === 'attached' && this.collector.wasRead(name)),
    );
  }

  async close(): Promise<void> {
    this.#tcp?.close();
    this.#loader.close();
    this.#kernel.close();
    await this.identity.stop();
  }
}
