// Names on a node of a real cluster: the real API server with the chart's own ClusterRole, pods that run in real cgroups
// and network namespaces, and a proxy in between for what the real server will not do on demand.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { configSchema } from '../../exporter/config/schema.ts';
import { parseCgroupMounts, parseProcCgroup } from '../../exporter/identity/cgroup_mode.ts';
import { createIdentity, type HostedIdentity } from '../../exporter/identity/create.ts';
import type { OwnerInfo, Workload } from '../../exporter/identity/types.ts';
import type { KubeObject } from '../testbed/api-client.ts';
import { buildAll } from '../testbed/build.ts';
import { Cluster, type Pod } from '../testbed/cluster.ts';
import { type FaultProxy, startFaultProxy } from '../testbed/fault-proxy.ts';
import { testbedUnavailable } from '../testbed/unavailable.ts';

const reason = testbedUnavailable();
const NAMESPACE = 'kubenetprobe';
const ROLE = 'kubenetprobe';
const KINDS = ['nodes', 'pods', 'services', 'endpointslices'] as const;
const v2 = parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8')).find(
  (mount) => mount.version === 2,
);

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`still not: ${what}`);
    await sleep(5);
  }
}

/** The rules that the chart ships. */
function chartRules(): { apiGroups: string[]; resources: string[]; verbs: string[] }[] {
  const manifest = readFileSync(join(import.meta.dirname, '../../charts/kubenetprobe.yaml'), 'utf8');
  const role = parseAllDocuments(manifest)
    .map((document) => document.toJS())
    .find((object) => object?.kind === 'ClusterRole');
  return role.rules;
}

