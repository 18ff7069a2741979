// Prometheus names of the catalogue's metrics and attributes, as types: what select.ts, the dashboards and the alerts
// may write in a query. A metric or label that is renamed in the catalogue no longer compiles here.
import type { AttributeNameOf, AttributeValueOf, MetricName } from '../../exporter/telemetry/catalogue.ts';

/** `http.route` → `http_route`: what `labelName` of the catalogue does to the attributes in use. */
export type Underscored<A extends string> = A extends `${infer Head}.${infer Rest}`
  ? `${Head}_${Underscored<Rest>}`
  : A;

/** Labels that are not the agent's: a scrape adds `job` and `instance`, its relabelling or external labels the others. */
export const TARGET_LABELS = ['job', 'instance', 'cluster', 'node'] as const;
export type TargetLabel = (typeof TARGET_LABELS)[number];

/** Labels that a stored series of metric `N` may have. */
export type LabelOf<N extends MetricName> = Underscored<AttributeNameOf<N>> | TargetLabel;

type AttributeOfLabel<N extends MetricName, L extends string> = {
  [A in AttributeNameOf<N>]: Underscored<A> extends L ? A : never;
}[AttributeNameOf<N>];

/** Values that label `L` may have on metric `N`: a union where the catalogue closes the set, else any string. */
export type LabelValueOf<N extends MetricName, L extends LabelOf<N>> = L extends TargetLabel
  ? string
  : AttributeValueOf<N, AttributeOfLabel<N, L>>;

/** A duration of PromQL, or a window that Grafana computes. */
export type Duration = `${number}${'s' | 'm' | 'h' | 'd' | 'w'}`;
export type Range = Duration | '$__rate_interval' | '$__range';

/** Every alert of alerts/ has this label: what the dashboards' annotations and the inhibition rules select. */
export const ALERT_LABEL = { name: 'app', value: 'kubenetprobe' } as const;
