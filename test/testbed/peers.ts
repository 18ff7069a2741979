// The programs that run in the testbed's pods and what they count themselves: the ground truth.
//
// A peer is one process, server and client at once, in Node.js, Python, Go or Java (programs/, peer/); nginx only
// serves. It is told what to do by one JSON object a line on stdin and answers one a line on stdout:
//   {id, op: 'call', host, port, protocol: 'tcp'|'http', path, connections, requests, up, down, status, pauseMillis}
//     → {id, result: {<server's name>: Counts}}      connections one after the other, requests on each
//   {id, op: 'report'} → {id, result: {served: {<client's name>: Counts}, open: connections not ended yet}}
// Both ends name themselves in every exchange, so the pair is known whatever NAT lies between. Bytes are the TCP
// payload. PEER_NAME is its name, PEER_PORT the port that it serves, speaking both protocols.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildProgram } from './build.ts';
import type { Slot } from './leftovers.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';

/** What one peer counted about another. `sent` and `received` are from its own point of view. */
export interface Counts {
  connections: number;
  requests: number;
  sent: number;
  received: number;
  failed: number;
}

export type PeerProgram = 'node' | 'python' | 'go' | 'java' | 'nginx';

export interface CallOptions {
  readonly host: string;
  readonly port: number;
  readonly protocol?: 'tcp' | 'http';
  readonly path?: string;
  /** HTTP status to ask for; 200 by default. */
  readonly status?: number;
  readonly connections?: number;
  /** On each connection. */
  readonly requests?: number;
  /** Bytes of the body in each direction, headers not counted. */
  readonly up?: number;
  readonly down?: number;
  /** After each request. */
  readonly pauseMillis?: number;
}

export interface Report {
  readonly served: Record<string, Counts>;
  readonly open: number;
}

