// Clients that dial Services in a cluster of two nodes and two families: the agent on one of them names the very pod that
// answers, its zone and the Service, wherever the pod is. The truth is what the programs counted, pod by pod.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseExposition } from '../../exporter/cli/prometheus_text.ts';
import { applyChart, type RunningAgent, startAgent } from '../testbed/agent.ts';
import type { KubeObject } from '../testbed/api-client.ts';
import { buildAll } from '../testbed/build.ts';
import { Cluster, type Pod } from '../testbed/cluster.ts';
import { availablePrograms } from '../testbed/peers.ts';
import type { PairTruth } from '../testbed/truth.ts';
import { testbedUnavailable } from '../testbed/unavailable.ts';

const root = join(import.meta.dirname, '../..');
const reason = testbedUnavailable() ?? (availablePrograms().includes('go') ? undefined : 'no go');
const PATIENCE_MILLIS = 60_000;
const [POD_PORT, SERVICE_PORT, NODE] = [28481, 28480, 'node-a'];
const EXTERNAL = ['203.0.113.81', '2001:db8:81::1'];

/** Per client, pod that answered and dialled port: what was counted, by the end that dialled. */
type Counted = Record<string, { connections: number; sent: number; received: number; requests: number }>;

const FIELDS: Readonly<Record<string, keyof Counted[string]>> = {
  knp_tcp_connections_opened_total: 'connections',
  knp_tcp_sent_bytes_total: 'sent',
  knp_tcp_received_bytes_total: 'received',
  http_client_request_duration_seconds_count: 'requests',
};

