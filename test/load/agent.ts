// The agent as a user starts it, for the benches: ready, scraped, weighed, stopped.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../scripts/architecture/files.ts';
import { sleep } from './measure.ts';

/** While a load runs, the agent is scraped this often: three times as often as Prometheus does by default. */
const SCRAPE_EVERY_MILLIS = 5000;
const READY_WITHIN_MILLIS = 30_000;
const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** A TCP port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** CPU seconds that a process has used, all threads, user and system. */
export function cpuSecondsOf(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // from field 3, the state
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Resident memory of a process now, or the most that it ever had (`VmHWM`), in 10⁶ bytes. */
export function residentMegabytesOf(pid: number | undefined, field: 'VmRSS' | 'VmHWM' = 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return (Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024) / 1e6;
}

export class Agent {
  readonly url: string;
  private readonly child: ChildProcess;
  private readonly folder: string;
  private output = '';
  private scraping: NodeJS.Timeout | undefined;

  private constructor(child: ChildProcess, port: number, folder: string) {
    this.child = child;
    this.url = `http://127.0.0.1:${port}`;
    this.folder = folder;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output = (this.output + text).slice(-4000);
      });
    }
  }

  /** Starts `bin/kubenetprobe run` and answers when /readyz says 200. `config` is YAML. */
  static async start(options: { config?: string } = {}): Promise<Agent> {
    const port = await freePort();
    const folder = mkdtempSync(join(tmpdir(), 'knp-bench-agent-'));
    const args = ['run', '--listen', `127.0.0.1:${port}`];
    if (options.config !== undefined) {
      writeFileSync(join(folder, 'config.yaml'), options.config);
      args.push('--config', join(folder, 'config.yaml'));
    }
    const child = spawn(join(ROOT, 'bin/kubenetprobe'), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const agent = new Agent(child, port, folder);
    try {
      await agent.ready();
    } catch (error) {
      await agent.stop();
      throw error;
    }
    return agent;
  }

  private async ready(): Promise<void> {
    const deadline = performance.now() + READY_WITHIN_MILLIS;
    while (performance.now() < deadline) {
      if (this.child.exitCode !== null)
        throw new Error(`the agent ended with ${this.child.exitCode}: ${this.output}`);
      const answer = await fetch(`${this.url}/readyz`).catch(() => undefined);
      await answer?.arrayBuffer();
      if (answer?.status === 200) return;
      await sleep(10);
    }
    throw new Error(`the agent was not ready within ${READY_WITHIN_MILLIS / 1000} s: ${this.output}`);
  }

  /** The whole exposition. */
  async scrape(): Promise<string> {
    const answer = await fetch(`${this.url}/metrics`);
    const text = await answer.text();
    if (answer.status !== 200) throw new Error(`/metrics answered ${answer.status}: ${text.slice(0, 200)}`);
    return text;
  }

  /** Scrapes as Prometheus would until stop(). */
  scrapeRegularly(): void {
    this.scraping = setInterval(() => {
      this.scrape().catch((error: Error) => console.error(`scrape failed: ${error.message}`));
    }, SCRAPE_EVERY_MILLIS);
  }

  cpuSeconds(): number {
    return cpuSecondsOf(this.child.pid);
  }

  residentMegabytes(): number {
    return residentMegabytesOf(this.child.pid);
  }

  async stop(): Promise<void> {
    clearInterval(this.scraping);
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM');
      await once(this.child, 'close');
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Runs `work` while an agent watches and is scraped. */
export async function withAgent<T>(
  work: (agent: Agent) => Promise<T>,
  options: { config?: string } = {},
): Promise<T> {
  const agent = await Agent.start(options);
  try {
    agent.scrapeRegularly();
    await sleep(300);
    return await work(agent);
  } finally {
    await agent.stop();
  }
}

/** The value of one sample of an exposition; labels must contain all of `labels`. Throws when there is none. */
export function sample(exposition: string, name: string, labels: Record<string, string> = {}): number {
  const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
  const line = exposition
    .split('\n')
    .find(
      (text) =>
        /^[{ ]/.test(text.slice(name.length)) &&
        text.startsWith(name) &&
        wanted.every((label) => text.includes(label)),
    );
  if (line === undefined) throw new Error(`no sample ${name} ${wanted.join(' ')}`);
  return Number(
    line
      .slice(line.lastIndexOf('}') + 1)
      .trim()
      .split(' ')
      .at(line.includes('}') ? 0 : 1),
  );
}