export interface Peer {
  readonly name: string;
  readonly program: PeerProgram;
  readonly pid: number;
  readonly process: RunningProcess;
  /** Per server that answered; `?` where none did. */
  call(options: CallOptions): Promise<Record<string, Counts>>;
  /** What it served, per client. Waits until no connection is open, so that every byte is settled. */
  report(): Promise<Record<string, Counts>>;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface PeerOptions {
  readonly name: string;
  /** Name of its files in the slot; from the peer's name by default. */
  readonly logName?: string;
  readonly program: PeerProgram;
  /** Port to serve; none: a client only. */
  readonly port?: number;
  readonly netns?: string;
  readonly cgroups?: readonly string[];
}

/** Programs that can run here. */
export function availablePrograms(): PeerProgram[] {
  const isThere = (command: string): boolean => {
    try {
      execFileSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  };
  const needs: [PeerProgram, string][] = [
    ['node', 'true'],
    ['go', 'true'],
    ['python', 'python3'],
    ['java', 'javac'],
    ['nginx', 'nginx'],
  ];
  return needs.filter(([, command]) => isThere(command)).map(([program]) => program);
}

async function commandOf(slot: Slot, program: PeerProgram): Promise<[string, ...string[]]> {
  const programs = join(import.meta.dirname, 'programs');
  switch (program) {
    case 'node':
      return [process.execPath, join(programs, 'peer.mjs')];
    case 'python':
      // A version manager's shim would be a shell for a moment.
      return [existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3', join(programs, 'peer.py')];
    case 'go':
      return [await buildProgram('peer')];
    case 'java': {
      const classes = join(slot.directory, 'classes');
      if (!existsSync(classes)) execFileSync('javac', ['-d', classes, join(programs, 'Peer.java')]);
      return ['java', '-Xmx64m', '-XX:TieredStopAtLevel=1', '-cp', classes, 'Peer'];
    }
    case 'nginx':
      return ['nginx'];
  }
}

/** Starts a peer and waits until it serves. */
export async function startPeer(slot: Slot, options: PeerOptions): Promise<Peer> {
  if (options.program === 'nginx') return startNginx(slot, options);
  const [command, ...args] = await commandOf(slot, options.program);
  const env = { PEER_NAME: options.name, PEER_PORT: String(options.port ?? 0) };
  const process = startProcess(slot, { ...placed(options), command, args, env, pipes: true });
  const { stdin, stdout } = process.child;
  if (!stdin || !stdout) throw new Error(`${options.name} has no pipes`);
  stdin.on('error', () => {});
  const waiting = new Map<number, (result: unknown) => void>();
  let lastId = 0;
  createInterface({ input: stdout }).on('line', (line) => {
    const { id, result } = JSON.parse(line) as { id: number; result: unknown };
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  const ready = new Promise((resolve) => waiting.set(0, resolve));
  const orEnded = async <T>(answer: Promise<T>): Promise<T> =>
    Promise.race([answer, process.ended.then((how) => Promise.reject(new Error(how)))]);
  await orEnded(ready).catch((error: Error) => {
    throw new Error(`${error.message}\n${readFileSync(process.logPath, 'utf8')}`);
  });
  const ask = <T>(op: string, more: object = {}): Promise<T> => {
    const id = ++lastId;
    const answer = new Promise<T>((resolve) => waiting.set(id, resolve as (result: unknown) => void));
    stdin.write(`${JSON.stringify({ id, op, ...more })}\n`);
    return orEnded(answer);
  };
  const defaults = { protocol: 'tcp', path: '/', connections: 1, requests: 1, up: 0, down: 0 };
  return {
    name: options.name,
    program: options.program,
    pid: process.pid,
    process,
    call: (call) => ask('call', { ...defaults, ...call }),
    report: () => settledReport(() => ask<Report>('report')),
    stop: process.stop,
  };
}

/** Peers' own names may be namespace/pod. */
function fileName({ name, logName }: PeerOptions): string {
  return logName ?? name.replace('/', '.');
}

function placed(options: PeerOptions): { name: string; netns?: string; cgroups?: readonly string[] } {
  const { netns, cgroups } = options;
  const name = fileName(options);
  return { name, ...(netns && { netns }), ...(cgroups && { cgroups }) };
}

async function settledReport(ask: () => Promise<Report>): Promise<Record<string, Counts>> {
  for (;;) {
    const report = await ask();
    if (report.open === 0) return report.served;
    await sleep(20);
  }
}

/** nginx answers every path with a line; its log has what it counted. `down` and `status` mean nothing to it. */
async function startNginx(slot: Slot, options: PeerOptions): Promise<Peer> {
  if (!options.port) throw new Error('nginx needs a port');
  const base = join(slot.directory, fileName(options));
  const accessLog = `${base}.access`;
  // Of a container that ran before in the same pod.
  for (const file of [accessLog, `${base}.pid`]) rmSync(file, { force: true });
  writeFileSync(`${base}.conf`, nginxConfiguration(options.name, options.port, base));
  const process = startProcess(slot, {
    ...placed(options),
    command: 'nginx',
    args: ['-c', `${base}.conf`, '-e', 'stderr'],
  });
  // The pid file is written when the socket listens.
  await waitUntilReady(process, async () => existsSync(`${base}.pid`));
  return {
    name: options.name,
    program: 'nginx',
    pid: process.pid,
    process,
    call: () => Promise.reject(new Error('nginx calls nobody')),
    report: async () => readNginxLog(accessLog),
    stop: process.stop,
  };
}

function nginxConfiguration(name: string, port: number, base: string): string {
  return `daemon off;
worker_processes 2;
user root;
pid ${base}.pid;
events { worker_connections 1024; }
http {
  log_format peer '$http_x_peer $connection $connection_requests $bytes_sent $request_length';
  access_log ${base}.access peer;
  client_body_temp_path ${base}.body;
  proxy_temp_path ${base}.proxy;
  fastcgi_temp_path ${base}.fastcgi;
  uwsgi_temp_path ${base}.uwsgi;
  scgi_temp_path ${base}.scgi;
  keepalive_requests 100000;
  server {
    listen ${port} backlog=512;
    add_header X-Peer ${name} always;
    location / {
      if ($request_method = POST) { return 200 "posted\\n"; }
      return 200 "served by nginx\\n";
    }
  }
}
`;
}

function readNginxLog(path: string): Record<string, Counts> {
  const served: Record<string, Counts> = {};
  for (const line of readFileSync(path, 'utf8').split('\n').filter(Boolean)) {
    const [who = '?', , requestOfConnection, sent, received] = line.split(' ');
    served[who] ??= { connections: 0, requests: 0, sent: 0, received: 0, failed: 0 };
    const total = served[who];
    total.connections += requestOfConnection === '1' ? 1 : 0;
    total.requests++;
    total.sent += Number(sent);
    total.received += Number(received);
  }
  return served;
}
