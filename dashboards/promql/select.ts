// Selectors: where a query begins. Each takes a metric of the catalogue by its OpenTelemetry name and matchers typed by
// that metric. Called by the query functions of dashboards/ and alerts/.
import {
  labelName,
  type MetricName,
  type MetricNameOf,
  metricDefinition,
  prometheusName,
} from '../../exporter/telemetry/catalogue.ts';
import type { ERROR_ATTRIBUTE, RequestProtocol, Side } from '../../exporter/telemetry/requests/protocol.ts';
import { atom, type Vector } from './expression.ts';
import { type Match, type Matchers, matcherText } from './matchers.ts';
import type { LabelOf, Underscored } from './names.ts';

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

/** Labels that the duration histograms of all protocols have. */
export type RequestLabel = LabelOf<'knp.tcp.sent_bytes'> | Underscored<typeof ERROR_ATTRIBUTE>;
/** A label that only one protocol's histograms have; made by {@link operationLabels}. */
export type ProtocolLabel = string & { readonly [labels]: 'protocol' };

type RequestMatchers = Matchers<'knp.tcp.sent_bytes'> & {
  readonly [L in Underscored<typeof ERROR_ATTRIBUTE>]?: Match<string>;
};

/** The histogram that counts requests of a protocol, as one side measured them. */
export function requestHistogram(
  { durations, only = {} }: RequestProtocol,
  side: Side,
  matchers: RequestMatchers = {},
): HistogramSelector<RequestLabel | ProtocolLabel> {
  const own = Object.entries(only).map(([attribute, value]) => [labelName(attribute), value]);
  return histogramOf(
    prometheusName(durations[side]),
    matcherText({ ...Object.fromEntries(own), ...matchers }),
  );
}

/** Labels that say what was asked. */
export const operationLabels = ({ operation }: RequestProtocol): readonly ProtocolLabel[] =>
  operation.map(({ attribute }) => labelName(attribute) as ProtocolLabel);

/** The label that says how it ended. */
export const statusLabel = ({ status }: RequestProtocol): ProtocolLabel =>
  labelName(status.attribute) as ProtocolLabel;

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
