// What the agent costs in a large cluster, as a whole: the built agent as the chart deploys it, BPF included, against the
// real API server with ten thousand pods, of which ten a second are replaced. A proxy between the two counts what is asked.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { ROOT } from '../../scripts/architecture/files.ts';
import { applyChart, type RunningAgent, startAgent } from '../testbed/agent.ts';
import type { KubeObject } from '../testbed/api-client.ts';
import { Cluster } from '../testbed/cluster.ts';
import { type FaultProxy, type RequestRecord, startFaultProxy } from '../testbed/fault-proxy.ts';
import { type Population, populate } from '../testbed/population.ts';
import { testbedUnavailable } from '../testbed/unavailable.ts';
import { cpuSecondsOf, residentMegabytesOf } from './agent.ts';
import { type Bench, type BenchOptions, type Figure, figure, sleep } from './measure.ts';

const PODS = 10_000;
const SERVICES = 1000;
/** One node is there for the agent to run on; it takes itself for one of the others, which have pods. */
const NODES = 99;
const CHURN_PER_SECOND = 10;
const WINDOW_MILLIS = 15_000;
const KINDS = ['nodes', 'pods', 'services', 'endpointslices'] as const;

interface Crowd {
  readonly cluster: Cluster;
  readonly objects: readonly KubeObject[];
  readonly population: Population;
  readonly proxy: FaultProxy;
  stop(): Promise<void>;
}

async function startCrowd(): Promise<Crowd> {
  const reason = testbedUnavailable();
  if (reason !== undefined) throw new Error(reason);
  const cluster = await Cluster.start({ nodes: [{ name: 'node-a' }] });
  try {
    const manifest = readFileSync(join(ROOT, 'charts/kubenetprobe.yaml'), 'utf8');
    const objects = parseAllDocuments(manifest).map((document) => document.toJS() as KubeObject);
    await applyChart(cluster, objects);
    const options = { pods: PODS, services: SERVICES, nodes: NODES };
    const population = await populate(cluster.controlPlane, options);
    const proxy = await startFaultProxy(cluster.controlPlane);
    return {
      cluster,
      objects,
      population,
      proxy,
      stop: async () => {
        population.close();
        await proxy.stop();
        await cluster.stop();
      },
    };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

/** Replaces pods at an even pace until it is told to end; answers how many it has replaced. */
function startChurn(population: Population): { replaced: () => number; stop: () => Promise<void> } {
  let [replaced, running] = [0, true];
  const start = performance.now();
  const done = (async () => {
    while (running) {
      const due = start + (replaced * 1000) / CHURN_PER_SECOND;
      if (due > performance.now()) await sleep(due - performance.now());
      await population.churn(1);
      replaced++;
    }
  })();
  return {
    replaced: () => replaced,
    stop: async () => {
      running = false;
      await done;
    },
  };
}

async function synced(agent: RunningAgent): Promise<void> {
  for (;;) {
    const lines = (await agent.metrics()).split('\n').filter((line) => /^knp_kubernetes_synced\{/.test(line));
    if (lines.length === KINDS.length && lines.every((line) => line.endsWith(' 1'))) return;
    await sleep(50);
  }
}

/** New lists, not their further pages. */
function listsOf(kind: string, requests: readonly RequestRecord[]): number {
  return requests.filter(
    ({ path, watch }) =>
      !watch && path.includes(`/${kind}?`) && !/[?&]continue=/.test(path) && !path.includes('status.podIP'),
  ).length;
}

const megabytes = (requests: readonly RequestRecord[]): number =>
  requests.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6;

async function measure(crowd: Crowd, remote: string, options: BenchOptions): Promise<Figure[]> {
  const { cluster, objects, population, proxy } = crowd;
  const first = proxy.requests.length;
  const asked = (): RequestRecord[] =>
    proxy.requests.slice(first).filter(({ agent }) => agent === 'kubenetprobe');
  const agent = await startAgent(cluster, {
    objects,
    node: 'node-a',
    command: join(ROOT, 'bin/kubenetprobe'),
    apiServer: proxy.url,
    env: { KNP_KUBERNETES_NODE_NAME: population.nodes[0] ?? '', KNP_KUBERNETES_REMOTE: remote },
  });
  try {
    await synced(agent);
    const start = { requests: asked(), megabytes: megabytes(asked()) };
    const startCpu = cpuSecondsOf(agent.process.pid);
    const startRss = residentMegabytesOf(agent.process.pid);
    const churn = startChurn(population);
    const windows = await watchChurn(agent, options, asked, churn.replaced).finally(churn.stop);
    const name = (text: string): string => `${text}, remote: ${remote}`;
    const lists = KINDS.map((kind) => listsOf(kind, asked()));
    return [
      figure(name('resident memory when all is listed'), [startRss], 'MB', { atMost: 120 }),
      figure(name('resident memory under churn'), windows.rss, 'MB', { atMost: 120 }),
      figure(name('most that was ever resident'), [residentMegabytesOf(agent.process.pid, 'VmHWM')], 'MB'),
      figure(name('CPU until all is listed'), [startCpu], 's'),
      figure(name('CPU under churn'), windows.cpu, 's per minute'),
      figure(name('pods replaced'), windows.replaced, 'a second'),
      figure(name('lists of each kind since the start'), lists, 'lists', { atMost: 1 }),
      figure(name('requests at start'), [start.requests.length], 'requests'),
      figure(name('asked for at start'), [start.megabytes], 'MB'),
      figure(name('requests under churn'), windows.requests, 'a minute'),
      figure(name('asked for under churn'), windows.megabytes, 'MB a minute'),
    ];
  } finally {
    await agent.stop('SIGTERM');
  }
}

interface Windows {
  readonly rss: number[];
  readonly cpu: number[];
  readonly replaced: number[];
  readonly requests: number[];
  readonly megabytes: number[];
}

/** Windows of a scrape interval, with one scrape in the middle of each. */
async function watchChurn(
  agent: RunningAgent,
  options: BenchOptions,
  asked: () => RequestRecord[],
  replaced: () => number,
): Promise<Windows> {
  const windows: Windows = { rss: [], cpu: [], replaced: [], requests: [], megabytes: [] };
  const { pid } = agent.process;
  await sleep(2000);
  for (let i = 0; i < options.pairs; i++) {
    const start = performance.now();
    const before = {
      cpu: cpuSecondsOf(pid),
      replaced: replaced(),
      requests: asked().length,
      megabytes: megabytes(asked()),
    };
    await sleep(WINDOW_MILLIS / 2);
    await agent.metrics();
    await sleep(WINDOW_MILLIS / 2);
    const minutes = (performance.now() - start) / 60_000;
    windows.rss.push(residentMegabytesOf(pid));
    windows.cpu.push((cpuSecondsOf(pid) - before.cpu) / minutes);
    windows.replaced.push((replaced() - before.replaced) / minutes / 60);
    windows.requests.push((asked().length - before.requests) / minutes);
    windows.megabytes.push((megabytes(asked()) - before.megabytes) / minutes);
  }
  return windows;
}

export const KUBERNETES_BENCHES: readonly Bench[] = [
  {
    name: 'kubernetes',
    description: `the agent in a cluster of ${PODS} pods, ${SERVICES} services and ${NODES + 1} nodes, ${CHURN_PER_SECOND} pods a second replaced`,
    run: async (options) => {
      const crowd = await startCrowd();
      try {
        return [
          ...(await measure(crowd, 'endpointslices', options)),
          ...(await measure(crowd, 'pods', options)),
        ];
      } finally {
        await crowd.stop();
      }
    },
  },
];
