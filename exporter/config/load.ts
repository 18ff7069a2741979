// Loads the configuration from its sources: flags win over KNP_* variables, those over the file, that over
// the defaults. Each source is checked by itself, so that a wrong value is refused even where another source
// overrides it. Called by the command line.
import { readFile, stat } from 'node:fs/promises';
import { checkSecrets } from './headers.ts';
import { formatProblems, type Problem, problemsOf } from './problems.ts';
import { type Config, configSchema } from './schema.ts';
import { CONFIG_FILE_VARIABLE, formatPath, nearest, quoted, type Setting, settings } from './settings.ts';

/** One setting given on the command line. */
export interface FlagValue {
  /** As typed, for messages: `--listen`, `--set`. */
  place: string;
  /** `probes.tcp.enabled` */
  path: string;
  value: string;
}

export interface ConfigSources {
  /** Path of a YAML file; without it, `KNP_CONFIG` names one. */
  file?: string | undefined;
  env?: Readonly<Record<string, string | undefined>>;
  flags?: readonly FlagValue[];
}

/** Where each setting that is not a default came from: `agent.yaml:3:10`, `KNP_LISTEN`, `--listen`. */
export type Origins = ReadonlyMap<string, string>;

export type LoadResult =
  | { ok: true; config: Config; origins: Origins }
  | { ok: false; problems: readonly Problem[]; message: string };

type Tree = { [key: string]: unknown };

/** Settings of one source that passed the check. */
interface Layer {
  tree: Tree;
  origins: Map<string, string>;
}

const LARGEST_FILE_BYTES = 1 << 20;

/** Reads, checks and merges all sources. Expected mistakes are returned, one problem each. */
export async function loadConfig(sources: ConfigSources = {}): Promise<LoadResult> {
  const env = sources.env ?? process.env;
  const problems: Problem[] = [];
  const layers: Layer[] = [];
  const file = sources.file ?? (env[CONFIG_FILE_VARIABLE] || undefined);
  if (file !== undefined) {
    const named = sources.file === undefined ? CONFIG_FILE_VARIABLE : '--config';
    const layer = await fileLayer(file, named, problems);
    if (layer !== undefined) layers.push(layer);
  }
  layers.push(...(await environmentLayers(env, problems)));
  for (const flag of sources.flags ?? []) {
    const layer = await flagLayer(flag, problems);
    if (layer !== undefined) layers.push(layer);
  }
  const merged: Tree = {};
  const origins = new Map<string, string>();
  for (const layer of layers) {
    for (const { keys, path } of layer.origins.size === 0 ? [] : settings()) {
      const origin = layer.origins.get(path);
      if (origin === undefined) continue;
      put(merged, keys, take(layer.tree, keys));
      origins.set(path, origin);
    }
  }
  const config = configSchema.parse(merged);
  problems.push(...(await checkSecrets(config, origins, env)));
  if (problems.length > 0) return { ok: false, problems, message: formatProblems(problems) };
  return { ok: true, config, origins };
}

function put(tree: Tree, keys: readonly string[], value: unknown): void {
  let node = tree;
  for (const key of keys.slice(0, -1)) {
    node[key] ??= {};
    node = node[key] as Tree;
  }
  node[keys.at(-1) ?? ''] = value;
}

function take(tree: Tree, keys: readonly string[]): unknown {
  let value: unknown = tree;
  for (const key of keys) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Tree)[key];
  }
  return value;
}

const FILE_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'this user may not read it',
  ENOTDIR: 'a part of the path is not a directory',
};

async function fileLayer(file: string, named: string, problems: Problem[]): Promise<Layer | undefined> {
  const refuse = (text: string) => {
    problems.push({ place: named, text: `cannot read the configuration file ${quoted(file)}: ${text}` });
    return undefined;
  };
  let text: string;
  try {
    const status = await stat(file);
    if (status.isDirectory()) return refuse('it is a directory');
    if (status.size > LARGEST_FILE_BYTES) return refuse('it is larger than 1 MiB');
    text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(file));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return refuse('it is not UTF-8 text');
    return refuse(FILE_ERRORS[code] ?? String(code || error));
  }
  const { readYaml } = await import('./yaml_source.ts');
  const read = readYaml(file, text);
  if (!read.ok) {
    problems.push(...read.problems);
    return undefined;
  }
  const parsed = configSchema.safeParse(read.tree);
  if (!parsed.success) {
    problems.push(...problemsOf(parsed.error, read.tree, read.locate));
    return undefined;
  }
  const origins = new Map<string, string>();
  for (const { keys, path } of settings()) {
    if (take(read.tree as Tree, keys) !== undefined) origins.set(path, read.locate(keys));
  }
  return { tree: read.tree as Tree, origins };
}

