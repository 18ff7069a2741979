// Every byte, connection and request of a cluster's traffic under the right pair of names: the agent as the chart
// deploys it, on a node whose pods know what they sent to whom: two hundred of them, or KNPTEST_PODS.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseExposition } from '../../exporter/cli/prometheus_text.ts';
import { applyChart, type RunningAgent, startAgent } from '../testbed/agent.ts';
import type { KubeObject } from '../testbed/api-client.ts';
import { buildAll } from '../testbed/build.ts';
import type { Cluster, Workload } from '../testbed/cluster.ts';
import { type FaultProxy, startFaultProxy } from '../testbed/fault-proxy.ts';
import { availablePrograms } from '../testbed/peers.ts';
import { type RunningScenario, startScenario } from '../testbed/scenario.ts';
import { testbedUnavailable } from '../testbed/unavailable.ts';
import { Ledger, measuredLedger } from './attribution_ledger.ts';
import { attributionScenario, CHANGING, PORTS, Traffic } from './attribution_traffic.ts';

const root = join(import.meta.dirname, '../..');
const command = join(root, 'bin/kubenetprobe');
const PODS = Number(process.env.KNPTEST_PODS ?? 200);
const missing = ['node', 'python', 'go'].filter((each) => !availablePrograms().includes(each as 'go'));
const reason = testbedUnavailable() ?? (missing.length > 0 ? `no ${missing.join(', ')}` : undefined);

/** How long a number may be on its way: sockets close a little later, and after an outage a watch waits up to half a minute. */
const PATIENCE_MILLIS = 120_000;
const UNKNOWN = /Unknown/;
const OUTAGE_MILLIS = 60_000;
/** Every replica of a workload talks to every replica of three others, and those that were replaced count for minutes. */
const EDGES = 65_536;
/** As long is tried to hand an address on within a second. */
const REUSE_MILLIS = 1000;
const REUSE_TRIES = 20;

