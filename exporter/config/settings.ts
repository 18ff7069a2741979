// The schema seen as a flat list of settings with their names in each source (file, environment, flags),
// derived from the JSON Schema that zod yields. Used by load.ts, by the docs and by `config schema`.
import * as z from 'zod';
import { configSchema } from './schema.ts';

/** The part of JSON Schema that the configuration uses. */
export interface SchemaNode {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: readonly unknown[];
  const?: unknown;
  anyOf?: readonly SchemaNode[];
  minimum?: number;
  maximum?: number;
  properties?: Readonly<Record<string, SchemaNode>>;
  required?: readonly string[];
  additionalProperties?: SchemaNode | boolean;
  items?: SchemaNode;
  examples?: readonly unknown[];
  'x-allowed'?: string;
  'x-flag'?: string;
  'x-secret'?: true;
}

/** One setting: a leaf of the schema. Lists and free mappings are leaves, given whole. */
export interface Setting {
  /** `probes.tcp.enabled` */
  path: string;
  keys: readonly string[];
  /** `KNP_PROBES_TCP_ENABLED` */
  variable: string;
  /** `--listen`, for the few that have one. */
  flag: string | undefined;
  node: SchemaNode;
}

/** Names the configuration file; the only `KNP_` variable that is not a setting. */
export const CONFIG_FILE_VARIABLE = 'KNP_CONFIG';

const DRAFT = 'https://json-schema.org/draft/2020-12/schema';

function isSection(node: SchemaNode): boolean {
  return node.properties !== undefined;
}

let cachedSchema: SchemaNode | undefined;

/** JSON Schema (draft 2020-12) of what a person may write. */
export function jsonSchema(): SchemaNode {
  cachedSchema ??= {
    $schema: DRAFT,
    ...(z.toJSONSchema(configSchema, { io: 'input' }) as SchemaNode),
  } as SchemaNode;
  return cachedSchema;
}

function collect(node: SchemaNode, keys: readonly string[], into: Setting[]): void {
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    const childKeys = [...keys, key];
    if (isSection(child)) {
      collect(child, childKeys, into);
      continue;
    }
    const flag = child['x-flag'];
    into.push({
      path: childKeys.join('.'),
      keys: childKeys,
      variable: `KNP_${childKeys.join('_').toUpperCase()}`,
      flag: flag === undefined ? undefined : `--${flag}`,
      node: child,
    });
  }
}

let cachedSettings: readonly Setting[] | undefined;

/** Every setting, in the schema's order. */
export function settings(): readonly Setting[] {
  if (cachedSettings === undefined) {
    const found: Setting[] = [];
    collect(jsonSchema(), [], found);
    cachedSettings = found;
  }
  return cachedSettings;
}

/**
 * The schema at a path of keys and list indices. Inside a value that has no schema of its own (a header's
 * value, say) it is that of the nearest value around it. Undefined when a key on the way does not exist.
 */
export function nodeAt(path: readonly PropertyKey[]): SchemaNode | undefined {
  let node: SchemaNode = jsonSchema();
  for (const key of path) {
    if (typeof key === 'number') {
      if (node.items === undefined) return node;
      node = node.items;
    } else if (node.properties !== undefined) {
      const child = Object.hasOwn(node.properties, key) ? node.properties[String(key)] : undefined;
      if (child === undefined) return undefined;
      node = child;
    } else {
      return node;
    }
  }
  return node;
}

/** `probes.http.routes.patterns[0].pattern` */
export function formatPath(path: readonly PropertyKey[]): string {
  let result = '';
  for (const key of path) {
    if (typeof key === 'number') result += `[${key}]`;
    else result += `${result === '' ? '' : '.'}${printable(String(key))}`;
  }
  return result;
}

/** A key as it may be printed: unusual characters escaped, cut at 60. */
export function printable(key: string): string {
  if (/^[\w-]{1,60}$/.test(key)) return key;
  return quoted(key);
}

const LONGEST_QUOTE = 60;

/** A value found in a configuration as it may be printed: on one line, without control characters, cut. */
export function quoted(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  let text: string;
  if (typeof value === 'string') text = JSON.stringify(value);
  else if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  else if (typeof value === 'object') return 'a mapping';
  else text = String(value);
  // JSON.stringify leaves C1 controls and direction marks alone; a terminal does not.
  text = text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text;
}

/** What a value may be, in words: "true or false", "a whole number from 64 to 1048576". */
export function allowedText(node: SchemaNode): string {
  const own = node['x-allowed'];
  if (own !== undefined) return own;
  if (node.enum !== undefined) return node.enum.map(String).join(', ');
  if (node.properties !== undefined)
    return `a mapping with the keys ${Object.keys(node.properties).join(', ')}`;
  if (node.type === 'boolean') return 'true or false';
  if (node.type === 'integer') return `a whole number from ${node.minimum} to ${node.maximum}`;
  if (node.type === 'number') return `a number from ${node.minimum} to ${node.maximum}`;
  if (node.type === 'array') return 'a list';
  return node.type === undefined ? 'see the documentation' : `a ${node.type}`;
}

/** Edit distance where swapping two neighbours is one edit (optimal string alignment). */
function distance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((row[j - 1] ?? 0) + 1, (last[j] ?? 0) + 1, (last[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** The candidate a person most likely meant; undefined when none is near. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  if (word.length > 100) return undefined;
  const wanted = word.toLowerCase().replaceAll('-', '_');
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of candidates) {
    const away = distance(wanted, candidate.toLowerCase().replaceAll('-', '_'));
    if (away < bestDistance) {
      best = candidate;
      bestDistance = away;
    }
  }
  return best;
}
