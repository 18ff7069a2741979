// The demo's processes: each dies with the demo, whatever ends that, and what a killed demo could not remove goes at the
// next start. Called by shop.ts and monitoring.ts.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Names of this demo's network namespace and directory: the process id tells whether it still runs. */
export const NAME = `knp-demo-${process.pid}`;
const LEFT_BEHIND = /^knp-demo-(\d+)/;

const STOP_MILLIS = 5_000;

export interface Started {
  readonly child: ChildProcess;
  /** The end of what it wrote to standard error. */
  log(): string;
}

export class Processes {
  readonly #children: ChildProcess[] = [];

  /** Starts a command; `setpriv` has the kernel end it when this process is gone, even by SIGKILL. */
  start(command: readonly string[], env: Readonly<Record<string, string>> = {}): Started {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-4000);
    });
    child.stdin.on('error', () => {}); // it has ended: its exit says so
    child.on('error', (error) => {
      log += `${error}\n`;
    });
    this.#children.push(child);
    return { child, log: () => log };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.reverse().map(end));
  }
}

const ended = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

/** SIGTERM, and SIGKILL for what does not end by that. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || ended(child)) return;
  const exit = once(child, 'exit');
  child.stdin?.end();
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MILLIS);
  await exit;
  clearTimeout(timer);
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** Waits until the URL answers with a success; throws with the process' log when it ends or never does. */
export async function untilServing(name: string, url: string, { child, log }: Started): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (
    !(await fetch(url).then(
      ({ ok }) => ok,
      () => false,
    ))
  ) {
    if (ended(child)) throw new Error(`${name} ended:\n${log()}`);
    if (Date.now() > deadline) throw new Error(`${name} does not serve ${url}:\n${log()}`);
    await sleep(100);
  }
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Removes network namespaces and directories of demos that were killed. */
export function removeLeftovers(): void {
  const dead = (name: string): boolean => {
    const pid = LEFT_BEHIND.exec(name)?.[1];
    return pid !== undefined && !alive(Number(pid));
  };
  for (const line of execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }).split('\n')) {
    const [name = ''] = line.split(' ');
    if (dead(name)) execFileSync('ip', ['netns', 'del', name]);
  }
  for (const name of readdirSync(tmpdir())) {
    if (dead(name)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}
