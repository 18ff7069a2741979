// The benches, in the order in which `make bench` runs them. A new one is a new entry here.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from '../../scripts/architecture/files.ts';
import { Agent, sample } from './agent.ts';
import { HTTP_BENCHES } from './http.ts';
import { kept } from './kept.ts';
import { KUBERNETES_BENCHES } from './kubernetes.ts';
import { type Bench, type BenchOptions, figure, sleep } from './measure.ts';
import {
  acceptLoop,
  holdConnections,
  iperf,
  type StartedProcess,
  startIperf,
  startNginx,
  wrk,
} from './servers.ts';

/** CPU and memory are watched over windows of Prometheus's default scrape interval, with one scrape in each. */
const WINDOW_MILLIS = 15_000;

/** CPU seconds per minute and resident memory while `load` runs. */
async function weigh(
  options: BenchOptions,
  load?: () => Promise<StartedProcess>,
): Promise<{ cpu: number[]; rss: number[] }> {
  const running = await load?.();
  const agent = await Agent.start();
  try {
    await agent.scrape();
    await sleep(2000);
    const cpu: number[] = [];
    const rss: number[] = [];
    for (let i = 0; i < options.pairs; i++) {
      const before = agent.cpuSeconds();
      const start = performance.now();
      await sleep(WINDOW_MILLIS / 2);
      await agent.scrape();
      await sleep(WINDOW_MILLIS / 2);
      cpu.push(((agent.cpuSeconds() - before) / (performance.now() - start)) * 60_000);
      rss.push(agent.residentMegabytes());
    }
    return { cpu, rss };
  } finally {
    await agent.stop();
    await running?.stop();
  }
}

export const BENCHES: readonly Bench[] = [
  {
    name: 'iperf3',
    description: 'bulk throughput over loopback, one stream, both ends watched',
    run: (options) =>
      kept(options, { start: startIperf, measure: iperf }, 0.99, { unit: 'Gbit/s', divisor: 1e9 }),
  },
  {
    name: 'accept',
    description: 'connections opened and closed as fast as two pairs of threads can, both ends watched',
    run: (options) =>
      kept(options, { measure: (_server, seconds) => acceptLoop(seconds) }, undefined, {
        unit: 'connections/s',
        divisor: 1,
      }),
  },
  {
    name: 'accept-20k',
    description: 'the same, 20,000 a second offered',
    run: (options) =>
      kept(options, { measure: (_server, seconds) => acceptLoop(seconds, 20_000) }, 0.95, {
        unit: 'connections/s',
        divisor: 1,
      }),
  },
  {
    name: 'http',
    description: 'wrk against nginx with kept-open connections, both ends watched',
    run: (options) =>
      kept(options, { start: startNginx, measure: wrk }, 0.95, { unit: 'requests/s', divisor: 1 }),
  },
  ...HTTP_BENCHES,
  {
    name: 'idle',
    description: 'the agent on a quiet host, one scrape per 15 s',
    run: async (options) => {
      const { cpu, rss } = await weigh(options);
      return [figure('CPU', cpu, 's per minute'), figure('resident memory', rss, 'MB', { atMost: 90 })];
    },
  },
  {
    name: 'edges',
    description:
      '1,000 edges (500 ports, both ends here), each carrying data every second, one scrape per 15 s',
    run: async (options) => {
      const { cpu, rss } = await weigh(options, () => holdConnections(500, 1, 1000));
      return [figure('CPU', cpu, 's per minute'), figure('resident memory', rss, 'MB')];
    },
  },
  {
    name: 'walk',
    description: 'one collection of the TCP source with 10,000 open sockets',
    run: async (options) => {
      const running = await holdConnections(1, 5000, 1000);
      const agent = await Agent.start();
      try {
        const millis: number[] = [];
        for (let i = 0; i < Math.max(options.pairs, 15); i++) {
          const text = await agent.scrape();
          millis.push(sample(text, 'knp_agent_source_duration_seconds', { source: 'tcp' }) * 1000);
          await sleep(200);
        }
        return [figure('collection of 10,000 sockets', millis, 'ms', { atMost: 10 })];
      } finally {
        await agent.stop();
        await running.stop();
      }
    },
  },
  {
    name: 'start',
    description: 'from the start of the process to the end of the first complete scrape',
    run: async (options) => {
      const seconds: number[] = [];
      for (let i = 0; i < options.pairs; i++) {
        const start = performance.now();
        const agent = await Agent.start();
        try {
          await agent.scrape();
          seconds.push((performance.now() - start) / 1000);
        } finally {
          await agent.stop();
        }
      }
      return [figure('start to first scrape', seconds, 's', { atMost: 2 })];
    },
  },
  {
    name: 'exposition',
    description: 'a scrape of 50,000 lines of text, the exposition alone',
    run: async () => {
      const script = join(ROOT, 'test/load/exposition.ts');
      const output = execFileSync(process.execPath, [script, '--json'], { encoding: 'utf8' });
      type Row = {
        lines: number;
        gzip: boolean;
        scrapeMillis: number;
        holdMillis: number;
        rssMegabytes: number;
      };
      const rows = JSON.parse(output) as Row[];
      const row = rows.find(({ lines, gzip }) => !gzip && lines < 100_000);
      if (row === undefined) throw new Error(`exposition.ts yielded no such size: ${output}`);
      return [
        figure('scrape', [row.scrapeMillis], 'ms', { atMost: 60 }),
        figure('longest hold of the event loop', [row.holdMillis], 'ms', { atMost: 10 }),
        figure('resident memory', [row.rssMegabytes], 'MB', { atMost: 120 }),
      ];
    },
  },
  ...KUBERNETES_BENCHES,
];
