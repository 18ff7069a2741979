// `kubenetprobe map`: which workloads talk to which, as a table or a graph. Reads a running agent, or measures itself.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { edgeRows } from '../edges.ts';
import { protocolOption } from '../protocol_option.ts';
import { mapDot, mapMermaid, mapTable, type ServiceMap, serviceMap } from '../service_map.ts';
import { addSettingsOptions, type SettingsOptions } from '../settings_options.ts';
import { openEdgeSource } from '../top_source.ts';

interface MapOptions {
  namespace?: string;
  protocol?: string;
  json?: true;
  dot?: true;
  mermaid?: true;
  from?: string;
}

const EXAMPLES = `
Reads the agent that runs on this host, else (as root) measures by itself for two seconds; --from reads another one.

Examples:
  kubenetprobe map --namespace shop
  kubenetprobe map --protocol http
  kubenetprobe map --dot | dot -Tsvg > map.svg
  kubenetprobe map --mermaid >> README.md
  kubenetprobe map --json | jq '.links[] | select(.connect_failures > 0)'`;

/** What a measurement of its own waits for before it is read. */
const OWN_MEASUREMENT_MILLIS = 2000;

export function define(command: Command): void {
  const formats = ['json', 'dot', 'mermaid'];
  const others = (name: string) => formats.filter((format) => format !== name);
  command
    .option('-n, --namespace <name>', 'only what touches this namespace')
    .addOption(protocolOption('only pairs with requests of this protocol'))
    .addOption(new Option('--json', 'print nodes and links as JSON').conflicts(others('json')))
    .addOption(new Option('--dot', 'print a graph for Graphviz').conflicts(others('dot')))
    .addOption(new Option('--mermaid', 'print a graph for Mermaid').conflicts(others('mermaid')))
    .option('--from <url>', 'read this agent: http://HOST:PORT')
    .addHelpText('after', EXAMPLES);
  const settings = addSettingsOptions(command);
  command.action((options: MapOptions) => show(options, settings));
}

async function show(options: MapOptions, settings: SettingsOptions): Promise<void> {
  const { config } = await settings.load();
  const source = await openEdgeSource(config, options.from);
  try {
    if (!source.name.startsWith('agent')) await sleep(OWN_MEASUREMENT_MILLIS);
    const { samples } = await source.read();
    process.stdout.write(render(serviceMap(edgeRows([], samples, 0, options), options.namespace), options));
  } finally {
    await source.close();
  }
}

function render(map: ServiceMap, options: MapOptions): string {
  if (options.json) return `${JSON.stringify(map, null, 2)}\n`;
  if (options.dot) return mapDot(map);
  if (options.mermaid) return mapMermaid(map);
  return mapTable(map, process.stdout.columns || 160);
}
