// Reads the live view of an agent and writes it for people or as JSON lines. The part of `kubenetprobe trace` that
// knows no command line.
import { get, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import type { TraceLine } from '../telemetry/spans/feed.ts';
import { TRACE_PATH } from '../telemetry/spans/live_endpoint.ts';
import { CliError } from './exit.ts';
import { duration, padded, printable } from './text.ts';

export interface TracePrinting {
  json: boolean;
  /** Ends after so many requests. */
  limit: number;
  /** Width of a table row. */
  columns: number;
  signal: AbortSignal;
  write(text: string): void;
}

/** An agent that sends no bytes for this long, not even its heartbeat, is gone. */
const SILENCE_MILLIS = 60_000;

const FIXED = [
  { title: 'TIME', width: 12 },
  { title: 'BY', width: 6 },
  { title: 'PROTO', width: 5 },
  { title: 'OP', width: 7 },
  { title: 'STATUS', width: 6 },
  { title: 'DURATION', width: 8, align: 'right' },
] as const;
const GAP = '  ';

function row(cells: readonly string[], columns: number): string {
  const fixed = FIXED.map((cell, i) =>
    padded(cells[i] ?? '', cell.width, 'align' in cell ? cell.align : 'left'),
  );
  const used = FIXED.reduce((sum, { width }) => sum + width + GAP.length, 0);
  const rest = Math.max(24, columns - used);
  const names = Math.floor((rest - 2 * GAP.length) * 0.6);
  const target = rest - names - GAP.length;
  const text = [
    ...fixed,
    padded(cells[FIXED.length] ?? '', names),
    padded(cells[FIXED.length + 1] ?? '', target),
  ].join(GAP);
  return `${text.trimEnd()}\n`;
}

/** The header of the table. */
export function traceHeader(columns: number): string {
  return row([...FIXED.map(({ title }) => title), 'CLIENT → SERVER', 'TARGET'], columns);
}

/** One request as a row of the table. */
export function traceRow(line: TraceLine, columns: number): string {
  const end = (name: string, namespace: string) => (namespace === '' ? name : `${namespace}/${name}`);
  const server = `${end(line.server, line.server_namespace)}:${line.server_port}`;
  return row(
    [
      line.time.slice(11, 23),
      line.reporter,
      line.protocol,
      line.operation,
      line.status === undefined ? '-' : String(line.status),
      duration(line.duration_seconds),
      `${end(line.client, line.client_namespace)} → ${server}`,
      `${line.target || line.exact_target || '-'}${line.error_type === undefined ? '' : ` (${line.error_type})`}`,
    ],
    columns,
  );
}

function open(url: URL, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, signal }, resolve);
    request.setTimeout(SILENCE_MILLIS, () => request.destroy(new Error('the agent fell silent')));
    request.on('error', reject);
  });
}

async function firstLine(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const part of response) {
    text += part;
    if (text.length > 1000) break;
  }
  return printable(text.split('\n')[0] ?? '');
}

function unreachable(url: URL, error: unknown): CliError {
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === 'ECONNREFUSED' ? 'nothing listens there' : printable(code ?? message);
  return new CliError(
    `cannot read ${url.origin}${url.pathname}: ${why}; is the agent running (kubenetprobe run)?`,
  );
}

/** Prints requests until the limit, the signal, or the end of the agent. Throws a {@link CliError} with one sentence. */
export async function printTrace(base: URL, query: URLSearchParams, printing: TracePrinting): Promise<void> {
  const url = new URL(TRACE_PATH, base);
  url.search = query.toString();
  let response: IncomingMessage;
  try {
    response = await open(url, printing.signal);
  } catch (error) {
    if (printing.signal.aborted) return;
    throw unreachable(url, error);
  }
  if (response.statusCode === 404) {
    response.destroy();
    throw new CliError(`${url.origin} shows no live requests: is it an agent?`);
  }
  if (response.statusCode !== 200)
    throw new CliError(`${url.origin} answered ${response.statusCode}: ${await firstLine(response)}`);
  try {
    await printLines(response, printing);
  } catch (error) {
    if (!printing.signal.aborted) throw unreachable(url, error);
  } finally {
    response.destroy();
  }
}

async function printLines(response: IncomingMessage, printing: TracePrinting): Promise<void> {
  if (!printing.json) printing.write(traceHeader(printing.columns));
  let shown = 0;
  for await (const text of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (text === '') continue;
    if (printing.json) printing.write(`${text}\n`);
    const line = JSON.parse(text) as TraceLine | { missed: number };
    if ('missed' in line) {
      if (!printing.json) printing.write(`! ${line.missed} requests not shown: too many to keep up with\n`);
      continue;
    }
    if (!printing.json) printing.write(traceRow(line, printing.columns));
    if (++shown >= printing.limit) return;
  }
  if (!printing.signal.aborted) throw new Error('the agent ended');
}