/** One setting given as text, by a variable or a flag. */
async function textLayer(
  setting: Setting,
  text: string,
  place: string,
  problems: Problem[],
): Promise<Layer | undefined> {
  const value = await parseText(setting, text);
  if (value === undefined) {
    problems.push({ place, text: `${setting.path}: the value is neither JSON nor YAML` });
    return undefined;
  }
  const tree: Tree = {};
  put(tree, setting.keys, value.value);
  const parsed = configSchema.safeParse(tree);
  if (!parsed.success) {
    problems.push(...problemsOf(parsed.error, tree, () => place));
    return undefined;
  }
  return { tree, origins: new Map([[setting.path, place]]) };
}

/** A text setting is taken as it stands; any other is JSON or YAML. Undefined when it is neither. */
async function parseText(setting: Setting, text: string): Promise<{ value: unknown } | undefined> {
  if (setting.node.type === 'string') return { value: text };
  try {
    return { value: JSON.parse(text) };
  } catch {
    const { readYamlValue } = await import('./yaml_source.ts');
    return readYamlValue(text);
  }
}

const PREFIX = 'KNP_';

/**
 * Kubernetes announces a Service named `knp…` to pods by variables that begin with our prefix
 * (`KNP_SERVICE_HOST`, `KNP_PORT=tcp://…`, `KNP_PORT_9464_TCP_ADDR`): they are not ours.
 */
function isServiceLink(name: string, env: Readonly<Record<string, string | undefined>>): boolean {
  const service = /^(KNP.*?)_(?:SERVICE_(?:HOST|PORT.*)|PORT(?:_\d+_.+)?)$/.exec(name)?.[1];
  return service !== undefined && /^(?:tcp|udp|sctp):\/\//.test(env[`${service}_PORT`] ?? '');
}

async function environmentLayers(
  env: Readonly<Record<string, string | undefined>>,
  problems: Problem[],
): Promise<Layer[]> {
  const layers: Layer[] = [];
  for (const name of Object.keys(env).sort()) {
    const text = env[name];
    // As OpenTelemetry has it, an empty variable is one that is not set.
    if (!name.startsWith(PREFIX) || name === CONFIG_FILE_VARIABLE || text === undefined || text === '')
      continue;
    const setting = settings().find(({ variable }) => variable === name);
    if (setting !== undefined) {
      const layer = await textLayer(setting, text, name, problems);
      if (layer !== undefined) layers.push(layer);
    } else if (!isServiceLink(name, env)) {
      problems.push({ place: name, text: `no such variable;${meantVariable(name)}` });
    }
  }
  return layers;
}

function meantVariable(name: string): string {
  const known = [CONFIG_FILE_VARIABLE, ...settings().map(({ variable }) => variable)];
  const inside = known.filter((candidate) => candidate.startsWith(`${name}_`));
  if (inside.length > 0) return ` allowed below it: ${inside.join(', ')}`;
  const meant = nearest(name, known);
  const list = '`kubenetprobe config docs` lists all';
  return meant === undefined ? ` ${list}` : ` did you mean ${meant}? ${list}`;
}

async function flagLayer(flag: FlagValue, problems: Problem[]): Promise<Layer | undefined> {
  const setting = settings().find(({ path }) => path === flag.path);
  if (setting !== undefined) return textLayer(setting, flag.value, flag.place, problems);
  const known = settings().map(({ path }) => path);
  const inside = known.filter((candidate) => candidate.startsWith(`${flag.path}.`));
  const meant = nearest(flag.path, known);
  let hint = ' `kubenetprobe config docs` lists all';
  if (inside.length > 0) hint = ` allowed below it: ${inside.join(', ')}`;
  else if (meant !== undefined) hint = ` did you mean ${meant}?${hint}`;
  problems.push({ place: flag.place, text: `${formatPath(flag.path.split('.'))}: no such setting;${hint}` });
  return undefined;
}
