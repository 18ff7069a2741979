// The catalogue: every metric the agent can emit, of all registered probes and of the agent itself. The exporter's names,
// docs/metrics.md, the dashboards' queries and the alerts all derive from it. Append to the metric tables; never rename
// (a rename breaks every saved query).
import { PROBES, type ProbeAttributes, type RegisteredProbe } from '../probes/definitions.ts';
import { type AttributeDefinition, COMMON_ATTRIBUTES } from './attributes.ts';
import type { MetricDefinition, MetricKind } from './definition.ts';
import { AGENT_METRICS, AGENT_PARTS } from './metrics_agent.ts';
import { GRAPH_METRICS, GRAPH_PART } from './metrics_graph.ts';

export type { AttributeDefinition } from './attributes.ts';
export type { MetricDefinition, MetricKind } from './definition.ts';
export { labelName, prometheusName, prometheusUnit } from './prometheus_name.ts';

type Entry =
  | RegisteredProbe['metrics'][number]
  | (typeof GRAPH_METRICS)[number]
  | (typeof AGENT_METRICS)[number];

/** All metrics, in the order of the exposition and of the reference. */
export const CATALOGUE = [
  ...PROBES.flatMap(({ metrics }): readonly MetricDefinition[] => metrics),
  ...GRAPH_METRICS,
  ...AGENT_METRICS,
] as readonly Entry[];

/** What metrics belong to: a probe, or a part of the agent. `probe` of a metric names it. */
export interface Part {
  readonly name: string;
  /** Heading in the reference. */
  readonly title: string;
  /** Whether series go when they are idle. */
  readonly series: 'expire' | 'keep';
}

/** All parts, in the order of the reference. */
export const PARTS: readonly Part[] = [...PROBES, GRAPH_PART, ...AGENT_PARTS];

/** Every attribute that a metric may carry. */
export const ATTRIBUTES = Object.assign(
  {},
  COMMON_ATTRIBUTES,
  ...PROBES.map(({ attributes }) => attributes ?? {}),
) as typeof COMMON_ATTRIBUTES & ProbeAttributes;

/** Name of an attribute, as in OTLP. */
export type AttributeName = keyof typeof ATTRIBUTES;

/** OpenTelemetry name of a metric. */
export type MetricName = Entry['name'];
/** The definition of metric `N`. */
export type DefinitionOf<N extends MetricName> = Extract<Entry, { readonly name: N }>;
/** Names of the metrics of one kind. */
export type MetricNameOf<K extends MetricKind> = Extract<Entry, { readonly kind: K }>['name'];
/** Names of the attributes of metric `N`. */
export type AttributeNameOf<N extends MetricName> = DefinitionOf<N>['attributes'][number];

type OptionalName = {
  [A in AttributeName]: (typeof ATTRIBUTES)[A] extends { readonly optional: true } ? A : never;
}[AttributeName];

type TableValue<A extends AttributeName> = (typeof ATTRIBUTES)[A] extends { readonly values: infer V }
  ? V extends readonly string[]
    ? V[number]
    : never
  : string | number;

/** Values that attribute `A` may take on metric `N`. */
export type AttributeValueOf<N extends MetricName, A extends AttributeName> =
  DefinitionOf<N> extends { readonly values: { readonly [K in A]: readonly (infer V)[] } }
    ? V
    : TableValue<A>;

/** Attributes of one series of metric `N`. An absent and an empty value are the same. */
export type AttributesOf<N extends MetricName> = {
  readonly [A in Exclude<AttributeNameOf<N>, OptionalName>]: AttributeValueOf<N, A>;
} & { readonly [A in Extract<AttributeNameOf<N>, OptionalName>]?: AttributeValueOf<N, A> | undefined };

const byName = new Map<string, MetricDefinition>(CATALOGUE.map((metric) => [metric.name, metric]));

/** The definition of a metric; throws when the catalogue has none of that name. */
export function metricDefinition(name: string): MetricDefinition {
  const definition = byName.get(name);
  if (definition === undefined) throw new Error(`no metric "${name}" in the catalogue`);
  return definition;
}

const partByName = new Map(PARTS.map((part) => [part.name, part]));

/** The part that a metric belongs to. */
export function partOf(metric: MetricDefinition): Part {
  const part = partByName.get(metric.probe);
  if (part === undefined) throw new Error(`${metric.name} belongs to "${metric.probe}", which is no part`);
  return part;
}

/** The attribute's definition; throws when there is none of that name. */
export function attributeDefinition(name: string): AttributeDefinition {
  const table: Readonly<Record<string, AttributeDefinition>> = ATTRIBUTES;
  const definition = table[name];
  if (definition === undefined) throw new Error(`no attribute "${name}" in the catalogue`);
  return definition;
}

/** Allowed values of an attribute on a metric; undefined where the set is open. */
export function allowedValues(metric: MetricDefinition, name: string): readonly string[] | undefined {
  return metric.values?.[name] ?? attributeDefinition(name).values;
}
