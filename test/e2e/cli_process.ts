// Runs bin/kubenetprobe for the tests, as a person or a service would: as root, as nobody, without a capability, on a
// terminal.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const BIN = `${ROOT}bin/kubenetprobe`;

if (!existsSync(`${ROOT}dist/cli/main.js`)) throw new Error("dist/ is missing: run 'make build'");

export interface RunOptions {
  env?: Record<string, string>;
  cwd?: string;
  /** Put before the command: `['setpriv', '--reuid=nobody', …]`. */
  wrap?: readonly string[];
}

export interface Outcome {
  /** Exit code; null when a signal ended it. */
  code: number | null;
  stdout: string;
  stderr: string;
}

/** The environment without settings of whoever runs the tests. */
export function cleanEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(KNP_|NODE_|VITEST|OTEL_)/.test(name));
  return { ...Object.fromEntries(kept), ...extra };
}

export interface Running {
  child: ChildProcess;
  /** So far. */
  output: { stdout: string; stderr: string };
  /** When it has ended and all output is there. */
  ended: Promise<Outcome>;
  /** Resolves when the text has been written; rejects when the process ends before. */
  until(stream: 'stdout' | 'stderr', pattern: RegExp): Promise<RegExpExecArray>;
}

/** Starts any command and collects what it writes. */
export function start(command: readonly string[], { env = {}, cwd = ROOT }: RunOptions = {}): Running {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { cwd, env: cleanEnvironment(env), stdio: 'pipe' });
  const output = { stdout: '', stderr: '' };
  const listeners = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
      for (const listener of listeners) listener();
    });
  }
  const ended = once(child, 'close').then(([code]): Outcome => ({ code: code as number | null, ...output }));
  const until: Running['until'] = (stream, pattern) =>
    new Promise((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(output[stream]);
        if (match === null) return;
        listeners.delete(look);
        resolve(match);
      };
      listeners.add(look);
      look();
      void ended.then(({ code }) =>
        reject(new Error(`ended with ${code} without ${pattern}:\n${output.stdout}\n${output.stderr}`)),
      );
    });
  return { child, output, ended, until };
}

/** Runs `kubenetprobe` with arguments to its end. */
export function run(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return start([...(options.wrap ?? []), BIN, ...args], options).ended;
}

/** Starts `kubenetprobe` on a terminal of the given size (util-linux' script makes it). */
export function startOnTerminal(
  args: readonly string[],
  { rows, columns, env }: { rows: number; columns: number; env?: Record<string, string> },
): Running {
  const quoted = [BIN, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ');
  // What stty says before and after tells whether the terminal was given back as it was.
  const line = `stty rows ${rows} cols ${columns}; echo TTY=$(tty); echo BEFORE=$(stty -g); ${quoted}; echo CODE=$?; echo AFTER=$(stty -g)`;
  return start(['script', '-qfec', line, '/dev/null'], { env: { TERM: 'xterm', SHELL: '/bin/sh', ...env } });
}

/** A server on a free port of loopback that answers `path` with a text, everything else with 404. */
export async function serve(
  answers: Record<string, () => string>,
): Promise<{ server: Server; origin: string }> {
  const server = createServer((request, response) => {
    const answer = answers[request.url ?? ''];
    response.statusCode = answer === undefined ? 404 : 200;
    response.end(answer?.());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}
