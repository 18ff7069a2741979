// Benches of the HTTP probe: what it costs the kernel per request, the agent per million requests (plain, with spans,
// with many paths), and programs that have nothing to do with the network. benches.ts lists them.
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { KernelFeatures } from '../../exporter/kernel/features.ts';
import { enableBpfStats, openObject } from '../../exporter/kernel/native.ts';
import { ROOT } from '../../scripts/architecture/files.ts';
import { Receiver } from '../unit/spans/receiver.ts';
import { Agent, withAgent } from './agent.ts';
import { kept } from './kept.ts';
import { type Bench, type BenchOptions, type Figure, figure, pairs, ratios, sleep } from './measure.ts';
import { type StartedProcess, startNginx, wrk } from './servers.ts';

const run = promisify(execFile);

/** Requests of one measurement; a slow machine takes some seconds for them. */
const REQUESTS = 100_000;
/** The same where it is the agent that is measured: a collection more or less must not decide the figure. */
const LONG = 300_000;
const CONNECTIONS = 16;

/** Exactly `requests` requests as fast as they go. Answers seconds. `urls`: a file with one URL per line. */
async function h2load(server: StartedProcess, requests: number, urls?: string): Promise<number> {
  const target = urls === undefined ? [`http://127.0.0.1:${server.port}/items/7`] : ['-i', urls];
  const args = ['--h1', '-n', String(requests), '-c', String(CONNECTIONS), '-t', '1', ...target];
  const start = performance.now();
  const { stdout } = await run('h2load', args, { maxBuffer: 1 << 26 });
  const seconds = (performance.now() - start) / 1000;
  if (!stdout.includes(`${requests} succeeded, 0 failed`)) throw new Error(`h2load: ${stdout}`);
  return seconds;
}

/** Nanoseconds of processor time that a process has used, all threads. */
function cpuNanos(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).reduce(
    (sum, task) => sum + Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0]),
    0,
  );
}

async function pidOf(agent: Agent): Promise<number> {
  const status = (await (await fetch(`${agent.url}/api/status`)).json()) as { pid: number };
  return status.pid;
}

