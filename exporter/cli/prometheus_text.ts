// Reads the Prometheus text format (0.0.4) of an agent's /metrics. Used by `top` and `doctor`.

/** One sample line. */
export interface TextSample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** The text is not an exposition. */
export class ExpositionError extends Error {
  override readonly name = 'ExpositionError';
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\', '"': '"', n: '\n' };

function parseValue(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY;
  if (text === '-Inf') return Number.NEGATIVE_INFINITY;
  return text === '' ? Number.NaN : Number(text);
}

function parseLine(line: string): TextSample {
  const fail = () => new ExpositionError(`not a sample: ${JSON.stringify(line.slice(0, 80))}`);
  const name = /^[A-Za-z_:][A-Za-z0-9_:]*/.exec(line)?.[0];
  if (name === undefined) throw fail();
  const labels: Record<string, string> = Object.create(null);
  let at = name.length;
  if (line[at] === '{') {
    at++;
    const label = /\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,?)/y;
    while (line[at] !== '}') {
      label.lastIndex = at;
      const match = label.exec(line);
      if (match === null) throw fail();
      labels[match[1] as string] = (match[2] as string).replace(/\\(.)/g, (whole, c) => ESCAPES[c] ?? whole);
      at = label.lastIndex;
      if (match[3] === '' && line[at] !== '}') throw fail();
    }
    at++;
  }
  const [value = ''] = line.slice(at).trim().split(/\s+/);
  const number = parseValue(value);
  if (Number.isNaN(number) && value !== 'NaN') throw fail();
  return { name, labels, value: number };
}

/** Samples whose names `wanted` accepts; throws {@link ExpositionError} for a line that is none. */
export function parseExposition(text: string, wanted: (name: string) => boolean = () => true): TextSample[] {
  const samples: TextSample[] = [];
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const end = line.search(/[{\s]/);
    if (end > 0 && /^[A-Za-z_:]/.test(line) && !wanted(line.slice(0, end))) continue;
    samples.push(parseLine(line));
  }
  return samples;
}
