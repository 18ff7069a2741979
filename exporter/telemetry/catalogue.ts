// The catalogue: every metric the agent can emit. The exporter's names, docs/metrics.md, the dashboards' queries and
// the alerts all derive from it. Append to the metric tables; never rename (a rename breaks every saved query).
import { ATTRIBUTES, type AttributeDefinition, type AttributeName } from './attributes.ts';
import type { MetricDefinition, MetricKind } from './definition.ts';
import { AGENT_METRICS } from './metrics_agent.ts';
import { HTTP_METRICS } from './metrics_http.ts';
import { TCP_METRICS } from './metrics_tcp.ts';

export { ATTRIBUTES, type AttributeDefinition, type AttributeName } from './attributes.ts';
export type { MetricDefinition, MetricKind } from './definition.ts';
export { labelName, prometheusName, prometheusUnit } from './prometheus_name.ts';

/** All metrics, in the order of the exposition and of the reference. */
export const CATALOGUE = [...TCP_METRICS, ...HTTP_METRICS, ...AGENT_METRICS] as const;

type Entry = (typeof CATALOGUE)[number];

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

/** The attribute's definition. */
export function attributeDefinition(name: AttributeName): AttributeDefinition {
  return ATTRIBUTES[name];
}

/** Allowed values of an attribute on a metric; undefined where the set is open. */
export function allowedValues(metric: MetricDefinition, name: AttributeName): readonly string[] | undefined {
  return metric.values?.[name] ?? attributeDefinition(name).values;
}
