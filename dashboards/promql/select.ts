// Selectors: where a query begins. Each takes a metric of the catalogue by its OpenTelemetry name and matchers typed by
// that metric. Called by the query functions of dashboards/ and alerts/.
import {
  type MetricName,
  type MetricNameOf,
  metricDefinition,
  prometheusName,
} from '../../exporter/telemetry/catalogue.ts';
import { atom, type Vector } from './expression.ts';
import { type Matchers, matcherText } from './matchers.ts';
import type { LabelOf } from './names.ts';

declare const labels: unique symbol;

/** A counter, or the cumulative part of a histogram: to be read through `rate` or `increase`. */
export interface Cumulative<L extends string> {
  readonly selector: string;
  readonly [labels]?: (label: L) => L;
}

/** The three families of a histogram. */
export interface HistogramSelector<L extends string> {
  readonly bucket: Cumulative<L | 'le'>;
  readonly count: Cumulative<L>;
  readonly sum: Cumulative<L>;
}

const familyName = (name: MetricName): string => prometheusName(metricDefinition(name));

export function counter<N extends MetricNameOf<'counter'>>(
  name: N,
  matchers: Matchers<N> = {},
): Cumulative<LabelOf<N>> {
  return { selector: familyName(name) + matcherText(matchers) };
}

export function gauge<N extends MetricNameOf<'gauge' | 'updowncounter'>>(
  name: N,
  matchers: Matchers<N> = {},
): Vector<LabelOf<N>> {
  return atom(familyName(name) + matcherText(matchers));
}

export function histogram<N extends MetricNameOf<'histogram'>>(
  name: N,
  matchers: Matchers<N> = {},
): HistogramSelector<LabelOf<N>> {
  return histogramOf(familyName(name), matcherText(matchers));
}

/** What follows `http.server.` and `http.client.` in metrics that both sides report. */
export type HttpPart = {
  [N in MetricNameOf<'histogram'>]: N extends `http.server.${infer Part}`
    ? `http.client.${Part}` extends MetricName
      ? Part
      : never
    : never;
}[MetricNameOf<'histogram'>];

/** The histogram of the side that the dashboard's variable `reporter` names. */
export function httpHistogram<P extends HttpPart>(
  part: P,
  matchers: Matchers<`http.server.${P}` & MetricName> = {},
): HistogramSelector<LabelOf<`http.server.${P}` & MetricName>> {
  const family = familyName(`http.server.${part}` as MetricName);
  return histogramOf(family.replace(/^http_server_/, `http_\${reporter}_`), matcherText(matchers));
}

function histogramOf<L extends string>(family: string, matchers: string): HistogramSelector<L> {
  return {
    bucket: { selector: `${family}_bucket${matchers}` },
    count: { selector: `${family}_count${matchers}` },
    sum: { selector: `${family}_sum${matchers}` },
  };
}

/** Grafana's function for variables: the values of a label. */
export function labelValues<N extends MetricNameOf<'counter' | 'gauge' | 'updowncounter'>>(
  name: N,
  label: LabelOf<N>,
  matchers: Matchers<N>,
): string {
  return `label_values(${familyName(name)}${matcherText(matchers)}, ${label})`;
}