describe.skipIf(reason ?? (v2 === undefined ? 'no cgroup v2' : false))(
  `identity in a cluster${reason ? ` (skipped: ${reason})` : ''}`,
  () => {
    let cluster: Cluster;
    let proxy: FaultProxy;
    let directory: string;
    let identity: HostedIdentity;
    let lines: string[];

    beforeAll(async () => {
      await buildAll();
      directory = mkdtempSync(join(tmpdir(), 'knp-identity-'));
      cluster = await Cluster.start({
        nodes: [
          { name: 'node-a', zone: 'zone-1a' },
          { name: 'node-b', zone: 'zone-1b' },
        ],
        cgroupVersion: 'v2',
      });
      proxy = await startFaultProxy(cluster.controlPlane);
      await grant(chartRules());
      await writeToken();
      writeFileSync(join(directory, 'ca.crt'), cluster.controlPlane.ca);
      const program = 'go' as const;
      for (const kind of [
        'Deployment',
        'StatefulSet',
        'DaemonSet',
        'ReplicaSet',
        'Job',
        'CronJob',
        'Pod',
        'StaticPod',
      ] as const) {
        const name = `web-${kind.toLowerCase()}`;
        await cluster.createWorkload({
          namespace: 'shop',
          name,
          kind,
          replicas: kind === 'Pod' || kind === 'StaticPod' ? 1 : 2,
          program,
          port: 8080,
        });
      }
      await cluster.createWorkload({
        namespace: 'shop',
        name: 'edge',
        kind: 'DaemonSet',
        node: 'node-b',
        program,
        port: 9090,
        hostNetwork: true,
      });
      for (const name of ['web-deployment', 'web-statefulset']) {
        await cluster.createService({
          namespace: 'shop',
          name,
          workload: name,
          port: 80,
          targetPort: 8080,
          type: 'NodePort',
        });
      }
      await cluster.createService({
        namespace: 'shop',
        name: 'edge',
        workload: 'edge',
        port: 90,
        targetPort: 9090,
      });
    }, 60 * 60_000);

    afterEach(async () => {
      proxy?.clear();
      await identity?.stop();
    });
    afterAll(async () => {
      await proxy?.stop();
      await cluster?.stop();
      if (directory) rmSync(directory, { recursive: true });
    });

    async function grant(rules: object[]): Promise<void> {
      const { admin } = cluster.controlPlane;
      await cluster.controlPlane.createNamespace(NAMESPACE);
      const role: KubeObject = {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRole',
        metadata: { name: ROLE },
        rules,
      };
      await admin.apply(role);
      await admin.apply({
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRoleBinding',
        metadata: { name: ROLE },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: ROLE },
        subjects: [{ kind: 'ServiceAccount', name: ROLE, namespace: NAMESPACE }],
      });
    }

    async function writeToken(expiresInSeconds = 3600): Promise<string> {
      const token = await cluster.controlPlane.tokenFor(ROLE, { namespace: NAMESPACE, expiresInSeconds });
      writeFileSync(join(directory, 'token'), token);
      return token;
    }

    /** An agent's identity on node-a, by the service account's files. */
    async function create(
      kubernetes: object = {},
      environment?: Record<string, string>,
    ): Promise<HostedIdentity> {
      lines = [];
      const url = new URL(proxy.url);
      identity = await createIdentity({
        config: configSchema.parse({ kubernetes: { enabled: true, node_name: 'node-a', ...kubernetes } }),
        environment: environment ?? {
          KUBERNETES_SERVICE_HOST: url.hostname,
          KUBERNETES_SERVICE_PORT: url.port,
        },
        serviceAccountDir: directory,
        addresses: () => [cluster.network.nodes.get('node-a')?.address ?? ''],
        log: { warn: (line) => lines.push(line), info: (line) => lines.push(line) },
      });
      await identity.start();
      return identity;
    }

    /** What the kernel side records of a process. */
    function ownerOf(pid: number): OwnerInfo {
      const path = parseProcCgroup(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).get('v2') ?? '';
      const names = path.split('/').filter(Boolean).reverse().slice(0, 4);
      const inode = statSync(join(v2?.mountpoint ?? '', path)).ino;
      return { id: pid, pid, cgroupId: BigInt(inode), comm: 'peer', exe: 'peer', flags: 0, path: names };
    }

    function truth(
      pod: Pod,
    ): Pick<Workload, 'name' | 'namespace' | 'kind'> & { zone: string | undefined; pod: string } {
      const { name, namespace, kind } = pod.workload.spec;
      return {
        name,
        namespace,
        kind: kind === 'StaticPod' ? 'Pod' : kind,
        pod: pod.object.metadata.name,
        zone: pod.node.name === 'node-a' ? 'zone-1a' : 'zone-1b',
      };
    }

    const remote = (pod: Pod, port = 8080) =>
      identity.remote({ scope: 'exact', address: pod.network.address, port });
    const pods = (node: string) => cluster.pods().filter((pod) => pod.node.name === node);

    /** Everything of the cluster has its right name. */
    function allRight(): boolean {
      const localRight = pods('node-a').every((pod) => {
        const expected = JSON.stringify(truth(pod));
        return [pod.peer.pid, pod.sandbox.pid].every(
          (pid) => ordered(identity.local(ownerOf(pid))) === expected,
        );
      });
      return (
        localRight &&
        identity.stats().known.pods === pods('node-a').length &&
        cluster.pods().every((pod) => {
          const { workload } = remote(pod, pod.workload.spec.port);
          return (
            workload.name === truth(pod).name &&
            workload.kind === truth(pod).kind &&
            workload.namespace === 'shop'
          );
        })
      );
    }
    const ordered = ({ name, namespace, kind, pod, zone }: Workload) =>
      JSON.stringify({ name, namespace, kind, pod, zone });

    function expectAllRight(): void {
      for (const pod of pods('node-a')) {
        for (const pid of [pod.peer.pid, pod.sandbox.pid])
          expect(identity.local(ownerOf(pid)), pod.id).toEqual(truth(pod));
      }
      for (const pod of cluster.pods())
        expect(remote(pod, pod.workload.spec.port).workload, pod.id).toMatchObject({
          name: truth(pod).name,
          kind: truth(pod).kind,
        });
    }

    async function eventuallyAllRight(): Promise<void> {
      try {
        await until(allRight, 'all names are right');
      } catch {
        expectAllRight();
      }
    }

    const listsOf = (kind: string) =>
      proxy.requests.filter(
        ({ path, watch, agent }) =>
          agent === 'kubenetprobe' &&
          !watch &&
          path.includes(`/${kind}?`) &&
          !path.includes('continue=') &&
          !path.includes('status.podIP'),
      );

    it('names every pod, here and there, of every kind, its sandbox too, with one list per kind', async () => {
      const before = Object.fromEntries(KINDS.map((kind) => [kind, listsOf(kind).length]));
      await create();
      await eventuallyAllRight();
      for (const kind of KINDS) expect(listsOf(kind).length - (before[kind] ?? 0), kind).toBe(1);
      expect(identity.stats().problems).toEqual([]);
      expect(lines).toEqual([]);
      // Steady: nothing is unknown any more.
      const { unknown } = identity.stats();
      expectAllRight();
      expect(identity.stats().unknown).toBe(unknown);
    });

    it('names nodes, services by every address they have, and the control plane', async () => {
      await create();
      await eventuallyAllRight();
      const nodeB = cluster.network.nodes.get('node-b')?.address ?? '';
      const at = (address: string, port: number) => {
        const { workload, service } = identity.remote({ scope: 'exact', address, port });
        return `${workload.kind} ${workload.name}${service ? ` by ${service}` : ''}`;
      };
      const object = cluster.services.object('shop/web-deployment');
      expect(at(nodeB, 10250)).toBe('Node node-b');
      expect(at(object.spec.clusterIP, 80)).toBe('Deployment web-deployment by web-deployment');
      expect(at(nodeB, object.spec.ports[0].nodePort)).toBe('Deployment web-deployment by web-deployment');
      expect(at(cluster.services.object('shop/edge').spec.clusterIP, 90)).toBe('DaemonSet edge by edge');
      const kubernetes = (
        await cluster.controlPlane.admin.get('/api/v1/namespaces/default/services/kubernetes')
      ).spec.clusterIP;
      expect(at(kubernetes, 443)).toBe('ControlPlane kube-apiserver by kubernetes');
      const [pod] = pods('node-b').filter(({ workload }) => workload.spec.name === 'web-deployment');
      const dialled = { address: object.spec.clusterIP, port: 80 };
      expect(
        identity.remote({ scope: 'exact', address: pod?.network.address ?? '', port: 8080, dialled }).service,
      ).toBe('web-deployment');
      expect(at('203.0.113.9', 443)).toBe('External external');
      // The kernel is told to keep the addresses of pods, nodes and services.
      const cidrs = identity.ranges().map(({ cidr }) => cidr);
      expect(cidrs).toEqual(
        expect.arrayContaining([
          `${nodeB}/32`,
          `${object.spec.clusterIP}/32`,
          cluster.network.nodes.get('node-b')?.podRange,
        ]),
      );
    });

    it('follows restarts, rolling changes, and an address that goes to another workload at once', async () => {
      await create();
      await eventuallyAllRight();
      const deployment = cluster.workloads.get('shop/web-deployment');
      const [bare] = cluster.workloads.get('shop/web-pod')?.pods ?? [];
      if (deployment === undefined || bare === undefined) throw new Error('the workloads are not there');
      await cluster.restartContainer(deployment.pods[0] as Pod);
      await eventuallyAllRight();
      await cluster.roll(deployment);
      await eventuallyAllRight();

      const { address } = (deployment.pods.find((pod) => pod.node.name === 'node-a') as Pod).network;
      const old = deployment.pods.find((pod) => pod.network.address === address) as Pod;
      const before = Date.now();
      await cluster.deletePod(old);
      const taker = await cluster.createWorkload(
        { namespace: 'shop', name: 'taker', node: 'node-a', program: 'go', port: 8080 },
        { address },
      );
      await eventuallyAllRight();
      expect(taker.pods[0]?.network.address).toBe(address);
      expect(identity.remote({ scope: 'exact', address, at: before - 1 }).workload.name).toBe(
        'web-deployment',
      );
      expect(identity.remote({ scope: 'exact', address }).workload.name).toBe('taker');
    });

    it('a pod that the API server does not have (yet) is unknown and counted', async () => {
      await create();
      await eventuallyAllRight();
      // By its cgroup's pod uid it is known as soon as it is scheduled, long before its status lists containers.
      const stranger = ownerOf(pods('node-a')[0]?.peer.pid ?? 0);
      const path = stranger.path.map((name) =>
        String(name)
          .replace(/pod[0-9a-f_]+/, 'pod00000000_0000_4000_8000_000000000000')
          .replace(/[0-9a-f]{64}/, 'e'.repeat(64)),
      );
      const { unknown } = identity.stats();
      expect(identity.local({ ...stranger, cgroupId: 0n, pid: 0, path }).kind).toBe('Unknown');
      expect(identity.stats().unknown).toBe(unknown + 1);
    });

    /** A pod goes, another comes, and the server forgets what was before. */
    async function change(): Promise<void> {
      const deployment = cluster.workloads.get('shop/web-deployment');
      if (deployment === undefined) throw new Error('no workload');
      await cluster.deletePod(deployment.pods[0] as Pod);
      await cluster.createPod(deployment);
      await cluster.controlPlane.compact();
    }

    it('410 storms: names stay right by ever rarer lists, and no storm of lists follows', async () => {
      await create();
      await eventuallyAllRight();
      const [mark, start] = [proxy.requests.length, Date.now()];
      proxy.add({ fault: { kind: 'gone', afterBytes: 0 }, watch: true });
      proxy.dropConnections();
      const since = (kind: string) =>
        proxy.requests.slice(mark).filter(({ path }) => path.includes(`/${kind}?`));
      const told = (kind: string) => since(kind).filter(({ fault }) => fault === 'gone').length;
      await until(() => KINDS.every((kind) => told(kind) >= 4), 'every watch was told 410 again and again');
      await change();
      await eventuallyAllRight();
      const lists = KINDS.map((kind) => since(kind).filter(({ watch }) => !watch).length);
      // The first 410 is answered by a list at once, each further one after a pause: of 250 ms at least, and then doubled.
      const passed = Date.now() - start;
      let most = 1;
      for (let pause = 250, total = 0; total <= passed; total += pause, pause *= 2) most++;
      for (const [index, kind] of KINDS.entries()) {
        expect(lists[index], kind).toBeGreaterThanOrEqual(3);
        expect(lists[index], kind).toBeLessThanOrEqual(most);
      }
      proxy.clear();
      await until(() => identity.stats().problems.length === 0, 'no problem is left');
      await change();
      await eventuallyAllRight();
    });

    it.each([
      ['an API server that answers garbage', { kind: 'garbage', afterBytes: 300 }],
      ['an API server that answers garbage from the first byte', { kind: 'garbage', afterBytes: 0 }],
      ['an API server that is cut in mid-object', { kind: 'cut', afterBytes: 700 }],
      ['an API server that is overloaded', { kind: 'status', status: 503 }],
      ['an API server that refuses lists as expired', { kind: 'status', status: 410 }],
      ['an API server that is slow', { kind: 'slow', bytesPerSecond: 200_000 }],
      ['an API server that closes every connection', { kind: 'refuse' }],
    ] as const)('%s: afterwards everything is right', async (_, fault) => {
      await create();
      await eventuallyAllRight();
      const rule = proxy.add({ fault, times: 5 });
      proxy.dropConnections();
      await change();
      await until(() => rule.hits > 0, 'the fault was met');
      await eventuallyAllRight();
      proxy.clear();
      await until(() => identity.stats().problems.length === 0, 'no problem is left');
    });

    it('the API server away: names stay, what changed is caught up, with one new list at most', async () => {
      await create();
      await eventuallyAllRight();
      const before = Object.fromEntries(KINDS.map((kind) => [kind, listsOf(kind).length]));
      await cluster.controlPlane.stopApiServer('SIGKILL');
      await until(() => identity.stats().problems.length > 0, 'noticed');
      expectAllRight();
      await cluster.controlPlane.startApiServer();
      await cluster.scale(
        cluster.workloads.get('shop/web-replicaset') as NonNullable<ReturnType<Cluster['workloads']['get']>>,
        4,
      );
      await eventuallyAllRight();
      await until(() => identity.stats().problems.length === 0, 'no problem is left');
      // A server that starts has forgotten what was before: it may answer 410 to the old place.
      for (const kind of KINDS)
        expect(listsOf(kind).length - (before[kind] ?? 0), kind).toBeLessThanOrEqual(1);
    });

    it('a token that is rotated: one that expired is replaced in its file', async () => {
      const token = await writeToken(4);
      await create();
      await eventuallyAllRight();
      const client = cluster.controlPlane.client(token);
      while ((await client.raw('GET', '/api/v1/nodes')).status !== 401) await sleep(250);
      client.close();
      proxy.dropConnections();
      await until(() => lines.some((line) => line.includes("does not accept the agent's token")), 'said so');
      await writeToken();
      await cluster.restartContainer(pods('node-a')[0] as Pod);
      await eventuallyAllRight();
      expect(lines.filter((line) => line.includes('token'))).toHaveLength(1);
      await until(() => identity.stats().problems.length === 0, 'no problem is left');
    });

    /** The chart's rules, but for one verb on services. */
    async function withhold(verb: string): Promise<void> {
      const rules = chartRules().flatMap((rule) => {
        if (!rule.resources.includes('services')) return [rule];
        const [others, verbs] = [
          rule.resources.filter((name) => name !== 'services'),
          rule.verbs.filter((each) => each !== verb),
        ];
        return [
          { ...rule, resources: others },
          { ...rule, resources: ['services'], verbs },
        ];
      });
      await grant(rules.filter(({ resources }) => resources.length > 0));
      await decided(verb, false);
    }

    /** The authorizer learns of a role by a watch. */
    async function decided(verb: string, allowed: boolean): Promise<void> {
      const client = cluster.controlPlane.client(readFileSync(join(directory, 'token'), 'utf8'));
      const review = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes: { verb, resource: 'services' } },
      };
      const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
      while ((await client.raw('POST', path, review)).body.status.allowed !== allowed) await sleep(20);
      client.close();
    }

    it.each(['list', 'watch'])(
      'a ClusterRole with one verb missing, %s: one clear line, the rest works',
      async (verb) => {
        await withhold(verb);
        try {
          await create();
          await eventuallyAllRight();
          await until(() => lines.length > 0, 'said so');
          expect(lines).toEqual([
            expect.stringContaining(
              `not allowed to ${verb} services (403): grant the verb ${verb} on services in the agent's ClusterRole`,
            ),
          ]);
          expect(identity.stats().problems).toHaveLength(1);
          expect(identity.stats().known.services === 0).toBe(verb === 'list');
        } finally {
          await grant(chartRules());
        }
        // It is asked for again within a minute; once is enough to see that.
        if (verb !== 'list') return;
        await until(() => identity.stats().problems.length === 0, 'the services are asked for again');
        expect(identity.stats().known.services).toBeGreaterThan(0);
      },
    );

    it('the same by a kubeconfig', async () => {
      const token = readFileSync(join(directory, 'token'), 'utf8');
      await create({ kubeconfig: cluster.controlPlane.kubeconfigFor('identity', token, proxy.url) }, {});
      await eventuallyAllRight();
      expect(identity.stats().problems).toEqual([]);
    });
  },
);
