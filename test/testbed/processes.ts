// Starts the testbed's processes: in a network namespace and in cgroups when asked, as a process group of their own,
// noted in the slot, and killed by the kernel when the process that started them dies.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processStartTime, type Slot } from './leftovers.ts';

export interface ProcessOptions {
  readonly name: string;
  readonly command: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Name of a network namespace under /run/netns. */
  readonly netns?: string;
  /** cgroup directories, one for each hierarchy; the process is in them before its program begins. */
  readonly cgroups?: readonly string[];
  /** Gives the process pipes for stdin and stdout instead of /dev/null and the log. */
  readonly pipes?: boolean;
}

export interface RunningProcess {
  readonly name: string;
  readonly pid: number;
  readonly child: ChildProcess;
  readonly logPath: string;
  /** Resolves with a sentence that says how it ended. */
  readonly ended: Promise<string>;
  /** The sentence, once it has ended. */
  endedHow(): string | undefined;
  /** Sends the signal to its group and waits until the process is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

// $1 is a list of cgroup directories, one a line. A process that moves itself before exec has not one event outside.
const ENTER = `IFS='
'; for group in $1; do echo $$ > "$group/cgroup.procs" || exit 97; done; shift; unset IFS; exec "$@"`;

/** Starts a process; it may still fail at once: see `ended`. stderr (and stdout) go to `<slot>/<name>.log`. */
export function startProcess(slot: Slot, options: ProcessOptions): RunningProcess {
  const logPath = join(slot.directory, `${options.name}.log`);
  const log = openSync(logPath, 'a');
  const enterNetns = options.netns ? ['nsenter', `--net=/run/netns/${options.netns}`] : [];
  const command = [...enterNetns, 'setpriv', '--pdeathsig', 'KILL', options.command, ...(options.args ?? [])];
  const child = spawn('/bin/sh', ['-c', ENTER, 'sh', (options.cgroups ?? []).join('\n'), ...command], {
    cwd: options.cwd ?? slot.directory,
    env: { PATH: process.env.PATH ?? '', ...options.env },
    detached: true,
    stdio: options.pipes ? ['pipe', 'pipe', log] : ['ignore', log, log],
  });
  closeSync(log);
  let how: string | undefined;
  const ended = new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(`${options.name} did not start: ${error.message}`));
    child.on('exit', (code, signal) => resolve(`${options.name} ended with ${signal ?? `status ${code}`}`));
  });
  void ended.then((sentence) => {
    how = sentence;
  });
  const pid = child.pid ?? 0;
  const startTime = processStartTime(pid);
  if (startTime) slot.note({ kind: 'process', pid, startTime });
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    if (how === undefined && child.exitCode === null && child.signalCode === null) process.kill(-pid, signal);
    await ended;
  };
  return { name: options.name, pid, child, logPath, ended, endedHow: () => how, stop };
}

/** Polls until `check` answers true; throws with the end of the log if the process ends before or time runs out. */
export async function waitUntilReady(
  process: RunningProcess,
  check: () => Promise<boolean>,
  timeoutMillis = 120_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMillis;
  for (;;) {
    if (await check().catch(() => false)) return;
    const how =
      process.endedHow() ?? (Date.now() > deadline ? `${process.name} is not ready in time` : undefined);
    if (how) throw new Error(`${how}\n${tail(process.logPath)}`);
    await sleep(50);
  }
}

function tail(path: string): string {
  return readFileSync(path, 'utf8').split('\n').slice(-15).join('\n');
}
