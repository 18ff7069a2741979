// The shape of one metric definition and the helpers the metric tables are written with. Imports nothing, so that every
// table can be imported by the catalogue.

/** How a metric behaves. `updowncounter` is a sum that may fall (open connections). */
export type MetricKind = 'counter' | 'gauge' | 'updowncounter' | 'histogram';

/** One metric. `name` and `unit` (UCUM) are OpenTelemetry's; the Prometheus name derives from them. `A`: attribute names. */
export interface MetricDefinition<A extends string = string> {
  readonly name: string;
  readonly kind: MetricKind;
  /** UCUM: `s`, `By`, `1`, `{connection}`; '' where there is none (info metrics, fixed names). */
  readonly unit: string;
  /** One sentence; becomes HELP. */
  readonly description: string;
  readonly attributes: readonly A[];
  /** Upper bounds of the explicit buckets (inclusive), ascending; histograms only. */
  readonly buckets?: readonly number[];
  /** Allowed values of an attribute where this metric has a set of its own. */
  readonly values?: { readonly [name: string]: readonly string[] };
  /** Name of the probe, or of the part of the agent (metrics_agent.ts), that yields it. */
  readonly probe: string;
  readonly stability: 'stable' | 'development';
}

/** Keeps the literal types of a metric table. */
export function defineMetrics<const T extends readonly MetricDefinition[]>(metrics: T): T {
  return metrics;
}

/** Bounds for network latencies in seconds: 100 µs to 10 s. */
export const LATENCY_SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const;

/** Bounds that the HTTP metrics convention advises for durations in seconds. */
export const HTTP_DURATION_SECONDS = [
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
] as const;

/** Bounds for body sizes in bytes: powers of four from 64 B to 1 GiB. The convention advises none. */
export const BODY_BYTES = [
  64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864, 268_435_456,
  1_073_741_824,
] as const;
