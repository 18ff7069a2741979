// Secrets of the configuration: header values that stand in a variable or a file, and what of them may be
// shown. `resolveHeaders` is called by the OTLP exporters, the rest by load.ts and `config effective`.
import { readFile } from 'node:fs/promises';
import type { Problem } from './problems.ts';
import type { Config, HeaderValue } from './schema.ts';
import { quoted, settings } from './settings.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export type HeadersResult = { ok: true; headers: Record<string, string> } | { ok: false; reason: string };

async function resolveHeader(name: string, value: HeaderValue, env: Environment): Promise<HeadersResult> {
  let text: string;
  if (typeof value === 'string') {
    text = value;
  } else if ('env' in value) {
    const found = env[value.env];
    if (found === undefined || found === '') {
      return { ok: false, reason: `header ${name}: the variable ${value.env} is not set` };
    }
    text = found.trim();
  } else {
    try {
      text = (await readFile(value.file, 'utf8')).trim();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      return { ok: false, reason: `header ${name}: cannot read the file ${quoted(value.file)} (${code})` };
    }
  }
  if (!/^[\x20-\x7e]*$/.test(text)) {
    return { ok: false, reason: `header ${name}: the value holds characters that a header cannot` };
  }
  return { ok: true, headers: { [name]: text } };
}

/** The headers as they are sent. Files are read anew each time, so that a rotated token is taken up. */
export async function resolveHeaders(
  headers: Readonly<Record<string, HeaderValue>>,
  env: Environment = process.env,
): Promise<HeadersResult> {
  const resolved: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const one = await resolveHeader(name, value, env);
    if (!one.ok) return one;
    Object.assign(resolved, one.headers);
  }
  return { ok: true, headers: resolved };
}

/** A problem for every header whose variable or file is not there, for the signals that are sent. */
export async function checkSecrets(
  config: Config,
  origins: ReadonlyMap<string, string>,
  env: Environment,
): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const signal of ['metrics', 'traces'] as const) {
    const { enabled, headers } = config.otlp[signal];
    const result = enabled ? await resolveHeaders(headers, env) : undefined;
    if (result?.ok !== false) continue;
    const path = `otlp.${signal}.headers`;
    problems.push({ place: origins.get(path) ?? path, text: `${path}: ${result.reason}` });
  }
  return problems;
}

export const HIDDEN = '(hidden)';

function redacted(value: unknown): unknown {
  if (typeof value === 'string') return HIDDEN;
  if (typeof value !== 'object' || value === null) return value;
  // Names of variables and files are no secrets, and say where to look.
  if ('env' in value || 'file' in value) return value;
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, redacted(child)]));
}

/** A copy in which every secret text reads `(hidden)`. */
export function redact(config: Config): Config {
  const copy = structuredClone(config);
  for (const { keys, node } of settings()) {
    if (node['x-secret'] !== true) continue;
    let parent = copy as unknown as Record<string, unknown>;
    for (const key of keys.slice(0, -1)) parent = parent[key] as Record<string, unknown>;
    const last = keys.at(-1) ?? '';
    parent[last] = redacted(parent[last]);
  }
  return copy;
}
