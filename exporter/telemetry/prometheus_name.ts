// Prometheus names of OpenTelemetry metrics and attributes, by the compatibility rules of the specification:
// https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
import type { MetricDefinition } from './definition.ts';

// UCUM unit → the word that the OpenTelemetry-to-Prometheus rules append.
const UNIT_WORDS: Readonly<Record<string, string>> = {
  d: 'days',
  h: 'hours',
  min: 'minutes',
  s: 'seconds',
  ms: 'milliseconds',
  us: 'microseconds',
  ns: 'nanoseconds',
  By: 'bytes',
  KiBy: 'kibibytes',
  MiBy: 'mebibytes',
  GiBy: 'gibibytes',
  bit: 'bits',
  m: 'meters',
  V: 'volts',
  A: 'amperes',
  J: 'joules',
  W: 'watts',
  g: 'grams',
  Cel: 'celsius',
  Hz: 'hertz',
  '%': 'percent',
};

const PER_WORDS: Readonly<Record<string, string>> = {
  s: 'second',
  min: 'minute',
  h: 'hour',
  d: 'day',
};

const words = (text: string): string[] => text.split(/[^A-Za-z0-9]+/).filter((word) => word !== '');

/** Unit in words (`s` → `seconds`, `By/s` → `bytes_per_second`), '' for `1`, annotations (`{connection}`) and none. */
export function prometheusUnit(unit: string): string {
  const [main = '', per] = unit.split('/', 2);
  const mainWord = main.includes('{') || main === '1' ? '' : (UNIT_WORDS[main] ?? words(main).join('_'));
  if (per === undefined || per.includes('{') || per === '') return mainWord;
  return `${mainWord === '' ? '' : `${mainWord}_`}per_${PER_WORDS[per] ?? words(per).join('_')}`;
}

/**
 * Name of the metric family in Prometheus' text format (counters with `_total`; histograms without `_bucket`,
 * `_sum`, `_count`).
 */
export function prometheusName(metric: Pick<MetricDefinition, 'name' | 'kind' | 'unit'>): string {
  let name = words(metric.name);
  const unit = prometheusUnit(metric.unit);
  if (unit !== '' && !`_${name.join('_')}_`.includes(`_${unit}_`)) name.push(unit);
  if (metric.kind === 'counter') name = [...name.filter((word) => word !== 'total'), 'total'];
  if (metric.kind === 'gauge' && metric.unit === '1') {
    name = [...name.filter((word) => word !== 'ratio'), 'ratio'];
  }
  const joined = name.join('_');
  return /^[0-9]/.test(joined) ? `_${joined}` : joined;
}

/** Label name of an attribute: every character outside `[a-zA-Z0-9_]` becomes `_`. */
export function labelName(attribute: string): string {
  const name = attribute.replace(/[^a-zA-Z0-9_]+/g, '_');
  return /^[0-9]/.test(name) ? `key_${name}` : name;
}
