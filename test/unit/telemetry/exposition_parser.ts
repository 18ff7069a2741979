// A strict parser of Prometheus text 0.0.4 and OpenMetrics 1.0, written from the specifications and independent of the
// writer: every rule it knows is an assertion about the exposition.

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly exemplar?: {
    readonly labels: Readonly<Record<string, string>>;
    readonly value: number;
    readonly time: number;
  };
}

export interface ParsedFamily {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly unit: string;
  readonly samples: readonly Sample[];
}

interface Draft {
  name: string;
  type?: string;
  help?: string;
  unit?: string;
  samples: Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const NUMBER = /^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?Inf|NaN)$/;
const TYPES = ['counter', 'gauge', 'histogram', 'summary', 'untyped', 'unknown', 'info', 'stateset'];

/** Parses an exposition; throws at the first rule that is broken, naming the line. */
export function parseExposition(text: string, format: 'text' | 'openmetrics'): Map<string, ParsedFamily> {
  const lines = text.split('\n');
  if (lines.pop() !== '') throw new Error('the last line does not end with a newline');
  if (format === 'openmetrics' && lines.pop() !== '# EOF') throw new Error('no # EOF at the end');
  const families = new Map<string, Draft>();
  let current: Draft | undefined;
  const seen = new Set<string>();
  for (const [index, line] of lines.entries()) {
    const fail = (why: string): never => {
      throw new Error(`line ${index + 1}: ${why}: ${line.slice(0, 200)}`);
    };
    if (line === '') fail('empty line');
    if (line.startsWith('#')) {
      const match = /^# (HELP|TYPE|UNIT) (\S+) (.*)$/.exec(line) ?? fail('malformed comment');
      const [, keyword, name = '', value = ''] = match;
      if (current?.name !== name) {
        if (families.has(name)) fail('family is interleaved or repeated');
        current = { name, samples: [] };
        families.set(name, current);
      }
      const draft = current as Draft;
      if (draft.samples.length > 0) fail('metadata after samples');
      if (keyword === 'TYPE') {
        if (draft.type !== undefined || !TYPES.includes(value)) fail('bad TYPE');
        draft.type = value;
      } else if (keyword === 'UNIT') {
        if (format === 'text') fail('UNIT in the text format');
        if (draft.unit !== undefined || !name.endsWith(`_${value}`)) fail('bad UNIT');
        draft.unit = value;
      } else {
        if (draft.help !== undefined) fail('second HELP');
        draft.help = decodeEscapes(value, format === 'openmetrics' ? '\\n"' : '\\n', fail);
      }
      continue;
    }
    const sample = parseSample(line, format, fail);
    const draft = current ?? fail('sample without family');
    if (!allowedNames(draft, format).includes(sample.name)) fail(`not a sample of ${draft.name}`);
    const identity = `${sample.name}${JSON.stringify(Object.entries(sample.labels).sort())}`;
    if (seen.has(identity)) fail('repeated sample');
    seen.add(identity);
    draft.samples.push(sample);
  }
  const parsed = new Map<string, ParsedFamily>();
  for (const draft of families.values()) {
    const { name, type = 'untyped', help = '', unit = '', samples } = draft;
    if (samples.length === 0) throw new Error(`${name} has no samples`);
    checkValues(draft, format);
    parsed.set(name, { name, type, help, unit, samples });
  }
  return parsed;
}

function allowedNames({ name, type }: Draft, format: string): string[] {
  if (type === 'histogram') return [`${name}_bucket`, `${name}_sum`, `${name}_count`];
  if (type === 'counter' && format === 'openmetrics') return [`${name}_total`, `${name}_created`];
  return [name];
}

function parseSample(line: string, format: string, fail: (why: string) => never): Sample {
  const name = NAME.exec(line)?.[0] ?? fail('bad name');
  let rest = line.slice(name.length);
  let labels: Record<string, string> = {};
  if (rest.startsWith('{')) [labels, rest] = parseLabelSet(rest, fail);
  const [head = '', ...tail] = rest.split(' # ');
  const match = /^ (\S+)$/.exec(head) ?? fail('bad value');
  const value = parseNumber(match[1] ?? '', fail);
  if (tail.length === 0) return { name, labels, value };
  if (format === 'text') fail('exemplar in the text format');
  const [exemplarLabels, after] = parseLabelSet(tail.join(' # '), fail);
  const length = Object.entries(exemplarLabels).reduce(
    (sum, [k, v]) => sum + [...k].length + [...v].length,
    0,
  );
  if (length > 128) fail('exemplar labels too long');
  const numbers = /^ (\S+) (\d+(?:\.\d+)?)$/.exec(after) ?? fail('bad exemplar');
  const exemplar = {
    labels: exemplarLabels,
    value: parseNumber(numbers[1] ?? '', fail),
    time: Number(numbers[2]),
  };
  return { name, labels, value, exemplar };
}

