// The testbed itself: is the cluster that other tests rely on a real one, is its ground truth true, and is
// everything gone afterwards?
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildAll } from '../testbed/build.ts';
import { availableCgroupVersions } from '../testbed/cgroups.ts';
import { Cluster, type Pod } from '../testbed/cluster.ts';
import { type ControlPlane, controlPlaneUnavailable, startControlPlane } from '../testbed/control-plane.ts';
import { listSlots, reap } from '../testbed/leftovers.ts';
import { availablePrograms } from '../testbed/peers.ts';
import { populate } from '../testbed/population.ts';
import { parseScenario, type RunningScenario, runScenario } from '../testbed/scenario.ts';
import { testbedUnavailable } from '../testbed/unavailable.ts';

const BUILD_MILLIS = 60 * 60_000;
const reason = controlPlaneUnavailable();
const noNetwork = testbedUnavailable();

beforeAll(async () => {
  if (!reason) await buildAll();
}, BUILD_MILLIS);

describe.skipIf(reason)(`control plane${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let plane: ControlPlane;
  beforeAll(async () => {
    plane = await startControlPlane();
  });
  afterAll(() => plane?.stop());

  test('is the release that go.mod names', async () => {
    const module = readFileSync(join(import.meta.dirname, '../testbed/apiserver/go.mod'), 'utf8');
    const { body } = await plane.admin.raw('GET', '/version');
    expect(module).toContain(`k8s.io/kubernetes ${body.gitVersion}\n`);
  });

  test('RBAC forbids what no role permits, and permits it once a role does', async () => {
    const client = plane.client(await plane.tokenFor('reader'));
    const before = await client.raw('GET', '/api/v1/pods');
    expect(before.status).toBe(403);
    expect(before.body.message).toContain('system:serviceaccount:default:reader');
    await plane.admin.create({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: 'pod-reader' },
      rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['list'] }],
    });
    await plane.admin.create({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'pod-reader' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'pod-reader' },
      subjects: [{ kind: 'ServiceAccount', name: 'reader', namespace: 'default' }],
    });
    // The authorizer learns of the binding by a watch.
    while ((await client.raw('GET', '/api/v1/pods')).status !== 200) await sleep(20);
    expect((await client.raw('GET', '/api/v1/nodes')).status).toBe(403);
    expect((await client.raw('GET', '/api/v1/pods?watch=1')).status).toBe(403);
    client.close();
  });

  test('refuses a wrong token, and a right one once it has expired', async () => {
    expect((await plane.client('wrong').raw('GET', '/api/v1/pods')).status).toBe(401);
    const client = plane.client(await plane.tokenFor('shortlived', { expiresInSeconds: 3 }));
    expect((await client.raw('GET', '/api/v1/pods')).status).toBe(403);
    // Successful authentications are cached for ten seconds.
    while ((await client.raw('GET', '/api/v1/pods')).status !== 401) await sleep(250);
    client.close();
  });

  test('comes back on its port with what was stored, and has forgotten what was compacted', async () => {
    await plane.createNamespace('kept');
    await plane.compact();
    await plane.stopApiServer();
    await expect(plane.admin.raw('GET', '/api/v1/namespaces/kept')).rejects.toThrow(
      /ECONNREFUSED|socket hang up/,
    );
    await plane.startApiServer();
    expect((await plane.admin.get('/api/v1/namespaces/kept')).metadata.name).toBe('kept');
    const watch = await plane.admin.raw(
      'GET',
      '/api/v1/namespaces?watch=1&resourceVersion=1&timeoutSeconds=5',
    );
    const [event] = typeof watch.body === 'string' ? watch.body.split('\n') : [JSON.stringify(watch.body)];
    expect(JSON.parse(event ?? '').object.code).toBe(410);
  });
});

describe.skipIf(reason)('population', () => {
  test('objects written behind its back are good objects to the API server', async () => {
    const plane = await startControlPlane();
    try {
      const population = await populate(plane, { pods: 50, services: 5, nodes: 3 });
      const { admin } = plane;
      const pods = await admin.list('/api/v1/pods');
      expect(pods).toHaveLength(50);
      expect(new Set(pods.map(({ status }) => status.podIP)).size).toBe(50);
      expect(new Set(pods.map(({ metadata }) => metadata.uid)).size).toBe(50);
      expect(await admin.list('/api/v1/nodes')).toHaveLength(3);
      // An update is validated as a whole.
      const [pod] = pods;
      if (!pod) throw new Error('no pod');
      const patched = await admin.patch(
        { ...pod, apiVersion: 'v1', kind: 'Pod' },
        { metadata: { labels: { a: 'b' } } },
      );
      expect(patched.metadata.labels?.a).toBe('b');
      expect(patched.metadata.managedFields).toBeInstanceOf(Array);
      expect(patched.spec.dnsPolicy).toBe('ClusterFirst');
      await population.churn(7);
      const after = await admin.list('/api/v1/pods');
      const before = new Set(pods.map(({ metadata }) => metadata.uid));
      expect(after).toHaveLength(50);
      expect(after.filter(({ metadata }) => !before.has(metadata.uid))).toHaveLength(7);
      const slices = await admin.list('/apis/discovery.k8s.io/v1/endpointslices');
      const listed = slices.flatMap(({ endpoints }) =>
        endpoints.map((each: { addresses: string[] }) => each.addresses[0]),
      );
      const running = after.map(({ status }) => status.podIP);
      expect(running.filter((address) => !listed.includes(address))).toEqual([]);
      population.close();
    } finally {
      await plane.stop();
    }
  });
});

describe('scenario files', () => {
  test('those that are shipped can be read', () => {
    const directory = join(import.meta.dirname, '../testbed/scenarios');
    const pods = readdirSync(directory).map((file) => {
      const { workloads } = parseScenario(readFileSync(join(directory, file), 'utf8'));
      return [file, workloads.reduce((sum, { replicas }) => sum + replicas, 0)];
    });
    expect(pods).toEqual([
      ['shop.yaml', 10],
      ['two-hundred.yaml', 200],
    ]);
  });

  test('a mistake is named with its place', () => {
    expect(() => parseScenario('workloads: [{name: a, program: cobol}]')).toThrow(/workloads\[0\]\.program/);
    expect(() => parseScenario('workloads: [{name: a, program: go, colour: red}]')).toThrow(/colour/);
  });
});

const shop = join(import.meta.dirname, '../testbed/scenarios/shop.yaml');
const missing = ['node', 'python', 'nginx', 'go'].filter(
  (each) => !availablePrograms().includes(each as 'node'),
);
const cannotShop = noNetwork ?? (missing.length > 0 ? `no ${missing.join(', ')}` : undefined);

describe.skipIf(cannotShop)(`scenario${cannotShop ? ` (skipped: ${cannotShop})` : ''}`, () => {
  let running: RunningScenario;
  let cluster: Cluster;
  const podsOf = (workload: string): Pod[] => cluster.workloads.get(workload)?.pods ?? [];
  const workloadOf = (peer: string): string =>
    cluster.pods().find(({ id }) => id === peer)?.workload.id ??
    (peer.startsWith('external/') ? peer : `gone ${peer}`);

  beforeAll(async () => {
    running = await runScenario(shop);
    cluster = running.cluster;
  });
  afterAll(() => running?.stop());

  test('every pair is counted alike by its two ends, and as the file says', async () => {
    const truth = await running.round();
    expect(truth.disagreements()).toEqual([]);
    const sums = truth.sums(({ client, server }) => `${workloadOf(client)} → ${workloadOf(server)}`);
    const connectionsAndRequests = Object.fromEntries(
      [...sums].map(([pair, { connections, requests, failed }]) => [pair, [connections, requests, failed]]),
    );
    // Replicas × connections, × requests on each: by hand from the file.
    expect(connectionsAndRequests).toEqual({
      'shop/frontend → shop/checkout': [2 * 4, 2 * 4 * 5, 0],
      'shop/frontend → shop/assets': [2 * 2, 2 * 2 * 10, 0],
      'shop/checkout → shop/payments': [2 * 6, 2 * 6 * 3, 0],
      'shop/checkout → shop/ledger': [2 * 4, 2 * 4 * 2, 0],
      'shop/checkout → shop/checkout': [2 * 6, 2 * 6, 0],
      'shop/payments → external/bank': [2 * 3, 2 * 3 * 2, 0],
      'monitoring/node-agent → shop/frontend': [3, 3, 0],
      'external/browser → shop/frontend': [5, 5 * 2, 0],
    });
    // RAW <client> <up> <down>\n and the body; <server>\n and the body.
    const toLedger = truth.pairs().filter(({ server }) => workloadOf(server) === 'shop/ledger');
    for (const { client, server, requests, sent, received } of toLedger) {
      expect(sent).toBe(requests * (`RAW ${client} 64 20000\n`.length + 64));
      expect(received).toBe(requests * (server.length + 1 + 20000));
    }
  });

  test('the kernel translated as many connections as were dialled to each Service', async () => {
    const before = translations();
    const dialledBefore = dialled();
    await running.round();
    const dialledInRound = difference(dialled(), dialledBefore);
    expect(difference(translations(), before)).toEqual(dialledInRound);
    expect(Object.keys(dialledInRound).sort()).toEqual([
      'shop/assets',
      'shop/checkout',
      'shop/frontend',
      'shop/payments',
    ]);
  });

  /** Connections by Service, of those that are translated: all but the headless one. */
  function dialled(): Record<string, number> {
    const sums = cluster.truth.sums(({ service }) => service ?? '');
    return Object.fromEntries(
      [...sums].flatMap(([service, { connections }]) =>
        service && service !== 'shop/ledger' ? [[service, connections]] : [],
      ),
    );
  }

  /** Packets that met each Service's DNAT rules: of a connection it is the first alone. */
  function translations(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { netns } of cluster.network.nodes.values()) {
      const rules = inNetns(netns, 'iptables-save', '-c', '-t', 'nat');
      for (const [, packets, service = ''] of rules.matchAll(
        /^\[(\d+):\d+\] .*--comment "(\S+):main".* -j DNAT /gm,
      )) {
        counts[service] = (counts[service] ?? 0) + Number(packets);
      }
    }
    return counts;
  }

  test('a hairpin connection reaches the pod from its node, not from itself', async () => {
    const [pod] = podsOf('shop/checkout');
    if (!pod) throw new Error('no pod');
    const { clusterIP } = cluster.services.object('shop/checkout').spec;
    // The rules choose at random: until they chose the caller.
    for (let result = {}; !(pod.id in result); ) {
      result = await cluster.call(pod, { host: clusterIP, port: 80, connections: 4 }, 'shop/checkout');
    }
    const { address } = pod.network;
    const connections = inNetns(pod.node.netns, 'cat', '/proc/net/nf_conntrack')
      .split('\n')
      .map((line) => [...line.matchAll(/(?:src|dst)=(\S+)/g)].map(([, ip]) => ip))
      .filter(([from, to, answeredBy]) => from === address && to === clusterIP && answeredBy === address);
    expect(connections.length).toBeGreaterThan(0);
    const gateway = inNetns(pod.node.netns, 'ip', '-4', '-o', 'addr', 'show');
    for (const [, , , answeredTo] of connections) {
      expect(answeredTo).not.toBe(address);
      expect(gateway).toContain(` ${answeredTo}/`);
    }
  });

  test('each program runs in the cgroup and network namespace that its pod object says', async () => {
    for (const pod of cluster.pods()) {
      const { namespace, name } = pod.object.metadata;
      const object = await cluster.controlPlane.admin.get(`/api/v1/namespaces/${namespace}/pods/${name}`);
      const [status] = object.status.containerStatuses;
      const containerId = status.containerID.replace('containerd://', '');
      const cgroups = readFileSync(`/proc/${pod.peer.pid}/cgroup`, 'utf8').split('\n');
      const uid = object.metadata.uid?.replaceAll('-', '_');
      const ending = `-pod${uid}.slice/cri-containerd-${containerId}.scope`;
      expect(cgroups.filter((line) => line.endsWith(ending))).toHaveLength(1);
      const sandbox = readlinkSync(`/proc/${pod.sandbox.pid}/ns/net`);
      expect(readlinkSync(`/proc/${pod.peer.pid}/ns/net`)).toBe(sandbox);
      expect(readFileSync(`/proc/${pod.sandbox.pid}/comm`, 'utf8')).toBe('pause\n');
      expect(inNetns(pod.network.netns, 'ip', '-4', '-o', 'addr', 'show', 'eth0')).toContain(
        `${object.status.podIP}/`,
      );
    }
  });

  test('pods are owned through their controllers, and slices list those that run', async () => {
    const { admin } = cluster.controlPlane;
    const [pod] = await admin.list('/api/v1/namespaces/shop/pods?labelSelector=app%3Dcheckout');
    const replicaSet = pod?.metadata.ownerReferences?.[0];
    expect(replicaSet?.kind).toBe('ReplicaSet');
    const owner = await admin.get(`/apis/apps/v1/namespaces/shop/replicasets/${replicaSet?.name}`);
    expect(owner.metadata.uid).toBe(replicaSet?.uid);
    expect(owner.metadata.ownerReferences?.[0]).toMatchObject({ kind: 'Deployment', name: 'checkout' });
    const path = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices';
    const [slice] = await admin.list(`${path}?labelSelector=kubernetes.io%2Fservice-name%3Dcheckout`);
    const listed = slice?.endpoints.map((endpoint: { addresses: string[] }) => endpoint.addresses[0]);
    expect(listed.sort()).toEqual(
      podsOf('shop/checkout')
        .map(({ network }) => network.address)
        .sort(),
    );
    const zones = slice?.endpoints.map((endpoint: { zone: string }) => endpoint.zone);
    expect(zones.sort()).toEqual(['eu-1a', 'eu-1b']);
  });

  test('pods reach the API server at its Service address', async () => {
    const pod = podsOf('shop/frontend')[0];
    const url = `https://${cluster.network.prefix}.128.1/version`;
    const answer = inNetns(
      pod?.network.netns ?? '',
      'curl',
      '-sS',
      '--cacert',
      cluster.controlPlane.caPath,
      url,
    );
    expect(JSON.parse(answer).major).toBe('1');
  });

  test('init, sidecar and ephemeral containers share the pod and have cgroups of their own', async () => {
    const [pod] = podsOf('shop/payments');
    const [caller] = podsOf('shop/frontend');
    if (!pod || !caller) throw new Error('workloads are missing');
    const cgroupOf = (pid: number): string =>
      readFileSync(`/proc/${pid}/cgroup`, 'utf8')
        .split('\n')
        .find((line) => line.includes('kubepods')) ?? '';
    const types = ['init', 'sidecar', 'ephemeral'] as const;
    const extras = [];
    for (const [index, type] of types.entries()) {
      const extra = await cluster.startContainer(pod, {
        name: `x-${type}`,
        type,
        program: 'go',
        port: 7000 + index,
      });
      const result = await cluster.call(caller, {
        host: pod.network.address,
        port: 7000 + index,
        connections: 2,
      });
      expect(Object.keys(result)).toEqual([pod.id]);
      extras.push(extra);
    }
    const pids = [pod.peer.pid, ...extras.map(({ peer }) => peer.pid)];
    expect(new Set(pids.map(cgroupOf)).size).toBe(4);
    expect(new Set(pids.map((pid) => cgroupOf(pid).replace(/\/[^/]+$/, ''))).size).toBe(1);
    const { status, spec } = await cluster.controlPlane.admin.get(
      `/api/v1/namespaces/shop/pods/${pod.object.metadata.name}`,
    );
    const listed = [
      ...status.initContainerStatuses,
      ...status.containerStatuses,
      ...status.ephemeralContainerStatuses,
    ].map(({ containerID }) => containerID);
    expect(listed.sort()).toEqual([pod.containerId, ...extras.map(({ containerId }) => containerId)].sort());
    expect(spec.ephemeralContainers.map(({ name }: { name: string }) => name)).toEqual(['x-ephemeral']);
    await extras[1]?.stop();
    expect((await cluster.settle()).disagreements()).toEqual([]);
  });

  test('truth holds through a restart, a rolling update and a change of scale', async () => {
    const checkout = cluster.workloads.get('shop/checkout');
    const [ledger] = podsOf('shop/ledger');
    if (!checkout || !ledger) throw new Error('workloads are missing');
    const [before, names] = [ledger.containerId, podsOf('shop/checkout').map(({ id }) => id)];
    await cluster.restartContainer(ledger);
    expect(ledger.containerId).not.toBe(before);
    await cluster.roll(checkout);
    await cluster.scale(checkout, 3);
    const after = podsOf('shop/checkout').map(({ id }) => id);
    expect(after).toHaveLength(3);
    expect(after.filter((name) => names.includes(name))).toEqual([]);
    const truth = await running.round();
    expect(truth.disagreements()).toEqual([]);
    expect(truth.pairs().filter(({ failed }) => failed > 0)).toEqual([]);
    expect(cluster.services.endpoints('shop/checkout')).toHaveLength(3);
  });

  test('an address moves to another pod at once', async () => {
    const checkout = cluster.workloads.get('shop/checkout');
    const payments = cluster.workloads.get('shop/payments');
    const [old] = payments?.pods ?? [];
    if (!checkout || !payments || !old) throw new Error('workloads are missing');
    const { address } = old.network;
    const [caller] = podsOf('shop/frontend');
    if (!caller) throw new Error('no caller');
    const first = await cluster.call(caller, { host: address, port: 9000 });
    await cluster.deletePod(old);
    // The address belongs to a range of one node, and so must the new pod.
    const next = await podOnNode(checkout, old.node.name, address);
    const second = await cluster.call(caller, { host: address, port: 8080 });
    expect([Object.keys(first), Object.keys(second)]).toEqual([[old.id], [next.id]]);
    expect((await cluster.settle()).disagreements()).toEqual([]);
  });

  async function podOnNode(
    workload: Parameters<Cluster['createPod']>[0],
    node: string,
    address: string,
  ): Promise<Pod> {
    const before = workload.spec.node;
    Object.assign(workload.spec, { node });
    const pod = await cluster.createPod(workload, { address });
    Object.assign(workload.spec, { node: before });
    return pod;
  }
});

