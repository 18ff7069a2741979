// The direction of imports, as docs/design.md draws it: cli → agent → server → telemetry ← probes → identity, kernel →
// native. What a probe is as data (its settings, its metrics) lies below all of that.
// Checked by test/unit/architecture/imports.test.ts.
import { posix } from 'node:path';

/** Folder of exporter/ → what it may import. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  cli: ['agent', 'probes', 'telemetry', 'identity', 'kernel', 'config'],
  agent: ['server', 'probes', 'telemetry', 'identity', 'kernel', 'config'],
  server: ['telemetry', 'config'],
  probes: ['telemetry', 'identity', 'kernel', 'config'],
  telemetry: ['config'],
  identity: ['config'],
  kernel: ['config'],
  config: [],
};

/** The registered probes as data; what derives from them imports this. */
const DEFINITIONS = 'exporter/probes/definitions.ts';
const REGISTRY = 'exporter/probes/registry.ts';
const PROBE_TYPES = 'exporter/probes/probe.ts';
const DERIVED = ['exporter/config/schema.ts', 'exporter/telemetry/catalogue.ts'];
/**
 * Files of a probe that are data → what they may import. `kubenetprobe config` and `metrics` read them, and the schema
 * and the catalogue are made of them, so they reach neither.
 */
const DATA_FILES: Readonly<Record<string, readonly string[]>> = {
  'settings.ts': ['exporter/config/values.ts'],
  'metrics.ts': ['exporter/telemetry/attributes.ts', 'exporter/telemetry/definition.ts'],
  'requests.ts': [
    'exporter/telemetry/requests/protocol.ts',
    'exporter/telemetry/spans/text.ts',
    'exporter/telemetry/spans/types.ts',
  ],
  'traffic.ts': ['exporter/telemetry/requests/protocol.ts', 'exporter/telemetry/traffic.ts'],
  'definition.ts': [PROBE_TYPES],
};

/** Folders that define what is shipped beside the agent; of the agent they see only what is data. */
const CATALOGUE_ONLY = ['dashboards', 'alerts'];
const CATALOGUE = 'exporter/telemetry/catalogue.ts';
/** What probes say about the requests and the traffic that they count, and what that is made of. */
const DESCRIPTORS = 'exporter/probes/descriptors.ts';
const DESCRIPTION = 'exporter/telemetry/requests/protocol.ts';
const DATA = [CATALOGUE, DESCRIPTORS, DESCRIPTION];
/** PromQL typed by the catalogue: written once, for both of them. */
const QUERY_LAYER = 'dashboards/promql';

/** The modules that know the addon: one loads it, one is what everybody else imports. */
const ADDON_LOADER = 'exporter/kernel/addon.ts';
const ADDON_FILE = /\.node$/;

/** Source files by path from the repository's root. Answers one sentence per forbidden import. */
export function forbiddenImports(sources: ReadonlyMap<string, string>): string[] {
  const problems: string[] = [];
  for (const [path, source] of sources) {
    for (const specifier of importsOf(source)) {
      const reason = forbidden(path, specifier);
      if (reason !== undefined) problems.push(`${path} imports ${specifier}: ${reason}`);
    }
    const eager = eagerImport(path, source);
    if (eager !== undefined) problems.push(`${path} ${eager}`);
  }
  return problems;
}