function parseLabelSet(text: string, fail: (why: string) => never): [Record<string, string>, string] {
  const labels: Record<string, string> = {};
  let i = 1;
  while (text[i] !== '}') {
    const equals = text.indexOf('="', i);
    if (equals < 0) fail('bad label');
    const name = text.slice(i, equals);
    if (!LABEL.test(name)) fail(`bad label name ${name}`);
    if (Object.hasOwn(labels, name)) fail(`label ${name} twice`);
    i = equals + 2;
    const start = i;
    while (i < text.length && text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
    if (i >= text.length) fail('unterminated label value');
    labels[name] = decodeEscapes(text.slice(start, i), '\\n"', fail);
    i++;
    if (text[i] === ',') {
      i++;
      if (text[i] === '}') fail('trailing comma');
    } else if (text[i] !== '}') fail('bad label separator');
  }
  return [labels, text.slice(i + 1)];
}

function decodeEscapes(text: string, allowed: string, fail: (why: string) => never): string {
  return text.replace(/\\(.?)/gs, (_, c: string) => {
    if (c === '' || !allowed.includes(c)) fail(`bad escape \\${c}`);
    return c === 'n' ? '\n' : c;
  });
}

function parseNumber(text: string, fail: (why: string) => never): number {
  if (!NUMBER.test(text)) fail(`bad number ${text}`);
  return Number(text.replace('Inf', 'Infinity'));
}

function checkValues({ name, type, samples }: Draft, format: string): void {
  if (type === 'counter') {
    for (const { value } of samples) if (!(value >= 0)) throw new Error(`${name}: counter is ${value}`);
  }
  for (const { exemplar, name: sample } of samples) {
    if (exemplar && !sample.endsWith('_bucket') && type !== 'counter')
      throw new Error(`${name}: stray exemplar`);
  }
  if (type === 'histogram') checkHistogram(name, samples, format);
}

/** Buckets ascend and are cumulative, end with +Inf, which equals the count; a point's lines stand together. */
function checkHistogram(name: string, samples: readonly Sample[], format: string): void {
  const finished = new Set<string>();
  let key: string | undefined;
  let buckets: { le: number; sample: Sample }[] = [];
  let parts: Sample[] = [];
  const finish = (): void => {
    if (key === undefined) return;
    const where = `${name}{${key}}`;
    if (finished.has(key)) throw new Error(`${where}: lines are not together`);
    finished.add(key);
    let previous: { le: number; sample: Sample } | undefined;
    for (const bucket of buckets) {
      if (previous && bucket.le <= previous.le) throw new Error(`${where}: le does not ascend`);
      if (previous && bucket.sample.value < previous.sample.value)
        throw new Error(`${where}: not cumulative`);
      const { exemplar } = bucket.sample;
      const above = previous?.le ?? Number.NEGATIVE_INFINITY;
      if (exemplar && !(exemplar.value <= bucket.le && exemplar.value > above)) {
        throw new Error(`${where}: exemplar outside its bucket`);
      }
      previous = bucket;
    }
    const sums = parts.filter((part) => part.name === `${name}_sum`);
    const counts = parts.filter((part) => part.name === `${name}_count`);
    if (previous?.le !== Number.POSITIVE_INFINITY) throw new Error(`${where}: no +Inf bucket`);
    if (sums.length !== 1 || counts.length !== 1) throw new Error(`${where}: sum or count missing`);
    if (counts[0]?.value !== previous.sample.value) throw new Error(`${where}: count differs from +Inf`);
  };
  for (const sample of samples) {
    const { le, ...labels } = sample.labels;
    const identity = JSON.stringify(Object.entries(labels).sort());
    if (identity !== key) {
      finish();
      key = identity;
      buckets = [];
      parts = [];
    }
    if (!sample.name.endsWith('_bucket')) parts.push(sample);
    else {
      if (le === undefined) throw new Error(`${name}: bucket without le`);
      if (format === 'openmetrics' && le !== '+Inf' && !/[.e]/.test(le))
        throw new Error(`${name}: le ${le} not canonical`);
      buckets.push({ le: Number(le.replace('Inf', 'Infinity')), sample });
    }
  }
  finish();
}
