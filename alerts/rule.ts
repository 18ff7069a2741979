// Recording rules and alerts as values: typed by the labels of their expressions. Called by the groups of this folder.

import { atom, type Vector } from '../dashboards/promql/expression.ts';
import { matcherText } from '../dashboards/promql/matchers.ts';
import { ALERT_LABEL, type Duration } from '../dashboards/promql/names.ts';
import type { RequestProtocol } from '../exporter/telemetry/requests/protocol.ts';
import type { AlertName, Settings } from './settings.ts';

/** One rule as Prometheus reads it. */
export type Rule =
  | {
      readonly record: string;
      readonly expr: string;
      readonly labels?: Readonly<Record<string, string>> | undefined;
    }
  | {
      readonly alert: AlertName;
      readonly expr: string;
      readonly for: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly annotations: Readonly<Record<'summary' | 'description' | 'runbook_url', string>>;
    };

export interface Group {
  readonly name: string;
  readonly interval: string;
  readonly rules: readonly Rule[];
}

/** A recording rule, or several under one name, and how other rules read it. */
export interface Recorded<L extends string> {
  readonly rules: readonly Rule[];
  read(options?: { readonly offset?: Duration }): Vector<L>;
}

/** `knp:<level>_<what>:<operation>`: the labels of the expression are the level. */
export function recorded<L extends string>(name: `knp:${string}:${string}`, of: Vector<L>): Recorded<L> {
  return {
    rules: [{ record: name, expr: of.promql }],
    read: reader(name),
  };
}

/** The same of each protocol; the label `protocol` tells which. */
export function recordedByProtocol<L extends string>(
  name: `knp:${string}:${string}`,
  protocols: readonly RequestProtocol[],
  of: (protocol: RequestProtocol) => Vector<L>,
): Recorded<L | 'protocol'> {
  return {
    rules: protocols.map((protocol) => ({
      record: name,
      expr: of(protocol).promql,
      labels: { protocol: protocol.name },
    })),
    read: reader(name),
  };
}

const reader =
  <L extends string>(name: string): Recorded<L>['read'] =>
  ({ offset } = {}) =>
    atom(offset === undefined ? name : `${name} offset ${offset}`);

/** Puts a label or the value of an alert into its texts. */
export interface Text<L extends string> {
  readonly value: string;
  /** 0.05 → 5% */
  readonly percent: string;
  /** In seconds → 1.5s, 20ms */
  readonly duration: string;
  /** Label that is always there. */
  label(name: L): string;
  /** namespace/name, without the namespace outside Kubernetes. */
  workload(side: Side<L>): string;
}
type Side<L extends string> =
  | ('server_workload' extends L ? ('server_namespace' extends L ? 'server' : never) : never)
  | ('client_workload' extends L ? ('client_namespace' extends L ? 'client' : never) : never);

const text = <L extends string>(): Text<L> => ({
  value: '{{ $value | humanize }}',
  percent: '{{ $value | humanizePercentage }}',
  duration: '{{ $value | humanizeDuration }}',
  label: (name) => `{{ $labels.${name} }}`,
  workload: (side) => `{{ with $labels.${side}_namespace }}{{ . }}/{{ end }}{{ $labels.${side}_workload }}`,
});

interface AlertSpec<L extends string> {
  readonly severity: 'critical' | 'warning';
  /** Which part of the picture it belongs to. */
  readonly component: 'service' | 'tcp' | 'agent';
  readonly expr: Vector<L>;
  /** One line with the numbers. */
  summary(text: Text<L>): string;
  /** What it means and what to do first. */
  description(text: Text<L>): string;
}

export function alert<L extends string>(name: AlertName, settings: Settings, spec: AlertSpec<L>): Rule {
  return {
    alert: name,
    expr: spec.expr.promql,
    for: settings.hold[name],
    labels: { severity: spec.severity, component: spec.component, [ALERT_LABEL.name]: ALERT_LABEL.value },
    annotations: {
      summary: spec.summary(text<L>()),
      description: spec.description(text<L>()),
      runbook_url: `${settings.runbooks}/${name}.md`,
    },
  };
}

/** Prometheus' own metric about a target: 1 when the last scrape succeeded, else 0. */
export const up = (job: string): Vector<'cluster' | 'instance' | 'job'> =>
  atom(`up${matcherText({ job: { operator: '=~', text: job } })}`);
