// The queries of dashboards and rules, made ready for a real Prometheus: variables filled in as Grafana does, and what is
// known of the metrics that are emitted. Called by the tests that run Prometheus.

import { groups } from '../../alerts/generate.ts';
import type { Settings } from '../../alerts/settings.ts';
import { CATALOGUE, prometheusName } from '../../exporter/telemetry/catalogue.ts';
import { models, type NamedQuery, panelQueries } from '../unit/dashboards/model.ts';

/** A panel's query with its variables as Grafana fills them in: everything selected. */
export function filled(expr: string, reporter: 'server' | 'client', workload = '.*'): string {
  return expr
    .replaceAll(`\${reporter}`, reporter)
    .replaceAll('$reporter', reporter)
    .replaceAll('$workload', workload)
    .replaceAll(/\$(cluster|namespace|instance)\b/g, '.*')
    .replaceAll('$__rate_interval', '30s')
    .replaceAll('$__range', '1m');
}

export const allPanelQueries = (): NamedQuery[] => panelQueries(models());

/** Queries of the dashboards' variables. */
export function variableQueries(): { where: string; metric: string; label: string }[] {
  return models().flatMap((dashboard) =>
    dashboard.templating.list.flatMap(({ name, query }) => {
      const text = (query as { query?: string } | undefined)?.query;
      const parts = /^label_values\((\w+)(?:\{.*\})?, (\w+)\)$/.exec(text ?? '');
      return parts === null
        ? []
        : [{ where: `${dashboard.uid} / ${name}`, metric: parts[1] as string, label: parts[2] as string }];
    }),
  );
}

export const recordNames = (settings: Settings): string[] =>
  groups(settings).flatMap(({ rules }) => rules.flatMap((rule) => ('record' in rule ? [rule.record] : [])));

export interface PrometheusSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

export class PrometheusApi {
  readonly #url: string;
  constructor(url: string) {
    this.#url = url;
  }

  async #get<T>(path: string, parameters: Readonly<Record<string, string>>): Promise<T> {
    const response = await fetch(`${this.#url}/api/v1/${path}`, {
      method: 'POST',
      body: new URLSearchParams(parameters),
    });
    const answer = (await response.json()) as { status: string; error?: string; data: T };
    if (answer.status !== 'success')
      throw new Error(`${answer.error}: ${Object.values(parameters).join(' ')}`);
    return answer.data;
  }

  /** Instant vector at a time, now unless told. */
  async query(promql: string, time?: number): Promise<PrometheusSeries[]> {
    const at = time === undefined ? {} : { time: String(time) };
    return (await this.#get<{ result: PrometheusSeries[] }>('query', { query: promql, ...at })).result;
  }

  /** Labels of all series that were stored. */
  series(match: string): Promise<Record<string, string>[]> {
    return this.#get('series', { 'match[]': match });
  }
}

/** Metric of the catalogue to which a stored name belongs. */
export function metricOf(stored: string): string | undefined {
  const bare = stored.replace(/_(bucket|count|sum)$/, '');
  return CATALOGUE.find((metric) => [stored, bare].includes(prometheusName(metric)))?.name;
}
