// The selectors of a PromQL text, found by looking at the text alone: an opinion on names and labels that does not come
// from the query layer.
import { CATALOGUE, labelName, prometheusName } from '../../../exporter/telemetry/catalogue.ts';

export interface Matcher {
  readonly label: string;
  readonly operator: string;
  readonly value: string;
}
export interface Selector {
  readonly metric: string;
  readonly matchers: readonly Matcher[];
}

const SELECTOR = /([a-zA-Z_:][\w:]*|http_\$\{reporter\}_\w+)\s*\{([^}]*)\}/g;
const MATCHER = /(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"/g;

/** Every `metric{…}` of the text. Selectors without braces are not seen: the lint forbids them. */
export function selectorsOf(promql: string): Selector[] {
  return [...promql.matchAll(SELECTOR)].map(([, metric = '', matchers = '']) => ({
    metric,
    matchers: [...matchers.matchAll(MATCHER)].map(([, label = '', operator = '', value = '']) => ({
      label,
      operator,
      value,
    })),
  }));
}

export interface Family {
  readonly name: string;
  readonly labels: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, readonly string[]>;
}

/** Stored metric → what the catalogue says of it, with the suffixes of histograms. */
export function families(): Map<string, Family> {
  const all = new Map<string, Family>();
  for (const metric of CATALOGUE) {
    const name = prometheusName(metric);
    const attributes: readonly string[] = metric.attributes;
    const own = 'values' in metric ? (metric.values as Record<string, readonly string[]>) : {};
    const family = (suffix: string, ...extra: string[]): void => {
      all.set(name + suffix, {
        name,
        labels: new Set([...attributes.map(labelName), ...extra]),
        values: new Map(Object.entries(own)),
      });
    };
    if (metric.kind === 'histogram') {
      family('_bucket', 'le');
      family('_count');
      family('_sum');
    } else family('');
  }
  return all;
}
