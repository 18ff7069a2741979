// Peers and loads of the benches, all on loopback: iperf3, nginx with wrk, and the project's own generator (load.c).
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../scripts/architecture/files.ts';
import { freePort } from './agent.ts';
import { sleep } from './measure.ts';

const run = promisify(execFile);

/** A process that the bench started and must end. */
export type StartedProcess = {
  port: number;
  stop: () => Promise<void>;
  /** Processor time that it has used so far. */
  cpuSeconds?: () => number;
};

/** Processor time of a process and of its children, all threads, in seconds. */
function cpuSecondsOf(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  const own = readdirSync(`/proc/${pid}/task`).reduce(
    (sum, task) =>
      sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1e9,
    0,
  );
  return children === ''
    ? own
    : children.split(' ').reduce((sum, child) => sum + cpuSecondsOf(Number(child)), own);
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'close');
}

async function listening(port: number, what: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    const socket = createConnection(port, '127.0.0.1');
    const connected = await new Promise<boolean>((done) => {
      socket.once('connect', () => done(true)).once('error', () => done(false));
    });
    socket.destroy();
    if (connected) return;
    await sleep(10);
  }
  throw new Error(`${what} does not listen on port ${port}`);
}

export async function startIperf(): Promise<StartedProcess> {
  const port = await freePort();
  const child = spawn('iperf3', ['--server', '--bind', '127.0.0.1', '--port', String(port)], {
    stdio: 'ignore',
  });
  await listening(port, 'iperf3');
  return { port, stop: () => stopChild(child) };
}

/** Bits per second that the receiver got. */
export async function iperf(server: StartedProcess, seconds: number): Promise<Load> {
  const args = ['--client', '127.0.0.1', '--port', String(server.port), '--time', String(seconds), '--json'];
  const { stdout } = await run('iperf3', args, { maxBuffer: 1 << 26 });
  type Report = {
    end: {
      sum_received: { bits_per_second: number };
      cpu_utilization_percent: { host_total: number; remote_total: number };
    };
  };
  const report = JSON.parse(stdout) as Report;
  const { sum_received: received, cpu_utilization_percent: cpu } = report.end;
  const share = (cpu.host_total + cpu.remote_total) / 100;
  return { perSecond: received.bits_per_second, cpuSeconds: share / received.bits_per_second };
}

/** nginx with a configuration of its own: one worker, a page of `bytes` bytes at every path. */
export async function startNginx(bytes = 1024): Promise<StartedProcess> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'knp-bench-nginx-'));
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ')}
  server { listen 127.0.0.1:${port}; location / { return 200 "${'x'.repeat(bytes)}"; } }
}
`,
  );
  const child = spawn('nginx', ['-p', folder, '-e', `${folder}/error.log`, '-c', `${folder}/nginx.conf`], {
    stdio: 'ignore',
  });
  await listening(port, 'nginx');
  return {
    port,
    cpuSeconds: () => cpuSecondsOf(child.pid as number),
    stop: async () => {
      await stopChild(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What a load came to: how much a second, and what one piece of it took of the processor, both ends together. */
export type Load = { perSecond: number; cpuSeconds: number };

/** wrk's requests. Its own processor time is what the shell's `times` says of its children. */
export async function wrk(server: StartedProcess, seconds: number): Promise<Load> {
  const url = `http://127.0.0.1:${server.port}/`;
  const before = server.cpuSeconds?.() ?? 0;
  const { stdout } = await run('sh', [
    '-c',
    'wrk -t1 -c16 "-d$1s" "$2" && times',
    'sh',
    String(seconds),
    url,
  ]);
  const after = server.cpuSeconds?.() ?? 0;
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1];
  const requests = /([\d]+) requests in/.exec(stdout)?.[1];
  const times = [...(stdout.trim().split('\n').at(-1) ?? '').matchAll(/(\d+)m([\d.]+)s/g)];
  if (
    rate === undefined ||
    requests === undefined ||
    times.length !== 2 ||
    /Non-2xx|Socket errors/.test(stdout)
  )
    throw new Error(`wrk: ${stdout}`);
  const own = times.reduce((sum, [, minutes, rest]) => sum + Number(minutes) * 60 + Number(rest), 0);
  return { perSecond: Number(rate), cpuSeconds: (own + after - before) / Number(requests) };
}

let compiled: string | undefined;

/** The project's load generator, compiled on first use. */
function loadGenerator(): string {
  if (compiled === undefined) {
    mkdirSync(join(ROOT, 'build/load'), { recursive: true });
    compiled = join(ROOT, 'build/load/load');
    execFileSync('cc', [
      '-O2',
      '-Wall',
      '-Werror',
      '-pthread',
      '-o',
      compiled,
      join(ROOT, 'test/load/load.c'),
    ]);
  }
  return compiled;
}

/** An accept loop: connect, one byte each way, close; `rate` times a second, or as fast as it goes. */
export async function acceptLoop(seconds: number, rate?: number): Promise<Load> {
  const more = rate === undefined ? [] : [String(rate)];
  const { stdout } = await run(loadGenerator(), ['accept', String(seconds), '2', ...more]);
  type Report = { connections: number; seconds: number; cpu: number };
  const { connections, seconds: took, cpu } = JSON.parse(stdout) as Report;
  return { perSecond: connections / took, cpuSeconds: cpu / connections };
}

/** Holds `perPort` connections to each of `ports` ports; every connection carries 100 bytes both ways per interval. */
export async function holdConnections(
  ports: number,
  perPort: number,
  intervalMillis: number,
): Promise<StartedProcess> {
  const args = ['hold', String(ports), String(perPort), String(intervalMillis)];
  const child = spawn(loadGenerator(), args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [ready] = (await Promise.race([once(child.stdout, 'data'), once(child, 'close')])) as [
    Buffer | number,
  ];
  if (!String(ready).startsWith('ready')) throw new Error(`load hold ended: ${String(ready)}`);
  return { port: 0, stop: () => stopChild(child) };
}
