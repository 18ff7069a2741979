// Structured logs on standard error: JSON lines, or readable ones on a terminal. No payload of the traffic is ever
// logged. Made once per process by the commands that run the agent.
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';
import type { Config } from '../config/schema.ts';
import { printable } from './printable.ts';

export type { Logger } from 'pino';

/** Bytes that may wait for a reader of standard error that does not read; what comes then is lost. */
const LARGEST_BACKLOG_BYTES = 1 << 20;

/** One JSON line of pino as a person reads it: time, level, message, then the fields. */
export function prettyLine(json: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const clock = String(time).slice(11, 23);
  const parts = [clock, String(level).toUpperCase().padEnd(5), printable(String(msg ?? ''))];
  for (const [name, value] of Object.entries(fields)) {
    const text = typeof value === 'string' && /^[\w.:/@-]+$/.test(value) ? value : JSON.stringify(value);
    parts.push(`${printable(name)}=${printable(text ?? '')}`);
  }
  const error = err as { message?: string; stack?: string } | undefined;
  if (error !== undefined) {
    const stack = String(error.stack ?? error.message ?? '').split('\n');
    parts.push(stack.map(printable).join('\n    '));
  }
  return `${parts.join(' ')}\n`;
}

const CLOSE_MILLIS = 1000;

export interface Log {
  logger: Logger;
  /** Lines lost because their reader did not keep up. */
  lost(): number;
  /** Takes no more lines; resolves when all are written out, at the latest after a second. */
  close(): Promise<void>;
}

/** Logs to `fd` (standard error). */
export function createLog(settings: Config['log'], fd = 2, isTerminal = process.stderr.isTTY === true): Log {
  let lost = 0;
  // Asynchronous, so that a reader that stalls does not stall the agent.
  const sink = destination({ dest: fd, sync: false, minLength: 0, maxLength: LARGEST_BACKLOG_BYTES });
  sink.on('drop', () => {
    lost++;
  });
  // A closed standard error must not end the agent.
  sink.on('error', () => {
    lost++;
  });
  const pretty = settings.format === 'pretty' || (settings.format === 'auto' && isTerminal);
  const stream: DestinationStream = pretty ? { write: (line) => void sink.write(prettyLine(line)) } : sink;
  const logger = pino(
    {
      level: settings.level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
  return {
    logger,
    lost: () => lost,
    close() {
      const { promise, resolve } = Promise.withResolvers<void>();
      // `flush` calls back while a write is still under way; `finish` comes after the last.
      sink.once('finish', resolve).once('close', resolve);
      try {
        sink.end();
      } catch {
        // It is closed already: nothing can be written.
        resolve();
      }
      // A reader that does not read must not keep the process from ending.
      const timer = setTimeout(resolve, CLOSE_MILLIS);
      return promise.finally(() => clearTimeout(timer));
    },
  };
}
