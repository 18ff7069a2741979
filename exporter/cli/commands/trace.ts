// `kubenetprobe trace`: sampled requests of a running agent, live, one line each.
import { type Command, InvalidArgumentError } from 'commander';
import { parseStatus } from '../../telemetry/spans/live_endpoint.ts';
import { agentUrl, localUrl } from '../agent_client.ts';
import { protocolOption } from '../protocol_option.ts';
import { addSettingsOptions, type SettingsOptions } from '../settings_options.ts';
import { printTrace } from '../trace_stream.ts';

interface TraceOptions {
  workload?: string;
  protocol?: string;
  status?: string;
  slowerThan?: number;
  errors?: true;
  json?: true;
  limit?: number;
  from?: string;
}

const EXAMPLES = `
Shows what the agent on this host samples: errors, slow requests and a share of the rest (settings
probes.NAME.sampling).

Examples:
  kubenetprobe trace
  kubenetprobe trace --errors --workload prod/cart --protocol http
  kubenetprobe trace --status 5xx --slower-than 250ms
  kubenetprobe trace --json | jq 'select(.duration_seconds > 1) | .target'`;

function status(text: string): string {
  if (parseStatus(text) === undefined)
    throw new InvalidArgumentError('it must be like 404, 5xx, 400-499 or NOT_FOUND.');
  return text;
}

/** `250ms`, `1.5s`, or seconds as a plain number. */
function durationSeconds(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(us|µs|ms|s|)$/.exec(text);
  const scale = { us: 1e-6, µs: 1e-6, ms: 1e-3, s: 1, '': 1 }[match?.[2] ?? ''];
  const value = Number(match?.[1]) * (scale ?? Number.NaN);
  if (!(value >= 0 && value <= 86_400))
    throw new InvalidArgumentError('it must be a duration like 250ms or 1.5s.');
  return value;
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError('it must be a whole number from 1.');
  return value;
}

export function define(command: Command): void {
  command
    .option('--workload <name>', 'only requests from or to this workload: NAME or NAMESPACE/NAME')
    .addOption(protocolOption('only requests of this protocol'))
    .option('--status <range>', 'only these statuses: 404, 5xx, 400-499, NOT_FOUND', status)
    .option('--slower-than <duration>', 'only requests that took longer: 250ms, 1.5s', durationSeconds)
    .option('--errors', 'only requests that failed')
    .option('--json', 'one JSON object per line')
    .option('--limit <requests>', 'end after so many', count)
    .option('--from <url>', 'read this agent: http://HOST:PORT (agents answer their own host only)')
    .addHelpText('after', EXAMPLES);
  const settings = addSettingsOptions(command);
  command.action((options: TraceOptions) => trace(options, settings));
}

async function trace(options: TraceOptions, settings: SettingsOptions): Promise<void> {
  const { config } = await settings.load();
  const base = options.from === undefined ? localUrl(config.listen) : agentUrl(options.from);
  const query = new URLSearchParams();
  if (options.workload !== undefined) query.set('workload', options.workload);
  if (options.protocol !== undefined) query.set('protocol', options.protocol);
  if (options.status !== undefined) query.set('status', options.status);
  if (options.slowerThan !== undefined) query.set('slower_than', String(options.slowerThan));
  if (options.errors === true) query.set('errors', 'true');
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stop.abort());
  await printTrace(base, query, {
    json: options.json === true,
    limit: options.limit ?? Number.POSITIVE_INFINITY,
    columns: process.stdout.isTTY ? process.stdout.columns || 120 : 160,
    signal: stop.signal,
    write: (text) => process.stdout.write(text),
  });
}
