// Label values as text: bounded, valid and escaped. The store makes one label string per series and keeps it; the
// Prometheus writer prints it as it stands, the OTLP producer parses it back.

/** Longest label value in UTF-16 code units; what is longer is cut and ends with `…`. */
export const MAX_LABEL_VALUE = 256;

/** The value of every name that was folded away. */
export const OTHER = 'other';

// biome-ignore lint/suspicious/noControlCharactersInRegex: removing them is the purpose
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;
const SPECIAL = /[\\"\n]/;

/**
 * A value as it may be exposed: valid Unicode, no control characters but tab and newline, at most
 * {@link MAX_LABEL_VALUE} code units. Values come from the network and from other people's processes.
 */
export function cleanLabelValue(value: string | number): string {
  if (typeof value === 'number') return String(value);
  let text = value;
  if (text.length > MAX_LABEL_VALUE) {
    const cut = text.slice(0, MAX_LABEL_VALUE - 1);
    // A slice keeps the whole original alive in V8; the round trip through bytes makes a copy of its own.
    text = `${Buffer.from(cut, 'utf16le').toString('utf16le')}…`;
  }
  return text.toWellFormed().replace(CONTROLS, '\uFFFD');
}

/** Escapes a label value for the text formats: backslash, double quote and newline. */
export function escapeLabelValue(value: string): string {
  if (!SPECIAL.test(value)) return value;
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

/** The pairs of a label string `a="1",b="2"` in order, unescaped. The inverse of what the store builds. */
export function parseLabels(labels: string): [name: string, value: string][] {
  const pairs: [string, string][] = [];
  for (const match of labels.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/gs)) {
    const [, name = '', raw = ''] = match;
    pairs.push([name, raw.replace(/\\(.)/gs, (_, c: string) => (c === 'n' ? '\n' : c))]);
  }
  return pairs;
}
