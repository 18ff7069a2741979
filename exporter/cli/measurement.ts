// Everything that measures, wired together: identity, series store, probes, collector; no server, no export. Made by
// the agent and by commands that measure for themselves.
import type { Config } from '../config/schema.ts';
import { createHostIdentity } from '../identity/host.ts';
import type { Identity } from '../identity/types.ts';
import { KernelFeatures } from '../kernel/features.ts';
import { createTcpProbe, type TcpProbe } from '../probes/tcp/index.ts';
import { Collector } from '../telemetry/collector.ts';
import type { Log } from '../telemetry/log.ts';
import { SeriesStore } from '../telemetry/store.ts';
import { CliError } from './exit.ts';
import { createKernelSource, type KernelSource } from './kernel_source.ts';
import type { ProbeStatus } from './status.ts';

export interface Measurement {
  readonly store: SeriesStore;
  readonly collector: Collector;
  readonly identity: Identity;
  readonly probes: readonly ProbeStatus[];
  readonly kernel: KernelSource;
  /** True when every enabled probe is attached and was read at least once. */
  ready(): boolean;
  /** Detaches all programs and stops all watchers. Idempotent. */
  close(): Promise<void>;
}

/** Where the agent is impossible: one sentence that says what to do. */
function requireKernel(): void {
  const problem = new KernelFeatures().preflight();
  if (problem !== undefined) throw new CliError(problem.sentence);
}

function createStore(config: Config): SeriesStore {
  const { limits, probes } = config;
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
  requireKernel();
  const store = createStore(config);
  const collector = new Collector({ store, log });
  let tcp: TcpProbe | undefined;
  const identity = createHostIdentity({
    ranges: config.identity.ranges,
    ...(config.kubernetes.node_name !== '' && { nodeName: config.kubernetes.node_name }),
    proc: config.identity.proc_path,
    root: config.identity.root_path,
    listener: (port) => tcp?.directory.listener(port),
  });
  const kernel = createKernelSource({ store, collector, stats: config.bpf.stats });
  const probes: ProbeStatus[] = [];
  const close = async () => {
    tcp?.close();
    kernel.close();
    await identity.stop();
  };
  try {
    if (config.probes.tcp.enabled) {
      const detail = config.probes.tcp.detail ?? config.detail;
      tcp = createTcpProbe({ config: { ...config, detail }, identity, store });
      collector.add(tcp.source);
      kernel.watch(tcp);
      probes.push({ name: 'tcp', state: 'attached', hooks: [] });
    } else {
      probes.push({ name: 'tcp', state: 'disabled', hooks: [] });
    }
    await identity.start();
  } catch (error) {
    await close();
    throw error;
  }
  collector.add(kernel);
  const attached = probes.filter(({ state }) => state === 'attached');
  const ready = () => attached.every(({ name }) => collector.wasRead(name));
  return { store, collector, identity, probes, kernel, ready, close };
}
