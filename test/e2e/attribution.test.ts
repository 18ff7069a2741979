// Every byte, connection and request of a cluster's traffic under the right pair of names: the agent as the chart
// deploys it, on a node whose pods know what they sent to whom. KNPTEST_PODS=200 runs all of the scenario.
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
import { attributionScenario, PORTS, Traffic } from './attribution_traffic.ts';

const root = join(import.meta.dirname, '../..');
const command = join(root, 'bin/kubenetprobe');
const PODS = Number(process.env.KNPTEST_PODS ?? 40);
const missing = ['node', 'python', 'go'].filter((each) => !availablePrograms().includes(each as 'go'));
const reason = testbedUnavailable() ?? (missing.length > 0 ? `no ${missing.join(', ')}` : undefined);

/** How long a number may be on its way: sockets close a little later, and after an outage a watch waits up to half a minute. */
const PATIENCE_MILLIS = 120_000;
const UNKNOWN = /Unknown/;

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
    if (process.env.KNPTEST_PODS && traffic) {
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
    agent = await startAgent(cluster, { objects, node: 'node-a', command, ...(apiServer && { apiServer }) });
    const probes = parseExposition(await agent.metrics(), (name) => name === 'knp_probe_info');
    withHttp = probes.some(({ labels }) => labels.probe === 'http');
  }

  const measured = async () => measuredLedger(await agent.metrics(), traffic.ports);

  async function metric(name: string): Promise<number[]> {
    return parseExposition(await agent.metrics(), (each) => each === name).map(({ value }) => value);
  }

  async function knownPods(): Promise<number | undefined> {
    const samples = parseExposition(await agent.metrics(), (name) => name === 'knp_kubernetes_objects');
    return samples.find(({ labels }) => labels.resource === 'pods')?.value;
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
      await sleep(100);
    }
  }

  /** What the programs counted since a moment is what the agent counted since another, pair by pair; and it stays so. */
  async function expectExact(truthBefore: Ledger, measuredBefore = new Ledger()): Promise<void> {
    const truth = traffic.ledger.minus(truthBefore);
    const expected = withHttp ? truth : truth.withoutRequests();
    expect(expected.pairs.size).toBeGreaterThan(0);
    const differences = async () => expected.differences((await measured()).minus(measuredBefore));
    const deadline = Date.now() + PATIENCE_MILLIS;
    while ((await differences()).length > 0 && Date.now() < deadline) await sleep(250);
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
        await sleep(500);
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
    await start();
    await synced();
    await traffic.round();
    await agent.metrics();
    await traffic.round();
    await expectExact(origin);
    expect((await measured()).keys(UNKNOWN)).toEqual([]);
    // Not vacuous: twenty workloads with three callees each, and the extra ones.
    expect(traffic.ledger.keys(/^client/).length).toBeGreaterThan(60);
  });

  test('ClusterIP, NodePort, headless, hairpin and host network are among them', async () => {
    const pairs = await measured();
    const nodePort = [...traffic.ports].find((port) => !Object.values(PORTS).map(String).includes(port));
    for (const key of [
      `client: CronJob shop/nightly → Deployment data/billing by 'billing' at ${PORTS.service}`,
      `client: Deployment shop/tester → Deployment shop/gateway by 'gateway' at ${nodePort}`,
      `client: Deployment data/catalog → StatefulSet shop/orders-db by '' at ${PORTS.pod}`,
      `client: Deployment shop/tester → Deployment shop/tester by 'tester' at ${PORTS.service}`,
      `server: Deployment shop/tester → Deployment shop/tester by '' at ${PORTS.pod}`,
      `client: DaemonSet ops/edge → Deployment shop/gateway by 'gateway' at ${PORTS.service}`,
      `client: Deployment shop/tester → DaemonSet ops/edge by 'edge' at ${PORTS.service}`,
      `server: Deployment shop/tester → DaemonSet ops/edge by '' at ${PORTS.host}`,
    ])
      expect(pairs.pairs.get(key)?.connections, key).toBeGreaterThan(0);
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

  test('rolling updates, restarts and an address that goes to another workload, under traffic', async () => {
    await underTraffic(async () => {
      await cluster.roll(workload('data/catalog'));
      await cluster.roll(workload('shop/orders-db'));
      for (const pod of [...workload('ops/sessions').pods]) await traffic.restart(pod);
      const [old] = workload('data/stock').pods;
      if (old === undefined) throw new Error('no pod');
      const { address } = old.network;
      await cluster.deletePod(old);
      const next = await cluster.createPod(workload('shop/search'), { address });
      expect(next.network.address).toBe(address);
      await cluster.scale(workload('ops/pricing'), workload('ops/pricing').pods.length + 1);
      await sleep(1000);
    });
    await expectExact(origin);
    expect((await measured()).keys(UNKNOWN)).toEqual([]);
  });

  test('the API server is away under traffic: the names stay', async () => {
    const pods = await knownPods();
    await underTraffic(async () => {
      await cluster.controlPlane.stopApiServer('SIGKILL');
      await sleep(5000);
      await cluster.controlPlane.startApiServer();
    });
    await expectExact(origin);
    // What comes afterwards is learned.
    await cluster.createPod(workload('data/users'));
    await until(async () => (await knownPods()) === (pods ?? 0) + 1, 'the new pod is known');
    await traffic.round();
    await expectExact(origin);
    expect((await measured()).keys(UNKNOWN)).toEqual([]);
  });

  test('the agent restarts under traffic: exact from its start', async () => {
    let before = new Ledger();
    await underTraffic(async () => {
      const old = agent;
      await agent.stop('SIGKILL');
      expect(await old.process.ended).toMatch(/SIGKILL/);
      before = traffic.ledger.copy();
      await start();
      await synced();
    });
    await agent.metrics();
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