describe.skipIf(noNetwork)('other machines', () => {
  const versions = availableCgroupVersions();
  test.for([
    ['nftables', 'cgroupfs', 'cri-o', 'v1', /\/kubepods\/burstable\/pod[-0-9a-f]{36}\/crio-[0-9a-f]{64}$/],
    [
      'nftables',
      'systemd',
      'cri-o-crun',
      'v2',
      /burstable-pod[_0-9a-f]{36}\.slice\/crio-[0-9a-f]{64}\.scope\/container$/,
    ],
    [
      'iptables',
      'systemd',
      'docker',
      'hybrid',
      /burstable-pod[_0-9a-f]{36}\.slice\/docker-[0-9a-f]{64}\.scope$/,
    ],
  ] as const)(
    '%s, %s driver, %s, cgroup %s',
    async ([proxyMode, cgroupDriver, runtime, cgroupVersion, path], { skip }) => {
      if (!versions.includes(cgroupVersion)) skip(`this machine has no cgroup ${cgroupVersion}`);
      const cluster = await Cluster.start({
        proxyMode,
        cgroupDriver,
        runtime,
        cgroupVersion,
        nodes: [{ name: 'a' }],
      });
      try {
        const server = await cluster.createWorkload({
          namespace: 'x',
          name: 'server',
          program: 'go',
          port: 80,
          replicas: 2,
        });
        const client = await cluster.createWorkload({
          namespace: 'x',
          name: 'client',
          kind: 'CronJob',
          program: 'node',
        });
        const fixed = await cluster.createWorkload({
          namespace: 'kube-system',
          name: 'etcd',
          kind: 'StaticPod',
          program: 'go',
        });
        await cluster.createService({
          namespace: 'x',
          name: 'server',
          workload: 'server',
          type: 'NodePort',
          port: 80,
          targetPort: 80,
        });
        await cluster.createService({
          namespace: 'x',
          name: 'empty',
          workload: 'nobody',
          port: 80,
          targetPort: 80,
        });
        const [caller, mirror] = [client.pods[0], fixed.pods[0]];
        if (!caller || !mirror) throw new Error('no pods');
        const { clusterIP, ports } = cluster.services.object('x/server').spec;
        await cluster.call(caller, { host: clusterIP, port: 80, connections: 10 }, 'x/server');
        await cluster.call(
          caller,
          { host: caller.node.address, port: ports[0].nodePort, connections: 10 },
          'x/server',
        );
        const refused = await caller.peer.call({
          host: cluster.services.object('x/empty').spec.clusterIP,
          port: 80,
        });
        expect(refused).toEqual({ '?': { connections: 0, requests: 0, sent: 0, received: 0, failed: 1 } });
        expect((await cluster.settle()).disagreements()).toEqual([]);
        const reached = cluster.truth.pairs().reduce((sum, { connections }) => sum + connections, 0);
        expect(reached).toBe(20);
        const lines = (pid: number): string[] =>
          readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
        const wanted = cgroupVersion === 'v2' ? /^0:/ : cgroupVersion === 'v1' ? /^[1-9]/ : /^/;
        for (const line of lines(server.pods[0]?.peer.pid ?? 0)) {
          expect(path.test(line), line).toBe(wanted.test(line));
        }
        const staticHash = mirror.object.metadata.annotations?.['kubernetes.io/config.mirror'] ?? '';
        expect(lines(mirror.peer.pid).some((line) => line.includes(`pod${staticHash}`))).toBe(true);
        expect(mirror.object.metadata.uid).not.toBe(staticHash);
      } finally {
        await cluster.stop();
      }
    },
  );
});

