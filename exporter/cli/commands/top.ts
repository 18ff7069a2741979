// `kubenetprobe top`: who talks to whom, as a live table, once, or as JSON. Reads a running agent, or measures itself.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type EdgeRow, edgeRows, SORT_KEYS, type SortKey, sortRows } from '../edges.ts';
import { EXIT } from '../exit.ts';
import { protocolOption } from '../protocol_option.ts';
import type { EdgeSource, Reading } from '../reading.ts';
import { openScreen, type Screen } from '../screen.ts';
import { addSettingsOptions, type SettingsOptions } from '../settings_options.ts';
import { openEdgeSource } from '../top_source.ts';
import { renderOnce, renderScreen, TABLE_HEADER_LINE, type TopState } from '../top_view.ts';

interface TopOptions {
  by: SortKey;
  protocol?: string;
  once?: true;
  json?: true;
  interval: number;
  limit: number;
  from?: string;
}

const EXAMPLES = `
Reads the agent that runs on this host, else (as root) measures by itself; --from reads another one.
Keys: q quits; b, c, r, t sort by bytes, connections, retransmits, round-trip time; h, e, p by requests, errors, 99th
percentile of the duration.

Examples:
  kubenetprobe top --by connections
  kubenetprobe top --by errors --protocol http
  kubenetprobe top --once --json | jq '.edges[0]'
  kubenetprobe top --from 10.0.0.7:9464`;

function seconds(text: string): number {
  const value = Number(text);
  if (!(value >= 0.1 && value <= 3600)) throw new InvalidArgumentError('it must be 0.1 to 3600 seconds.');
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
    .addOption(new Option('--by <key>', 'sort by').choices(SORT_KEYS).default('bytes'))
    .addOption(protocolOption('only edges with requests of this protocol'))
    .option('--once', 'print one table and end')
    .option('--json', 'print JSON: one object with --once, else one line per interval')
    .option('--interval <seconds>', 'time between two readings', seconds, 2)
    .option('--limit <rows>', 'print at most so many rows', count, Number.POSITIVE_INFINITY)
    .option('--from <url>', 'read this agent: http://HOST:PORT')
    .addHelpText('after', EXAMPLES);
  const settings = addSettingsOptions(command);
  command.action((options: TopOptions) => top(options, settings));
}

async function top(options: TopOptions, settings: SettingsOptions): Promise<void> {
  const { config } = await settings.load();
  const source = await openEdgeSource(config, options.from);
  try {
    const live =
      options.once !== true && options.json !== true && process.stdout.isTTY && process.stdin.isTTY;
    if (live) await showLive(source, options);
    else await printReadings(source, options);
  } finally {
    await source.close();
  }
}

function state(source: EdgeSource, options: TopOptions, before: Reading, now: Reading): TopState {
  const elapsedSeconds = (now.atMillis - before.atMillis) / 1000;
  return {
    source: source.name,
    time: new Date(),
    intervalSeconds: options.interval,
    by: options.by,
    rows: sortRows(edgeRows(before.samples, now.samples, elapsedSeconds, options), options.by),
    lost: now.lost,
  };
}

function json(picture: TopState, rows: readonly EdgeRow[], indent: number): string {
  const { source, time, intervalSeconds, by, lost } = picture;
  const document = {
    time: time.toISOString(),
    source,
    interval_seconds: intervalSeconds,
    by,
    lost: Object.fromEntries(lost),
    edges: rows,
  };
  return `${JSON.stringify(document, null, indent)}\n`;
}

async function printReadings(source: EdgeSource, options: TopOptions): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stop.abort());
  // Without a terminal a table that repeats is of no use; lines of JSON are.
  const once = options.once === true || options.json !== true;
  let before = await source.read();
  while (!stop.signal.aborted) {
    await sleep(options.interval * 1000, undefined, { signal: stop.signal }).catch(() => undefined);
    if (stop.signal.aborted && !once) break;
    const now = await source.read();
    const picture = state(source, options, before, now);
    const rows = picture.rows.slice(0, options.limit);
    if (options.json === true) process.stdout.write(json(picture, rows, once ? 2 : 0));
    else process.stdout.write(renderOnce({ ...picture, rows }, process.stdout.columns || 160));
    if (once) break;
    before = now;
  }
}

const SORT_BY_KEY: Readonly<Record<string, SortKey>> = {
  b: 'bytes',
  c: 'connections',
  r: 'retransmits',
  t: 'rtt',
  h: 'requests',
  e: 'errors',
  p: 'p99',
};

/** Runs until `q`, Ctrl-C or a signal. */
async function showLive(source: EdgeSource, options: TopOptions): Promise<void> {
  const stop = new AbortController();
  let by = options.by;
  let picture: TopState | undefined;
  let screen: Screen | undefined;
  const draw = () => {
    if (screen === undefined || picture === undefined) return;
    const { columns, rows } = screen.size();
    const shown = { ...picture, by, rows: sortRows([...picture.rows], by).slice(0, options.limit) };
    screen.draw(renderScreen(shown, columns, rows), TABLE_HEADER_LINE);
  };
  const onKey = (key: string) => {
    if (key === 'q' || key === 'Q' || key === '\x03' || key === '\x04') stop.abort();
    by = SORT_BY_KEY[key] ?? by;
    draw();
  };
  const onSignal = () => {
    process.exitCode = EXIT.ok;
    stop.abort();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  let before = await source.read();
  screen = openScreen({ input: process.stdin, output: process.stdout, onKey, onResize: draw });
  for (const signal of signals) process.on(signal, onSignal);
  try {
    picture = state(source, options, before, before);
    draw();
    while (!stop.signal.aborted) {
      await sleep(options.interval * 1000, undefined, { signal: stop.signal }).catch(() => undefined);
      if (stop.signal.aborted) break;
      try {
        const now = await source.read();
        picture = state(source, options, before, now);
        before = now;
      } catch (error) {
        // The agent may be restarting: keep the last figures, say that they are old.
        if (picture !== undefined) picture = { ...picture, problem: (error as Error).message };
      }
      draw();
    }
  } finally {
    screen.close();
    for (const signal of signals) process.off(signal, onSignal);
  }
}