describe.skipIf(reason)(`attribution${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let running: RunningScenario;
  let cluster: Cluster;
  let traffic: Traffic;
  let objects: KubeObject[];
  let agent: RunningAgent;
  let proxy: FaultProxy;
  /** What had been called when the agent started. */
  let origin = new Ledger();
  let withHttp = true;

  beforeAll(async () => {
    await buildAll();
    running = await startScenario(attributionScenario(PODS));
    cluster = running.cluster;
    traffic = new Traffic(cluster, running.scenario);
    proxy = await startFaultProxy(cluster.controlPlane);
    const manifest = readFileSync(join(root, 'charts/kubenetprobe.yaml'), 'utf8');
    objects = parseAllDocuments(manifest).map((document) => document.toJS() as KubeObject);
    await applyChart(cluster, objects);
  }, 60 * 60_000);
  afterAll(async () => {
    await traffic?.stop();
    if (traffic) {
      const { connections, sent, received, requests } = traffic.ledger.sum(/^client/);
      console.log(
        `${cluster.pods().length} pods, ${traffic.ledger.pairs.size} pairs, ${connections} connections, ` +
          `${requests} requests, ${sent + received} bytes`,
      );
    }
    await proxy?.stop();
    await running?.stop();
  });

  async function start(apiServer?: string): Promise<void> {
    origin = traffic.ledger.copy();
    agent = await startAgent(cluster, {
      objects,
      node: 'node-a',
      command,
      env: { KNP_LIMITS_EDGES: String(EDGES) },
      ...(apiServer && { apiServer }),
    });
    const probes = parseExposition(await scrape(), (name) => name === 'knp_probe_ready');
    withHttp = probes.some(({ labels, value }) => labels.probe === 'http' && value === 1);
  }

  /** What it has said so far. */
  const said = () => readFileSync(agent.process.logPath, 'utf8');

  /** A complete exposition: where this machine is too busy for a source to be read in time, the next one. */
  async function scrape(): Promise<string> {
    const failures = (text: string) =>
      parseExposition(text, (each) => each === 'knp_agent_source_failures_total').reduce(
        (sum, { value }) => sum + value,
        0,
      );
    const deadline = Date.now() + PATIENCE_MILLIS;
    for (let before = -1; ; await sleep(500)) {
      const text = await agent.metrics().catch((error: Error) => {
        if (Date.now() > deadline) throw error;
        return '';
      });
      const now = text === '' ? -1 : failures(text);
      if (now === 0 || (now > 0 && now === before)) return text;
      if (Date.now() > deadline) throw new Error('no complete exposition');
      before = now;
    }
  }

  const measured = async () => measuredLedger(await scrape(), traffic.ports);

  async function metric(name: string): Promise<number[]> {
    return parseExposition(await scrape(), (each) => each === name).map(({ value }) => value);
  }

  const unresolved = async () => (await metric('knp_identity_unresolved_total')).reduce((a, b) => a + b, 0);

  /** The agent knows as many pods as there are, itself among them. */
  async function podsKnown(): Promise<void> {
    await until(async () => {
      const samples = parseExposition(await scrape(), (name) => name === 'knp_kubernetes_objects');
      const known = samples.find(({ labels }) => labels.resource === 'pods')?.value;
      return known === cluster.pods().length + 1;
    }, 'all pods are known');
  }

  /** All kinds of objects have been listed. */
  async function synced(): Promise<void> {
    await until(async () => {
      const values = await metric('knp_kubernetes_synced');
      return values.length >= 4 && values.every((value) => value === 1);
    }, 'all objects are known');
  }

  async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
    const deadline = Date.now() + PATIENCE_MILLIS;
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error(`still not: ${what}`);
      await sleep(500);
    }
  }

  /** What the programs counted since a moment is what the agent counted since another, pair by pair; and it stays so. */
  async function expectExact(truthBefore: Ledger, measuredBefore = new Ledger()): Promise<void> {
    const truth = traffic.ledger.minus(truthBefore);
    const expected = withHttp ? truth : truth.withoutRequests();
    expect(expected.pairs.size).toBeGreaterThan(0);
    const differences = async () => expected.differences((await measured()).minus(measuredBefore));
    const deadline = Date.now() + PATIENCE_MILLIS;
    while ((await differences()).length > 0 && Date.now() < deadline) await sleep(1000);
    expect(await differences()).toEqual([]);
    // The programs agree with each other: the truth is one.
    expect((await cluster.settle()).disagreements()).toEqual([]);
    expect(traffic.failures).toEqual([]);
    expect(await differences()).toEqual([]);
  }

  function workload(id: string): Workload {
    const found = cluster.workloads.get(id);
    if (found === undefined) throw new Error(`no workload ${id}`);
    return found;
  }

  /** Scrapes as Prometheus would while something happens under traffic. */
  async function underTraffic(action: () => Promise<void>): Promise<void> {
    traffic.start();
    let busy = true;
    const scraping = (async () => {
      while (busy) {
        // An agent that restarts does not answer.
        await agent.metrics().catch(() => {});
        await sleep(5000);
      }
    })();
    try {
      await action();
    } finally {
      await traffic.stop();
      busy = false;
      await scraping;
    }
  }

  test('steady: every pair by its names, at both ends, and nothing unknown', async () => {
    await start(proxy.url);
    await synced();
    await traffic.round();
    await scrape();
    const before = await unresolved();
    await traffic.round();
    await expectExact(origin);
    expect((await measured()).keys(UNKNOWN)).toEqual([]);
    expect(await unresolved()).toBe(before);
    // Not vacuous: twenty workloads with three callees each, and the extra ones.
    expect(traffic.ledger.keys(/^client/).length).toBeGreaterThan(60);
    expect(cluster.pods().length).toBeGreaterThanOrEqual(PODS);
  });

  test.each([
    [
      'ClusterIP through DNAT',
      "client: CronJob shop/nightly → Deployment data/billing by 'billing' at SERVICE",
    ],
    ['NodePort', "client: Deployment shop/tester → Deployment shop/gateway by 'gateway' at NODE"],
    ['headless', "client: Deployment data/catalog → StatefulSet shop/orders-db by '' at POD"],
    ['pods by their own addresses', "client: Pod data/probe → Deployment shop/mailer by '' at POD"],
    ['hairpin, the client', "client: Deployment shop/tester → Deployment shop/tester by 'tester' at SERVICE"],
    ['hairpin, the server', "server: Deployment shop/tester → Deployment shop/tester by '' at POD"],
    [
      'host network, as client',
      "client: DaemonSet ops/edge → Deployment shop/gateway by 'gateway' at SERVICE",
    ],
    [
      'host network, by its Service',
      "client: Deployment shop/tester → DaemonSet ops/edge by 'edge' at SERVICE",
    ],
    ['host network, as server', "server: Deployment shop/tester → DaemonSet ops/edge by '' at HOST"],
  ])('%s is among them', async (_, pattern) => {
    const nodePort = [...traffic.ports].find((port) => !Object.values(PORTS).map(String).includes(port));
    const ports = { SERVICE: PORTS.service, POD: PORTS.pod, HOST: PORTS.host, NODE: nodePort };
    const key = pattern.replace(/[A-Z]+$/, (name) => String(ports[name as keyof typeof ports]));
    const { pairs } = await measured();
    // A bare pod is a workload of its own.
    const found = [...pairs].filter(([each]) => each.replace(/Pod data\/probe\S*/, 'Pod data/probe') === key);
    expect(
      found.reduce((sum, [, { connections }]) => sum + connections, 0),
      key,
    ).toBeGreaterThan(0);
  });

  test('kubenetprobe map shows the same pairs', async () => {
    const { stdout } = await promisify(execFile)(command, ['map', '--json', '--from', agent.url]);
    const { links } = JSON.parse(stdout) as { links: { client: string; server: string; ports: string[] }[] };
    const shown = links
      .filter(({ ports }) => ports.some((port) => traffic.ports.has(port)))
      .map(({ client, server }) => `${client} → ${server}`);
    const pairs = traffic.ledger
      .keys(/^client/)
      .map((key) => key.replace(/^client: (.*) by .*$/, '$1').replaceAll(/(^|→ )(\w+) /g, '$1$2/'));
    expect(shown.sort()).toEqual([...new Set(pairs)].sort());
  });

  test('rolling changes and restarts under traffic', async () => {
    await underTraffic(async () => {
      const restarts = async () => {
        for (const pod of [...workload(CHANGING.restarted).pods]) await traffic.restart(pod);
      };
      await Promise.all([...CHANGING.rolled.map((id) => cluster.roll(workload(id))), restarts()]);
      await cluster.scale(workload('ops/pricing'), workload('ops/pricing').pods.length + 1);
      await sleep(1000);
    });
    await expectExact(origin);
    expect((await measured()).keys(UNKNOWN)).toEqual([]);
  });

  test('IP reuse within a second: an address goes to another workload under traffic', async () => {
    let fastest = Number.POSITIVE_INFINITY;
    await underTraffic(async () => {
      const [first] = workload('data/stock').pods;
      if (first === undefined) throw new Error('no pod');
      const { address } = first.network;
      for (let tries = 0; tries < 4 || (fastest >= REUSE_MILLIS && tries < REUSE_TRIES); tries++) {
        const [from, to] = tries % 2 === 0 ? ['data/stock', 'shop/search'] : ['shop/search', 'data/stock'];
        fastest = Math.min(fastest, await handOn(address, workload(from), workload(to)));
      }
      await sleep(1000);
    });
    expect(fastest).toBeLessThan(REUSE_MILLIS);
    await expectExact(origin);
    expect((await measured()).keys(UNKNOWN)).toEqual([]);
  });

  /** A pod goes and one of another workload gets its address: milliseconds from the last use to the next. */
  async function handOn(address: string, from: Workload, to: Workload): Promise<number> {
    const old = from.pods.find(({ network }) => network.address === address);
    if (old === undefined) throw new Error(`nobody has ${address}`);
    await traffic.drain(old);
    const since = performance.now();
    await cluster.deletePod(old);
    const next = await cluster.createPod(to, { address });
    expect(next.network.address).toBe(address);
    return performance.now() - since;
  }

  test('the API server is away for a minute: names stay, who comes meanwhile is unknown, then all is caught up', async () => {
    const before = await unresolved();
    await underTraffic(async () => {
      const minute = sleep(OUTAGE_MILLIS);
      // The server dies. When it is back the way from the agent to it still is not: only so pods can come meanwhile.
      proxy.add({ fault: { kind: 'refuse' } });
      proxy.dropConnections();
      traffic.blind();
      await cluster.controlPlane.stopApiServer('SIGKILL');
      await sleep(OUTAGE_MILLIS / 6);
      await cluster.controlPlane.startApiServer();
      const [stock] = workload('data/stock').pods;
      if (stock === undefined) throw new Error('no pod');
      await handOn(stock.network.address, workload('data/stock'), workload('shop/search'));
      for (const pod of workload('ops/invoices').pods.slice(0, 2)) await traffic.restart(pod);
      await cluster.createPod(workload('data/users'));
      await minute;
    });
    await expectExact(origin);
    const during = await measured();
    expect(during.keys(/^client: Unknown/).length).toBeGreaterThan(0);
    expect(during.keys(/^server: .* → Unknown/).length).toBeGreaterThan(0);
    expect(await unresolved()).toBeGreaterThan(before);
    expect(said()).toContain('cannot reach the API server');

    proxy.clear();
    await podsKnown();
    await until(async () => said().includes('names from the API server are up to date again'), 'all is well');
    traffic.sighted();
    const unknown = (ledger: Ledger) =>
      JSON.stringify([...ledger.pairs].filter(([key]) => UNKNOWN.test(key)).sort());
    const known = unknown(await measured());
    await traffic.round();
    await expectExact(origin);
    // What is known by now is not counted as unknown any more.
    expect(unknown(await measured())).toBe(known);
  });

  test('the agent restarts under traffic: exact from its start', async () => {
    let before = new Ledger();
    await underTraffic(async () => {
      const old = agent;
      await agent.stop('SIGKILL');
      expect(await old.process.ended).toMatch(/SIGKILL/);
      before = traffic.ledger.copy();
      await start();
      await sleep(5000);
    });
    await synced();
    await scrape();
    const atStart = await measured();
    // Not more than was called, and no pair that did not talk; what came before the names is unknown.
    const called = traffic.ledger.minus(before);
    const [most, all] = [called.sum(/^client/), atStart.sum(/^client/)];
    expect(all.sent).toBeGreaterThan(0);
    expect(all.sent).toBeLessThanOrEqual(most.sent);
    expect(all.received).toBeLessThanOrEqual(most.received);
    for (const [key, counts] of atStart.pairs) {
      if (UNKNOWN.test(key)) continue;
      const { sent = 0, received = 0 } = called.pairs.get(key) ?? {};
      expect(counts.sent, key).toBeLessThanOrEqual(sent);
      expect(counts.received, key).toBeLessThanOrEqual(received);
    }
    const truthBefore = traffic.ledger.copy();
    await traffic.round();
    await expectExact(truthBefore, atStart);
  });

  test('names come late: counted as unknown until then, and nothing twice', async () => {
    await agent.stop('SIGTERM');
    proxy.add({ fault: { kind: 'refuse' } });
    await start(proxy.url);
    await traffic.round();
    const early = await measured();
    expect(early.pairs.size).toBeGreaterThan(0);
    expect(early.keys(/: (?!Unknown).* → (?!Unknown)/)).toEqual([]);
    expect((await metric('knp_identity_unresolved_total')).some((value) => value > 0)).toBe(true);
    await until(async () => sumsAreExact(), 'all of it is counted under some name');
    proxy.clear();
    await synced();
    const [unknown, truthBefore] = [await measured(), traffic.ledger.copy()];
    await traffic.round();
    await expectExact(truthBefore, unknown);
    expect(await sumsAreExact()).toBe(true);
  });

  /** Whatever the names: all that was sent is there once at each end. */
  async function sumsAreExact(): Promise<boolean> {
    const [truth, found] = [traffic.ledger.minus(origin), await measured()];
    return [/^client/, /^server/].every((side) => {
      const [a, b] = [truth.sum(side), found.sum(side)];
      return a.sent === b.sent && a.received === b.received && a.connections === b.connections;
    });
  }
});
