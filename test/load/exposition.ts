// What a scrape costs: time, longest hold of the event loop, resident memory, for 50,000 and 200,000 lines.
// Runs alone (`node test/load/exposition.ts [--json]`); each size and encoding in a process of its own.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Collector } from '../../exporter/telemetry/collector.ts';
import { writeExposition } from '../../exporter/telemetry/out/prometheus.ts';
import { SharedBody } from '../../exporter/telemetry/out/shared_body.ts';
import { SeriesStore } from '../../exporter/telemetry/store.ts';

interface Figures {
  readonly lines: number;
  readonly gzip: boolean;
  readonly megabytes: number;
  /** Median of the scrapes, collection included, in milliseconds. */
  readonly scrapeMillis: number;
  /** The same in CPU time of the main thread. */
  readonly scrapeCpuMillis: number;
  /** Of the scrape, the collection (limits, expiry). */
  readonly collectionMillis: number;
  /** Longest time between two turns of the event loop during any scrape, in milliseconds. */
  readonly holdMillis: number;
  /** The same in CPU time of the thread: what it would have been on a machine that nobody else uses. */
  readonly holdCpuMillis: number;
  readonly rssMegabytes: number;
}

const SCRAPES = 15;
const CLIENTS = 40;

/** A store of about `lines` lines: half histograms, half counters, with names of realistic length. */
function fill(lines: number): { store: SeriesStore; touch: () => void } {
  const store = new SeriesStore({ seriesPerMetric: 100_000 });
  const perEdge = 2 * (store.bounds('knp.tcp.rtt').length + 3) + 20;
  const touches: (() => void)[] = [];
  for (let i = 0; i < lines / perEdge; i++) {
    for (let part = 0; part < 10; part++) {
      const edge = {
        reporter: part % 2 === 0 ? 'client' : 'server',
        client_workload: `frontend-${i % CLIENTS}`,
        client_namespace: 'online-boutique',
        client_kind: 'Deployment',
        server_workload: `checkout-service-${i}`,
        server_namespace: 'online-boutique',
        server_kind: 'Deployment',
        server_service: `checkout-service-${i}`,
        server_port: 8000 + part,
        transport: 'tcp',
      } as const;
      const sent = store.counter('knp.tcp.sent_bytes', edge);
      const received = store.counter('knp.tcp.received_bytes', edge);
      touches.push(() => {
        sent.add(1448);
        received.add(1e9);
      });
      if (part < 2) {
        const rtt = store.histogram('knp.tcp.rtt', edge);
        touches.push(() => rtt.observe(0.0003 * (part + 1)));
      }
    }
  }
  return { store, touch: () => touches.forEach((touch) => void touch()) };
}

/** CPU time of this thread in milliseconds. */
function cpuNow(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** Longest gap between two turns of the event loop while `work` runs, in milliseconds: wall time and CPU time. */
async function longestHold(work: () => Promise<void>): Promise<{ wall: number; cpu: number }> {
  const longest = { wall: 0, cpu: 0 };
  let last = performance.now();
  let lastCpu = cpuNow();
  let running = true;
  const measureTurn = () => {
    const now = performance.now();
    const cpu = cpuNow();
    longest.wall = Math.max(longest.wall, now - last);
    longest.cpu = Math.max(longest.cpu, cpu - lastCpu);
    last = now;
    lastCpu = cpu;
  };
  const turn = () => {
    if (!running) return;
    measureTurn();
    setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  measureTurn();
  running = false;
  return longest;
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

async function measure(lines: number, gzip: boolean): Promise<Figures> {
  const { store, touch } = fill(lines);
  const collector = new Collector({ store });
  const times: number[] = [];
  const cpuTimes: number[] = [];
  const collections: number[] = [];
  const holds: { wall: number; cpu: number }[] = [];
  let bytes = 0;
  let written = 0;
  for (let scrape = 0; scrape < SCRAPES; scrape++) {
    touch();
    await new Promise((resolve) => setTimeout(resolve, 20));
    let elapsed = 0;
    const hold = await longestHold(async () => {
      const began = performance.now();
      const cpuBegan = cpuNow();
      const { families } = await collector.collect();
      collections.push(performance.now() - began);
      bytes = 0;
      for await (const chunk of new SharedBody(writeExposition(families, 'text'), gzip).read())
        bytes += chunk.length;
      elapsed = performance.now() - began;
      cpuTimes.push(cpuNow() - cpuBegan);
    });
    times.push(elapsed);
    holds.push(hold);
  }
  const rss = process.memoryUsage.rss();
  for (const piece of writeExposition(store.families(), 'text')) written += piece.match(/\n/g)?.length ?? 0;
  return {
    lines: written,
    gzip,
    megabytes: bytes / 1e6,
    scrapeMillis: median(times),
    scrapeCpuMillis: median(cpuTimes),
    collectionMillis: median(collections),
    holdMillis: Math.max(...holds.map(({ wall }) => wall)),
    holdCpuMillis: Math.max(...holds.map(({ cpu }) => cpu)),
    rssMegabytes: rss / 1e6,
  };
}

const [lines, encoding] = process.argv.slice(2);
if (lines !== undefined && lines !== '--json') {
  console.log(JSON.stringify(await measure(Number(lines), encoding === 'gzip')));
} else {
  const self = fileURLToPath(import.meta.url);
  // As the agent is started: small young generation, and no TypeScript compiler in memory (the cache spares it).
  const cache = mkdtempSync(join(tmpdir(), 'knp-exposition-'));
  const env = { ...process.env, NODE_COMPILE_CACHE: cache };
  const run = (count: number, how: string): Figures => {
    const args = ['--max-semi-space-size=4', self, String(count), how];
    return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8', env }));
  };
  run(1000, 'plain');
  const results = [50_000, 200_000].flatMap((count) => [run(count, 'plain'), run(count, 'gzip')]);
  rmSync(cache, { recursive: true });
  if (lines === '--json') console.log(JSON.stringify(results));
  else {
    for (const figures of results) {
      const {
        megabytes,
        scrapeMillis,
        scrapeCpuMillis,
        collectionMillis,
        holdMillis,
        holdCpuMillis,
        rssMegabytes,
      } = figures;
      console.log(
        `${figures.lines} lines${figures.gzip ? ', gzip' : ''}: ${megabytes.toFixed(1)} MB, ` +
          `scrape ${scrapeMillis.toFixed(0)} ms (${scrapeCpuMillis.toFixed(0)} ms CPU; collection ${collectionMillis.toFixed(0)} ms), ` +
          `longest hold ${holdMillis.toFixed(1)} ms (${holdCpuMillis.toFixed(1)} ms CPU), RSS ${rssMegabytes.toFixed(0)} MB`,
      );
    }
  }
}