/** Run time of the programs on the hooks that see bytes so far, in nanoseconds, and how often they ran; with what they call. */
async function probeTime(agent: Agent): Promise<{ nanos: number; runs: number }> {
  const text = await agent.scrape();
  const sum = (metric: string) =>
    [...text.matchAll(new RegExp(`^${metric}\\{program="stream_[^"]*"\\} (\\S+)$`, 'gm'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    );
  const nanos = sum('knp_bpf_program_seconds_total') * 1e9;
  if (nanos === 0) throw new Error('the agent does not say what its HTTP programs cost');
  return { nanos, runs: sum('knp_bpf_program_runs_total') };
}

async function withNginx<T>(work: (server: StartedProcess) => Promise<T>): Promise<T> {
  const server = await startNginx(64);
  try {
    await h2load(server, 1000); // warm
    return await work(server);
  } finally {
    await server.stop();
  }
}

/** Empty programs on the same hooks, compiled as the probes are. */
function compileEmpty(): string {
  const out = join(ROOT, 'build/load/http_empty.bpf.o');
  mkdirSync(join(ROOT, 'build/load'), { recursive: true });
  const flags = execFileSync('make', ['-s', 'bpf-flags'], { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' })
    .trim()
    .split(/\s+/);
  if (new KernelFeatures().missing('tracepoint:tcp_sendmsg_locked') === undefined)
    flags.push('-DSENDMSG_LOCKED');
  execFileSync('clang', [...flags, '-c', 'test/load/http_empty.bpf.c', '-o', out], { cwd: ROOT });
  return out;
}

/** Runs `work` beside empty programs; answers the nanoseconds that they took. */
async function besideEmptyPrograms(work: () => Promise<unknown>): Promise<number> {
  const object = openObject(compileEmpty());
  const stats = enableBpfStats();
  try {
    object.load();
    const programs = object.programs.map(({ name }) => object.program(name));
    for (const program of programs) program.attach();
    const total = () => programs.reduce((sum, program) => sum + program.info().runTimeNs, 0);
    const before = total();
    await work();
    return total() - before;
  } finally {
    object.close();
    stats.close();
  }
}

/** Empty programs run at the same requests as the probe's: whatever else the machine does, both feel it. */
async function kernelTime(options: BenchOptions): Promise<Figure[]> {
  return withNginx(async (server) => {
    const own: number[] = [];
    const runs: number[] = [];
    const empty: number[] = [];
    for (let i = 0; i < options.pairs; i++) {
      await withAgent(async (agent) => {
        await h2load(server, 1000); // the route is known
        const before = await probeTime(agent);
        empty.push((await besideEmptyPrograms(() => h2load(server, REQUESTS))) / REQUESTS);
        const after = await probeTime(agent);
        own.push((after.nanos - before.nanos) / REQUESTS);
        runs.push((after.runs - before.runs) / REQUESTS);
      });
    }
    return [
      figure('programs, both ends of a request', own, 'ns', { atMost: 1200 }),
      figure('empty programs on the same hooks', empty, 'ns'),
      figure(
        'beyond empty programs',
        own.map((value, i) => value - (empty[i] ?? 0)),
        'ns',
      ),
      figure('program runs per request', runs, ''),
    ];
  });
}

/** CPU of the agent while requests pass, above what it takes for the same time without, per million requests. */
async function cpuPerMillion(
  options: BenchOptions,
  load: (server: StartedProcess) => Promise<number>,
  config?: string,
): Promise<Figure[]> {
  return withNginx(async (server) => {
    const seconds: number[] = [];
    const rss: number[] = [];
    const agent = await Agent.start(config === undefined ? {} : { config });
    try {
      const pid = await pidOf(agent);
      // One collection in each window, so that what the difference holds is the load's doing.
      const used = async (work: () => Promise<unknown>) => {
        const before = cpuNanos(pid);
        await work();
        await agent.scrape();
        return cpuNanos(pid) - before;
      };
      for (let i = 0; i < 3; i++) await used(() => load(server)); // paths, routes and code are known
      for (let i = 0; i < options.pairs; i++) {
        let took = 0;
        const busy = await used(async () => {
          took = await load(server);
        });
        const idle = await used(() => sleep(took * 1000));
        seconds.push(((busy - idle) / 1e9 / LONG) * 1e6);
        rss.push(agent.residentMegabytes());
      }
    } finally {
      await agent.stop();
    }
    return [
      figure('CPU per million requests', seconds, 's', { atMost: 0.1 }),
      figure('resident memory', rss, 'MB'),
    ];
  });
}

async function withSpans(options: BenchOptions): Promise<Figure[]> {
  const receiver = await new Receiver().start();
  try {
    let port = 0;
    const figures = await cpuPerMillion(
      options,
      (server) => {
        port = server.port; // other requests of this host become spans too
        return h2load(server, LONG);
      },
      JSON.stringify({
        probes: { http: { sampling: { ratio: 0.01, spans_per_second: 100_000 } } },
        otlp: { traces: { enabled: true, endpoint: receiver.endpoint } },
      }),
    );
    const expected = 2 * 0.01 * LONG * (options.pairs + 3);
    const received = receiver.spans.filter(({ attributes }) => attributes['server.port'] === port);
    const [cpu, memory] = figures.map(({ goal: _, ...rest }) => rest);
    return [
      ...(cpu && memory ? [cpu, memory] : []),
      figure('spans received of those expected', [received.length / expected], 'ratio'),
    ];
  } finally {
    receiver.stop();
  }
}

/** Paths of this load, all names, so that each is one of its own. */
const PATHS = 10_000;
/** A path is asked for at each end, and no more than this many in a second (bpf/http_metrics.h). */
const LEARNT_PER_SECOND = 1000;

/** `known`: the agent has learnt them all before it is measured. */
async function manyPaths(options: BenchOptions, known: boolean): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), 'knp-bench-paths-'));
  const urls = join(folder, 'urls');
  const letters = (n: number) => [...String(n)].map((digit) => 'abcdefghij'[Number(digit)]).join('');
  let until = 0;
  const load = async (server: StartedProcess) => {
    const lines = Array.from(
      { length: PATHS },
      (_, i) => `http://127.0.0.1:${server.port}/shop/${letters(i)}/x`,
    );
    writeFileSync(urls, `${lines.join('\n')}\n`);
    until ||= performance.now() + 1000 * ((1.5 * 2 * PATHS) / LEARNT_PER_SECOND);
    while (known && performance.now() < until) await h2load(server, REQUESTS, urls);
    return h2load(server, LONG, urls);
  };
  try {
    return await cpuPerMillion(options, load);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** System calls per second of a program that does nothing else and knows no network. */
async function systemCalls(): Promise<number> {
  const blocks = 1_000_000;
  const start = performance.now();
  await run('dd', ['if=/dev/zero', 'of=/dev/null', 'bs=1', `count=${blocks}`]);
  return (2 * blocks) / ((performance.now() - start) / 1000);
}

/** In the order in which they run. */
export const HTTP_BENCHES: readonly Bench[] = [
  {
    name: 'http-nostats',
    description: 'wrk against nginx as in http, with bpf.stats off: the kernel takes no time stamps',
    run: (options) =>
      kept(options, { start: startNginx, measure: wrk, config: 'bpf: {stats: false}' }, 0.95, {
        unit: 'requests/s',
        divisor: 1,
      }),
  },
  {
    name: 'http-kernel',
    description: `time in the kernel per HTTP request (nginx and h2load, ${REQUESTS} requests over ${CONNECTIONS} connections)`,
    run: kernelTime,
  },
  {
    name: 'http-cpu',
    description: "the agent's processor time per million HTTP requests, above what it takes when idle",
    run: (options) => cpuPerMillion(options, (server) => h2load(server, LONG)),
  },
  {
    name: 'http-spans',
    description: 'the same with 1 % of the requests sampled and exported over OTLP',
    run: withSpans,
  },
  {
    name: 'http-paths',
    description: 'the same with 10,000 distinct paths, all names',
    run: (options) => manyPaths(options, true),
  },
  {
    name: 'http-paths-new',
    description: `the same while these paths are being learnt (${LEARNT_PER_SECOND} a second)`,
    run: (options) => manyPaths(options, false),
  },
  {
    name: 'syscalls',
    description: 'a program that makes system calls and knows no network (dd, blocks of one byte)',
    run: async (options) => {
      await systemCalls(); // warm
      const measured = await pairs(options.pairs, {
        without: systemCalls,
        with: () => withAgent(systemCalls),
      });
      return [
        figure('kept with the agent', ratios(measured), 'ratio'),
        figure(
          'added to a system call',
          measured.with.map((w, i) => 1e9 / w - 1e9 / (measured.without[i] ?? w)),
          'ns',
        ),
        figure('without', measured.without, 'calls/s'),
        figure('with', measured.with, 'calls/s'),
      ];
    },
  },
];
