// What a probe is. Its folder holds settings.ts and metrics.ts (data only), definition.ts, which puts them together, and
// index.ts, which does the work and is loaded only when the probe runs. One line in registry.ts makes it known; the
// agent, `doctor` and the documents know probes only through what is declared here.
import type { z } from 'zod';
import type { Config } from '../config/schema.ts';
import type { HostedIdentity } from '../identity/create.ts';
import type { BpfLoader, LoadedProbe } from '../kernel/loader.ts';
import type { StreamOptions } from '../kernel/stream.ts';
import type { AttributeDefinition, CommonAttributeName } from '../telemetry/attributes.ts';
import type { Source } from '../telemetry/collector.ts';
import type { MetricDefinition } from '../telemetry/definition.ts';
import type { Log } from '../telemetry/log.ts';
import type { RequestProtocol } from '../telemetry/requests/protocol.ts';
import type { SpanSink } from '../telemetry/spans/types.ts';
import type { SeriesStore } from '../telemetry/store.ts';
import type { TransportTraffic } from '../telemetry/traffic.ts';
import type { CoreFeature, RunningCore } from './core.ts';

/** Attributes that a probe declares for its own metrics, by name. */
export type OwnAttributes = Readonly<Record<string, AttributeDefinition>>;

/** What a probe may want of the stream layer, which all protocols share. */
export type StreamSettings = Partial<Pick<StreamOptions, 'provider' | 'maxEntries'>>;

/** The least that the settings of a probe hold. */
export interface ProbeSettings {
  readonly enabled: boolean;
}

/**
 * A probe as data: everything but the work. `N` is its name, `S` the schema of its settings, `M` its metrics, `A` its
 * own attributes. Write the type where a definition is declared: the types of the configuration and of the catalogue
 * are made of all definitions, so they cannot wait for one to be inferred.
 */
export interface ProbeDefinition<
  N extends string,
  S extends z.ZodType<ProbeSettings>,
  M extends readonly (MetricDefinition<CommonAttributeName | (keyof A & string)> & { readonly probe: N })[],
  A extends OwnAttributes = Readonly<Record<never, AttributeDefinition>>,
> {
  /** Lower case, as in `probes.<name>.enabled`; the same as its folder, and as `probe` of its metrics. */
  readonly name: N;
  /** Heading of its metrics in the reference. */
  readonly title: string;
  /** Other probes that must run for this one to work; they start first. */
  readonly needs: readonly string[];
  /** Its own BPF objects: `http1` for build/bpf/http1.bpf.o. The core's is every probe's. */
  readonly objects: readonly string[];
  /** What the core does beside its own work only where this probe is on. */
  readonly core?: readonly CoreFeature[];
  /**
   * `expire`: a series goes when nothing has happened on it for `limits.series_idle_seconds`; for everything that names
   * workloads. `keep`: only for few series that must not vanish because nothing goes wrong.
   */
  readonly series: 'expire' | 'keep';
  /** The section `probes.<name>` of the configuration. */
  readonly settings: S;
  /** Each with the name of the probe as its `probe`. */
  readonly metrics: M;
  /** Attributes that no other probe has; what two probes share stands in telemetry/attributes.ts. */
  readonly attributes?: A;
  /** Protocols whose requests it counts: `top`, `map`, `trace`, spans, dashboards and rules show them. */
  readonly requests?: readonly RequestProtocol[];
  /** Transports whose traffic it counts by edge: `top` and `map` show it. */
  readonly traffic?: readonly TransportTraffic[];
  /** Bucket bounds by metric, where the settings choose them instead of the catalogue. */
  buckets?(settings: z.output<S>): Readonly<Record<string, readonly number[]>>;
  /** What its settings say about the stream layer, whichever probe starts that. One probe says it. */
  stream?(settings: z.output<S>): StreamSettings;
  /** `() => import('./index.ts')`. */
  load(): Promise<ProbeModule<S>>;
}

/** Any probe's definition. */
export type AnyProbe = ProbeDefinition<
  string,
  z.ZodType<ProbeSettings>,
  readonly MetricDefinition[],
  OwnAttributes
>;

/** What index.ts of a probe exports. */
export interface ProbeModule<S extends z.ZodType = z.ZodType> {
  readonly probe: Probe<S>;
}

/** The work of a probe. */
export interface Probe<S extends z.ZodType = z.ZodType> {
  /**
   * Loads and attaches; the probe counts from here on. Whatever was opened is closed again when it throws.
   * @throws ProbeError when this kernel cannot do what the probe cannot do without; the others go on.
   */
  start(context: ProbeContext, settings: z.output<S>): RunningProbe | Promise<RunningProbe>;
}

/** What every probe is given. Shared by all of them: a probe closes nothing of it. */
export interface ProbeContext {
  readonly loader: BpfLoader;
  /**
   * Edges, owners and their names: probes key their maps by edge and label alike. Loaded when the first probe asks for it.
   * What keeps it from loading is thrown at each that asks.
   */
  readonly core: RunningCore;
  readonly identity: HostedIdentity;
  readonly store: SeriesStore;
  /** Takes sampled requests; undefined where nothing can take them, so that nothing need be sampled. */
  readonly spans: SpanSink | undefined;
  readonly log: Log;
  /** The configuration beside the probes' own sections: `detail`, `limits`, `identity`, ... */
  readonly config: Omit<Config, 'probes'>;
  /** For the stream layer: what the settings of all enabled probes want of it (exporter/probes/requests/stream.ts). */
  readonly stream: StreamSettings;
  /**
   * What several probes share and what runs only where one of them does (the stream layer): the first call starts it,
   * later ones get the same. Its sources are read before those of the probe that asked first; it is closed after all
   * probes, and `doctor` shows it under `name`. What the first call throws, later ones throw again.
   */
  shared<T extends RunningProbe>(name: string, start: () => T): T;
}

/** A probe that counts. */
export interface RunningProbe {
  /** All probes have started, or failed: what has to wait for the last of them. */
  begin?(): void;
  /** Read at each collection in this order, after those of the probes that started before. */
  readonly sources: readonly Source[];
  /** BPF objects it has loaded. The agent tells what their programs cost, which hooks they use, how full their maps are. */
  readonly objects: readonly LoadedProbe[];
  /** One sentence for each thing that is missing or wrong and that a person can mend. */
  problems(): readonly string[];
  /** Totals since the start by stage, in snake case; the agent adds their growth to `knp.agent.lost`. */
  lost(): Readonly<Record<string, number>>;
  /** Detaches everything. Idempotent. */
  close(): void | Promise<void>;
}
