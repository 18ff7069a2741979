// Peers and loads of the benches, all on loopback: iperf3, nginx with wrk, and the project's own generator (load.c).
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../scripts/house/files.ts';
import { freePort } from './agent.ts';
import { sleep } from './measure.ts';

const run = promisify(execFile);

/** A process that the bench started and must end. */
export type Running = { port: number; stop: () => Promise<void> };

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

export async function startIperf(): Promise<Running> {
  const port = await freePort();
  const child = spawn('iperf3', ['--server', '--bind', '127.0.0.1', '--port', String(port)], {
    stdio: 'ignore',
  });
  await listening(port, 'iperf3');
  return { port, stop: () => stopChild(child) };
}

/** Bits per second that the receiver got. */
export async function iperf(server: Running, seconds: number): Promise<number> {
  const args = ['--client', '127.0.0.1', '--port', String(server.port), '--time', String(seconds), '--json'];
  const { stdout } = await run('iperf3', args, { maxBuffer: 1 << 26 });
  const report = JSON.parse(stdout) as { end: { sum_received: { bits_per_second: number } } };
  return report.end.sum_received.bits_per_second;
}

/** nginx with a configuration of its own: one worker, a page of `bytes` bytes at every path. */
export async function startNginx(bytes = 1024): Promise<Running> {
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
    stop: async () => {
      await stopChild(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Requests per second, as wrk counts them. */
export async function wrk(server: Running, seconds: number): Promise<number> {
  const args = ['-t1', '-c16', `-d${seconds}s`, `http://127.0.0.1:${server.port}/`];
  const { stdout } = await run('wrk', args);
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1];
  if (rate === undefined || /Non-2xx|Socket errors/.test(stdout)) throw new Error(`wrk: ${stdout}`);
  return Number(rate);
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

/** Connections per second of an accept loop: connect, one byte each way, close. */
export async function acceptLoop(seconds: number): Promise<number> {
  const { stdout } = await run(loadGenerator(), ['accept', String(seconds), '2']);
  const { connections, seconds: took } = JSON.parse(stdout) as { connections: number; seconds: number };
  return connections / took;
}

/** Holds `perPort` connections to each of `ports` ports; every connection carries 100 bytes both ways per interval. */
export async function holdConnections(
  ports: number,
  perPort: number,
  intervalMillis: number,
): Promise<Running> {
  const args = ['hold', String(ports), String(perPort), String(intervalMillis)];
  const child = spawn(loadGenerator(), args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [ready] = (await Promise.race([once(child.stdout, 'data'), once(child, 'close')])) as [
    Buffer | number,
  ];
  if (!String(ready).startsWith('ready')) throw new Error(`load hold ended: ${String(ready)}`);
  return { port: 0, stop: () => stopChild(child) };
}