describe.skipIf(reason).each(['nftables', 'iptables'] as const)(
  `Services by %s${reason ? ` (skipped: ${reason})` : ''}`,
  (proxyMode) => {
    let cluster: Cluster;
    let agent: RunningAgent;
    let objects: KubeObject[];
    let clients: Pod[];
    let nodePort: number;

    beforeAll(async () => {
      await buildAll();
      cluster = await Cluster.start({
        nodes: [
          { name: NODE, zone: 'eu-1a' },
          { name: 'node-b', zone: 'eu-1b' },
        ],
        proxyMode,
        dualStack: true,
      });
      cluster.network.separate('node-b');
      const common = { namespace: 'shop', program: 'go' } as const;
      await cluster.createWorkload({ ...common, name: 'api', port: POD_PORT, replicas: 4 });
      await cluster.createService({
        namespace: 'shop',
        name: 'api',
        workload: 'api',
        type: 'NodePort',
        port: SERVICE_PORT,
        targetPort: POD_PORT,
        externalIps: EXTERNAL,
      });
      nodePort = cluster.services.object('shop/api').spec.ports[0].nodePort;
      const web = await cluster.createWorkload({ ...common, name: 'web', node: NODE });
      const edge = await cluster.createWorkload({ ...common, name: 'edge', node: NODE, hostNetwork: true });
      clients = [...web.pods, ...edge.pods];
      const manifest = readFileSync(join(root, 'charts/kubenetprobe.yaml'), 'utf8');
      objects = parseAllDocuments(manifest).map((document) => document.toJS() as KubeObject);
      await applyChart(cluster, objects);
      await start();
    }, 60 * 60_000);
    afterAll(() => cluster?.stop());

    async function start(): Promise<void> {
      agent = await startAgent(cluster, {
        objects,
        node: NODE,
        command: join(root, 'bin/kubenetprobe'),
        env: { KNP_DETAIL: 'pod', KNP_IDENTITY_ZONES: 'true' },
      });
      await until(async () => {
        const synced = await samples('knp_kubernetes_synced');
        return synced.length >= 4 && synced.every(({ value }) => value === 1);
      }, 'all objects are known');
    }

    async function samples(name: string) {
      return parseExposition(await agent.metrics(), (each) => each === name);
    }

    async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
      const deadline = Date.now() + PATIENCE_MILLIS;
      while (!(await condition())) {
        if (Date.now() > deadline) throw new Error(`still not: ${what}`);
        await sleep(100);
      }
    }

    /** [address, port] of the Service: cluster address, node port and external address, in both families. */
    function targets(): [string, number][] {
      const { clusterIPs } = cluster.services.object('shop/api').spec;
      const node = cluster.network.nodes.get(NODE);
      const all = [...clusterIPs, ...EXTERNAL].map((host: string): [string, number] => [host, SERVICE_PORT]);
      return [...all, [node?.address ?? '', nodePort], [node?.address6 ?? '', nodePort]];
    }

    async function callAll(options: {
      connections: number;
      requests: number;
      pauseMillis?: number;
    }): Promise<void> {
      await Promise.all(
        clients.flatMap((client) =>
          targets().map(([host, port]) =>
            cluster.call(
              client,
              { host, port, protocol: 'http', path: '/nat', up: 30, down: 400, ...options },
              'shop/api',
            ),
          ),
        ),
      );
    }

    const workloadOf = (id: string) => cluster.pods().find((pod) => pod.id === id);

    /** What the programs counted, less what they had counted before; `pod` says how a server is called. */
    function truth(before: readonly PairTruth[], pod: (server: Pod) => string): Counted {
      const counted: Counted = {};
      for (const pair of cluster.truth.pairs()) {
        const server = workloadOf(pair.server);
        if (server === undefined) throw new Error(`${pair.client} → ${pair.dialled}: nobody answered`);
        const then = before.find(
          (each) =>
            each.client === pair.client && each.server === pair.server && each.dialled === pair.dialled,
        );
        const port = pair.dialled.slice(pair.dialled.lastIndexOf(':') + 1);
        const key = `${pair.client} → ${pod(server)} at ${port}`;
        counted[key] ??= { connections: 0, sent: 0, received: 0, requests: 0 };
        for (const field of Object.values(FIELDS)) counted[key][field] += pair[field] - (then?.[field] ?? 0);
      }
      // who was not chosen since then, by chance, has nothing
      return Object.fromEntries(Object.entries(counted).filter(([, { connections }]) => connections > 0));
    }

    /** The same as the agent has it. */
    async function measured(): Promise<Counted> {
      const counted: Counted = {};
      for (const { name, labels, value } of parseExposition(
        await agent.metrics(),
        (each) => each in FIELDS,
      )) {
        const field = FIELDS[name];
        const client = `${labels.client_namespace}/${labels.client_pod}`;
        if (field === undefined || labels.reporter === 'server' || !clients.some(({ id }) => id === client))
          continue;
        expect(labels).toMatchObject({
          server_workload: 'api',
          server_kind: 'Deployment',
          server_service: 'api',
        });
        const where = labels.server_pod ? `${labels.server_pod} in ${labels.server_zone}` : 'any';
        const key = `${client} → ${where} at ${labels.server_port}`;
        counted[key] ??= { connections: 0, sent: 0, received: 0, requests: 0 };
        counted[key][field] += value;
      }
      return counted;
    }

    const precisely = ({ object, node }: Pod) =>
      `${object.metadata.name} in ${node.name === NODE ? 'eu-1a' : 'eu-1b'}`;

    async function expectEqual(read: () => Counted): Promise<void> {
      const deadline = Date.now() + PATIENCE_MILLIS;
      const differs = async () => JSON.stringify(sorted(await measured())) !== JSON.stringify(sorted(read()));
      while ((await differs()) && Date.now() < deadline) await sleep(200);
      expect(await measured()).toEqual(read());
    }

    const sorted = (counted: Counted) => Object.entries(counted).sort(([a], [b]) => (a < b ? -1 : 1));

    test('many short connections', async () => {
      await callAll({ connections: 30, requests: 1 });
      await expectEqual(() => truth([], precisely));
      // Both nodes' pods answered both clients, by the Service's port and the node's.
      const keys = Object.keys(truth([], precisely));
      for (const zone of ['eu-1a', 'eu-1b'])
        expect(keys.filter((key) => key.includes(`in ${zone}`))).toHaveLength(8);
      expect(
        (await samples('knp_identity_unresolved_total')).find(({ labels }) => labels.kind === 'backend')
          ?.value,
      ).toBe(0);
    });

    test('long connections, read while they last', async () => {
      const calling = callAll({ connections: 3, requests: 15, pauseMillis: 50 });
      for (let scrape = 0; scrape < 5; scrape++) {
        await agent.metrics();
        await sleep(300);
      }
      await calling;
      await expectEqual(() => truth([], precisely));
      // Both ends agree on who talked to whom.
      expect((await cluster.settle()).disagreements()).toEqual([]);
    });

    test('where connection tracking tells nothing: the workload, no pod, and it is counted', async () => {
      await agent.stop('SIGTERM');
      const node = cluster.network.nodes.get(NODE);
      const silence = 'echo 0 > /proc/sys/net/netfilter/nf_conntrack_events';
      execFileSync('nsenter', [`--net=/run/netns/${node?.netns}`, 'sh', '-ec', silence]);
      await start();
      const before = structuredClone(cluster.truth.pairs());
      await callAll({ connections: 10, requests: 1 });
      await expectEqual(() =>
        truth(before, (server) => (server.node.name === NODE ? precisely(server) : 'any')),
      );
      const unresolved = (await samples('knp_identity_unresolved_total')).find(
        ({ labels }) => labels.kind === 'backend',
      );
      expect(unresolved?.value).toBeGreaterThan(0);
    });
  },
);
