// Runs bin/kubenetprobe for the tests, as a person or a service would: as root, as nobody, without a capability, on a
// terminal.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const BIN = `${ROOT}bin/kubenetprobe`;

if (!existsSync(`${ROOT}dist/agent/main.js`)) throw new Error("dist/ is missing: run 'make build'");

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

const children = new Set<ChildProcess>();

/** Ends what a failed test left running; for `afterEach`. */
export function killLeftovers(): void {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
}

/** Longer than anything takes on a busy machine; only a hang lasts so long. */
const HANG_MILLIS = 60_000;

export interface RunningProcess {
  child: ChildProcess;
  /** So far. */
  output: { stdout: string; stderr: string };
  /** When it has ended and all output is there. */
  ended: Promise<Outcome>;
  /** Resolves when the text has been written; rejects when the process ends before. */
  until(stream: 'stdout' | 'stderr', pattern: RegExp): Promise<RegExpExecArray>;
}

/** Starts any command and collects what it writes. */
export function start(command: readonly string[], { env = {}, cwd = ROOT }: RunOptions = {}): RunningProcess {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { cwd, env: cleanEnvironment(env), stdio: 'pipe' });
  children.add(child);
  child.once('close', () => children.delete(child));
  const output = { stdout: '', stderr: '' };
  const listeners = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
      for (const listener of listeners) listener();
    });
  }
  const ended = once(child, 'close').then(([code]): Outcome => ({ code: code as number | null, ...output }));
  const until: RunningProcess['until'] = (stream, pattern) =>
    new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const look = () => {
        const match = pattern.exec(output[stream]);
        if (match === null) return;
        listeners.delete(look);
        clearTimeout(timer);
        resolve(match);
      };
      const fail = (what: string) =>
        reject(new Error(`${what} without ${pattern}:\n${output.stdout}\n${output.stderr}`));
      timer = setTimeout(() => fail('nothing more came'), HANG_MILLIS);
      timer.unref();
      listeners.add(look);
      look();
      void ended.then(({ code }) => fail(`ended with ${code}`));
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
): RunningProcess {
  const quoted = [BIN, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ');
  // What stty says before and after tells whether the terminal was given back as it was.
  const line = `stty rows ${rows} cols ${columns}; echo TTY=$(tty); echo BEFORE=$(stty -g); ${quoted}; echo CODE=$?; echo AFTER=$(stty -g)`;
  return start(['script', '-qfec', line, '/dev/null'], { env: { TERM: 'xterm', SHELL: '/bin/sh', ...env } });
}

/** A server on a free port of loopback that answers each path with a text or a status, everything else with 404. */
export async function serve(
  answers: Record<string, () => string | number>,
): Promise<{ server: Server; origin: string }> {
  const server = createServer((request, response) => {
    const answer = answers[request.url ?? '']?.() ?? 404;
    response.statusCode = typeof answer === 'number' ? answer : 200;
    response.end(typeof answer === 'string' ? answer : undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** Ids of the BPF programs that a process holds open. */
export function programsOf(pid: number): number[] {
  const folder = `/proc/${pid}/fdinfo`;
  const ids = readdirSync(folder).map((fd) => {
    // A descriptor may close between the two looks.
    const text = existsSync(`${folder}/${fd}`) ? readFileSync(`${folder}/${fd}`, 'utf8') : '';
    return Number(/^prog_id:\s*(\d+)$/m.exec(text)?.[1] ?? 0);
  });
  return [...new Set(ids)].filter((id) => id > 0);
}

/** Ids of all BPF programs, as bpftool sees them. */
export function programsInKernel(): number[] {
  const json = execFileSync('bpftool', ['prog', 'show', '-j'], { encoding: 'utf8', maxBuffer: 1 << 26 });
  return (JSON.parse(json) as { id: number }[]).map(({ id }) => id);
}

/** Programs are freed a moment after their process let them go; this waits for it and fails when it does not come. */
export async function expectGone(ids: readonly number[]): Promise<void> {
  const left = () => programsInKernel().filter((id) => ids.includes(id));
  for (let i = 0; i < 100 && left().length > 0; i++) await sleep(100);
  expect(left()).toEqual([]);
}