/** Module specifiers of every form of import, types included, in order. */
export function importsOf(source: string): string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const forms = [
    /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm,
    /^\s*import\s*['"]([^'"]+)['"]/gm,
    /\bimport\(\s*['"`]([^'"`]+)['"`]/g,
    // require(...), also the one that createRequire(...) answers
    /\b(?:require|createRequire\([^()]*\))\(\s*['"`]([^'"`]+)['"`]/g,
  ];
  return forms.flatMap((form) => [...code.matchAll(form)].map((match) => match[1] as string));
}

function forbidden(path: string, specifier: string): string | undefined {
  if (ADDON_FILE.test(specifier)) {
    return path === ADDON_LOADER ? undefined : `only ${ADDON_LOADER} loads the native addon`;
  }
  if (!specifier.startsWith('.')) return undefined;
  const target = posix.normalize(posix.join(posix.dirname(path), specifier));
  const [area] = path.split('/') as [string];
  if (area === 'exporter') return forbiddenInAgent(path, target);
  if (path.startsWith(`${QUERY_LAYER}/`)) return forbiddenBesideAgent(QUERY_LAYER, target);
  if (area === 'alerts' && target.startsWith(`${QUERY_LAYER}/`)) return undefined;
  if (CATALOGUE_ONLY.includes(area)) return forbiddenBesideAgent(area, target);
  return undefined; // tests and scripts may import everything
}

function forbiddenInAgent(path: string, target: string): string | undefined {
  if (!target.startsWith('exporter/')) return 'the agent imports nothing from outside exporter/';
  if (target === ADDON_LOADER && !path.startsWith('exporter/kernel/')) {
    return 'outside exporter/kernel the addon is reached through exporter/kernel/native.ts';
  }
  const from = folderOf(path);
  const to = folderOf(target);
  if (from === 'probes' && to === 'probes') return betweenProbes(path, target);
  if (isDataFile(path)) return forbiddenInData(path, target);
  if (target === DEFINITIONS && DERIVED.includes(path)) return undefined;
  if (to === 'probes' && probeOf(target) !== undefined) return 'a probe is known by its interface only';
  if (from === to) return undefined;
  if (MAY_IMPORT[from] === undefined) return `exporter/${from} has no place in the order of imports`;
  if (!MAY_IMPORT[from].includes(to)) return `${from} may not import ${to}`;
  return undefined;
}

function folderOf(path: string): string {
  const parts = path.split('/');
  return parts.length > 2 ? (parts[1] as string) : 'root';
}

/** A folder among the probes that is none: what the probes of request protocols share. */
const SHARED_BY_PROBES = 'requests';

/** Name of the probe whose folder a file of exporter/probes lies in; undefined for what probes share. */
function probeOf(file: string): string | undefined {
  const parts = file.split('/');
  return parts.length > 3 && parts[2] !== SHARED_BY_PROBES ? parts[2] : undefined;
}

function isDataFile(path: string): boolean {
  return /^exporter\/probes\/\w+\/\w+\.ts$/.test(path) && DATA_FILES[posix.basename(path)] !== undefined;
}

function forbiddenInData(path: string, target: string): string | undefined {
  const file = posix.basename(path);
  if (DATA_FILES[file]?.includes(target)) return undefined;
  const beside = posix.dirname(path) === posix.dirname(target);
  if (beside && (isDataFile(target) || (file === 'definition.ts' && posix.basename(target) === 'index.ts')))
    return undefined;
  return `${file} of a probe is data: it imports ${DATA_FILES[file]?.join(', ')} and its neighbours that are data`;
}

/** What must not be loaded with the data of a probe: types are free, and so is what is imported when it is needed. */
function eagerImport(path: string, source: string): string | undefined {
  if (path === PROBE_TYPES && /^import\s+(?!type\b)/m.test(source)) return 'imports more than types';
  const definition = isDataFile(path) && posix.basename(path) === 'definition.ts';
  if (definition && /\bfrom\s*['"]\.\/index\.ts['"]/.test(source))
    return 'imports index.ts before it is needed';
  return undefined;
}

/** What two probes need lies in exporter/probes itself, and does not import a probe. */
function betweenProbes(path: string, target: string): string | undefined {
  if (path === REGISTRY) return isDataFile(target) ? undefined : 'the registry imports definitions only';
  if (isDataFile(path)) return forbiddenInData(path, target);
  const own = probeOf(path);
  const other = probeOf(target);
  if (other === undefined || own === other) return undefined;
  if (own === undefined) return 'what probes share may not import one of them';
  return 'a probe never imports another probe; what both need moves to exporter/probes or below';
}

function forbiddenBesideAgent(area: string, target: string): string | undefined {
  if (DATA.includes(target) || target.startsWith(`${area}/`)) return undefined;
  return `${area}/ imports nothing but itself and ${DATA.join(', ')}`;
}