describe.skipIf(noNetwork)('afterwards', () => {
  test('nothing of a cluster is left when it has been stopped', async () => {
    const cluster = await Cluster.start({ nodes: [{ name: 'a' }, { name: 'b' }], cgroupVersion: 'hybrid' });
    await cluster.createWorkload({ namespace: 'x', name: 'w', program: 'go', port: 80, replicas: 2 });
    await cluster.addExternal('e', 'go', 80);
    const traces = tracesOf(cluster);
    expect(traces().length).toBeGreaterThan(10);
    await cluster.stop();
    expect(traces()).toEqual([]);
  });

  test('nothing is left of a cluster whose test was killed, once the next one starts', async () => {
    const script = `
      import { Cluster } from ${JSON.stringify(join(import.meta.dirname, '../testbed/cluster.ts'))};
      const cluster = await Cluster.start({ cgroupVersion: 'hybrid' });
      await cluster.createWorkload({ namespace: 'x', name: 'w', program: 'go', port: 80 });
      const { slot, network } = cluster;
      console.log(JSON.stringify({
        slot: { name: slot.name, directory: slot.directory },
        prefix: network.prefix,
        pods: cluster.pods().map(({ object }) => ({ object: { metadata: { uid: object.metadata.uid } } })),
      }));
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const line = await new Promise<Buffer>((resolve, reject) => {
      child.stdout.once('data', resolve);
      child.once('exit', (code) => reject(new Error(`ended with ${code}`)));
    });
    const dead = JSON.parse(line.toString());
    const traces = tracesOf({ slot: dead.slot, network: { prefix: dead.prefix }, pods: () => dead.pods });
    expect(traces().length).toBeGreaterThan(5);
    expect(listSlots().find(({ directory }) => directory === dead.slot.directory)?.ownerPid).toBe(child.pid);
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
    expect(existsSync(dead.slot.directory)).toBe(true);
    await reap();
    expect(traces()).toEqual([]);
  });
});

interface Traced {
  readonly slot: { readonly name: string; readonly directory: string };
  readonly network: { readonly prefix: string };
  pods(): readonly { object: { metadata: { uid?: string } } }[];
}

/** Whatever on this machine still names this testbed. */
function tracesOf(cluster: Traced): () => string[] {
  const { name, directory } = cluster.slot;
  const uids = cluster.pods().flatMap(({ object: { metadata } }) => metadata.uid ?? []);
  const names = uids.flatMap((uid) => [uid, uid.replaceAll('-', '_')]);
  const output = (command: string, ...args: string[]): string[] =>
    execFileSync(command, args, { encoding: 'utf8' }).split('\n');
  return () => [
    ...output('ip', 'netns', 'list').filter((line) => line.startsWith(`${name}-`)),
    ...output('ip', '-o', 'link').filter((line) => line.includes(` knptb${name.replace(/\D+/, '')}@`)),
    ...output('ip', 'route').filter((line) => line.includes(`${cluster.network.prefix}.`)),
    ...output('iptables-save').filter((line) => line.includes(`${cluster.network.prefix}.`)),
    ...output('find', '/sys/fs/cgroup', '-type', 'd').filter((path) =>
      names.some((each) => path.includes(each)),
    ),
    ...processesIn(directory),
    ...(existsSync(directory) ? [directory] : []),
  ];
}

/** Every process of a testbed has its slot's directory as its working directory. */
function processesIn(directory: string): string[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/cwd`).startsWith(directory);
      } catch {
        return false;
      }
    });
}

function inNetns(netns: string, command: string, ...args: string[]): string {
  return execFileSync('nsenter', [`--net=/run/netns/${netns}`, command, ...args], { encoding: 'utf8' });
}

function difference(after: Record<string, number>, before: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(after).map(([key, value]) => [key, value - (before[key] ?? 0)]));
}
