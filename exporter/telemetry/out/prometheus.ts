// Writes families as Prometheus text 0.0.4 or OpenMetrics 1.0, piece by piece. Called by the server through SharedBody.
// https://prometheus.io/docs/instrumenting/exposition_formats/
// https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
import { prometheusUnit } from '../catalogue.ts';
import type { Exemplar, Family, Point } from '../store.ts';
import type { Format } from './negotiation.ts';

/** A piece is handed out when it has at least this many characters: about 0.3 ms of work. */
const PIECE_CHARS = 48 * 1024;

/**
 * The exposition of `families` in pieces of about 48 KiB; each holds whole lines. What a series showed is consistent
 * within itself: bucket, sum and count lines of one histogram come from one moment.
 */
export function* writeExposition(families: Iterable<Family>, format: Format): Generator<string, void, void> {
  let text = '';
  for (const family of families) {
    const { points } = family;
    if (points.length === 0) continue;
    text += header(family, format);
    const write = writerOf(family, format);
    for (const point of points) {
      text += write(point);
      if (text.length >= PIECE_CHARS) {
        yield text;
        text = '';
      }
    }
  }
  if (format === 'openmetrics') text += '# EOF\n';
  if (text !== '') yield text;
}

/** Name in TYPE, HELP and UNIT lines: OpenMetrics names the family of a counter without `_total`. */
function familyName(family: Family, format: Format): string {
  const name = family.prometheusName;
  return format === 'openmetrics' && family.definition.kind === 'counter'
    ? name.slice(0, -'_total'.length)
    : name;
}

function header(family: Family, format: Format): string {
  const { kind, unit, description } = family.definition;
  const name = familyName(family, format);
  const type = kind === 'updowncounter' ? 'gauge' : kind;
  const escaped = description.replace(/\\/g, '\\\\').replace(/\n/g, '\\n');
  let text = `# HELP ${name} ${format === 'openmetrics' ? escaped.replace(/"/g, '\\"') : escaped}\n`;
  text += `# TYPE ${name} ${type}\n`;
  const word = prometheusUnit(unit);
  if (format === 'openmetrics' && word !== '' && name.endsWith(`_${word}`))
    text += `# UNIT ${name} ${word}\n`;
  return text;
}

function writerOf(family: Family, format: Format): (point: Point) => string {
  const name = family.prometheusName;
  if (family.definition.kind === 'histogram') return histogramWriter(name, family.bounds, format);
  return ({ labels, value }) =>
    labels === '' ? `${name} ${formatValue(value)}\n` : `${name}{${labels}} ${formatValue(value)}\n`;
}

function histogramWriter(name: string, bounds: readonly number[], format: Format): (point: Point) => string {
  const bucket = `${name}_bucket{`;
  const les = [...bounds.map((bound) => formatBound(bound, format)), '+Inf'];
  const bare = les.map((le) => `le="${le}"} `);
  const joined = les.map((le) => `,le="${le}"} `);
  return ({ labels, counts, value, sum, exemplars }) => {
    const suffixes = labels === '' ? bare : joined;
    const withExemplars = format === 'openmetrics' && exemplars !== undefined;
    let text = '';
    let cumulative = 0;
    for (let i = 0; i < suffixes.length; i++) {
      cumulative += counts?.[i] ?? 0;
      text += bucket + labels + suffixes[i] + cumulative;
      if (withExemplars && exemplars[i]) text += formatExemplar(exemplars[i] as Exemplar);
      text += '\n';
    }
    const braces = labels === '' ? ' ' : `{${labels}} `;
    return `${text}${name}_sum${braces}${formatValue(sum)}\n${name}_count${braces}${value}\n`;
  };
}

function formatExemplar({ traceId, spanId, value, timestampMillis }: Exemplar): string {
  const time = (timestampMillis / 1000).toFixed(3);
  return ` # {trace_id="${traceId}",span_id="${spanId}"} ${formatValue(value)} ${time}`;
}

function formatValue(value: number): string {
  if (Number.isFinite(value)) return `${value}`;
  if (Number.isNaN(value)) return 'NaN';
  return value > 0 ? '+Inf' : '-Inf';
}

/** OpenMetrics wants the canonical form of a float (`1.0`); the text format has always been written with `1`. */
function formatBound(bound: number, format: Format): string {
  const text = formatValue(bound);
  return format === 'openmetrics' && /^-?\d+$/.test(text) ? `${text}.0` : text;
}
