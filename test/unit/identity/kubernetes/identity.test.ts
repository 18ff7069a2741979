// Attribution on a node of a cluster, with the API server's objects coming over real HTTP.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createIdentitySource } from '../../../../exporter/agent/identity_source.ts';
import { parseAddress } from '../../../../exporter/identity/address.ts';
import { HostIdentity } from '../../../../exporter/identity/host.ts';
import { connectTo } from '../../../../exporter/identity/kubernetes/connection.ts';
import {
  KubernetesIdentity,
  type KubernetesIdentityOptions,
} from '../../../../exporter/identity/kubernetes/kubernetes_identity.ts';
import type { IdentityChange, OwnerInfo, RemoteAddress } from '../../../../exporter/identity/types.ts';
import type { MetricName } from '../../../../exporter/telemetry/catalogue.ts';
import { Collector } from '../../../../exporter/telemetry/collector.ts';
import { SeriesStore } from '../../../../exporter/telemetry/store.ts';
import { FakeApiServer, type FakeObject, keyOf } from './fake_api_server.ts';
import { containerId, node, pod, service, slice, uid } from './fixtures.ts';

let server: FakeApiServer;
let url: string;
let identity: KubernetesIdentity;
let warnings: string[];
let clock: number;

beforeEach(async () => {
  server = new FakeApiServer();
  url = await server.start();
  warnings = [];
  clock = 1_000_000;
  server.put('nodes', node('node-1', '192.0.2.1', '10.1.1.0/24', 'zone-a'));
  server.put('nodes', node('node-2', '192.0.2.2', '10.1.2.0/24', 'zone-b'));
});
afterEach(async () => {
  await identity?.stop();
  await server.stop();
});

function create(more: Partial<KubernetesIdentityOptions> = {}): KubernetesIdentity {
  identity = new KubernetesIdentity({
    host: new HostIdentity({
      cgroup: { mode: 'v2', layout: 'v2' },
      proc: '/nowhere',
      root: '/nowhere',
      nodeName: 'node-1',
      addresses: () => ['192.0.2.1', '10.1.1.1'],
      ranges: [{ name: 'office', cidr: '198.51.100.0/24' }],
    }),
    connection: connectTo(url, {}),
    nodeName: 'node-1',
    remote: 'endpointslices',
    log: { warn: (message) => warnings.push(message), info: (message) => warnings.push(message) },
    now: () => clock,
    tuning: { backoff: { minMillis: 2, maxMillis: 20, refusedMillis: 20 }, lookupsPerSecond: 1000 },
    ...more,
  });
  return identity;
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

let marker = 0;
/** All that the server has, has arrived: each watch is in order, so a last object per kind tells. */
async function settle(): Promise<void> {
  await identity.start();
  await until(() => identity.synced && server.watching === 4, 'watching');
  const mark = ++marker;
  const ip = (kind: number) => `24${kind}.0.${mark}.1`;
  server.put('nodes', node(`marker-node-${mark}`, ip(0)));
  server.put('services', service(`marker-${mark}`, { clusterIP: ip(1) }));
  server.put('endpointslices', slice(`marker-${mark}`, [ip(2)]));
  server.put('pods', pod(`marker-${mark}`, { ip: ip(3) }));
  const dialled = { scope: 'external', dialled: { address: ip(1), port: 80 } } as const;
  await until(() => name(exact(ip(0))) === `Node marker-node-${mark}`, 'nodes arrived');
  await until(() => name(dialled) === `External external by marker-${mark}`, 'services arrived');
  await until(() => name(exact(ip(2))) === `Service shop/marker-${mark}`, 'slices arrived');
  await until(() => name(exact(ip(3))) === `Deployment shop/marker-${mark}`, 'pods arrived');
}

let ids = 0;
function owner(more: Partial<OwnerInfo> = {}): OwnerInfo {
  return { id: ++ids, pid: 0, cgroupId: 0n, comm: 'app', exe: 'app', flags: 0, path: [], ...more };
}

/** The owner that the kernel sees for a container of a pod. */
function inPod(object: FakeObject, container = 'app'): OwnerInfo {
  const { name, namespace } = object.metadata;
  return owner({
    path: [
      `cri-containerd-${containerId(`${namespace}/${name}/${container}`)}.scope`,
      `kubepods-burstable-pod${(object.metadata.uid as string).replaceAll('-', '_')}.slice`,
      'kubepods-burstable.slice',
      'kubepods.slice',
    ],
  });
}

const exact = (address: string, more: Partial<RemoteAddress> = {}): RemoteAddress => ({
  scope: 'exact',
  address: parseAddress(address) as Uint8Array,
  ...more,
});

function name(address: RemoteAddress): string {
  const { workload, service: dialled } = identity.remote(address);
  const { kind, namespace, name: text } = workload;
  return `${kind} ${namespace}${namespace && '/'}${text}${dialled === undefined ? '' : ` by ${dialled}`}`;
}

async function eventually(address: RemoteAddress, expected: string): Promise<void> {
  try {
    await until(() => name(address) === expected, expected);
  } catch {
    expect(name(address)).toBe(expected);
  }
}

describe('local ends', () => {
  it.each([
    ['Deployment', 'Deployment', 'checkout'],
    ['StatefulSet', 'StatefulSet', 'checkout'],
    ['DaemonSet', 'DaemonSet', 'checkout'],
    ['Job', 'Job', 'checkout'],
    ['CronJob', 'CronJob', 'checkout'],
    ['none', 'Pod', 'checkout'],
    ['Node', 'Pod', 'checkout'],
    ['CloneSet', 'CloneSet', 'checkout'],
  ])('a pod of a %s', async (kind, expectedKind, expectedName) => {
    const object = server.put('pods', pod('checkout', { owner: kind }));
    create();
    await settle();
    expect(identity.local(inPod(object))).toEqual({
      name: expectedName,
      kind: expectedKind,
      namespace: 'shop',
      pod: object.metadata.name,
      zone: 'zone-a',
    });
  });

  it('all containers of a pod, its sandbox and its monitor are the pod', async () => {
    const object = server.put('pods', pod('checkout'));
    create();
    await settle();
    const first = identity.local(inPod(object));
    expect(first.name).toBe('checkout');
    for (const container of ['sidecar', 'init', 'debugger', 'the sandbox, which no status lists']) {
      expect(identity.local(inPod(object, container))).toBe(first);
    }
    const slicePath = inPod(object).path.slice(1);
    expect(identity.local(owner({ path: slicePath }))).toBe(first);
    const conmon = owner({ path: [`crio-conmon-${containerId('x')}.scope`, ...slicePath] });
    expect(identity.local(conmon)).toBe(first);
    // cgroupfs driver
    const bare = owner({
      path: [
        containerId(`shop/${object.metadata.name}/app`),
        `pod${object.metadata.uid}`,
        'burstable',
        'kubepods',
      ],
    });
    expect(identity.local(bare)).toBe(first);
  });

  it('a static pod of the control plane, by the hash that its cgroup carries', async () => {
    const hash = '8ba5f6a1d3c04e2f9b7d6c5a4e3f2a1b';
    server.put(
      'pods',
      pod('kube-apiserver', {
        owner: 'Node',
        namespace: 'kube-system',
        hostNetwork: true,
        ip: '192.0.2.1',
        labels: { component: 'kube-apiserver', tier: 'control-plane' },
        annotations: { 'kubernetes.io/config.hash': hash },
      }),
    );
    create();
    await settle();
    const workload = identity.local(
      owner({ path: [containerId('unlisted'), `pod${hash}`, 'burstable', 'kubepods'] }),
    );
    expect(workload).toMatchObject({
      name: 'kube-apiserver',
      namespace: 'kube-system',
      kind: 'ControlPlane',
    });
  });

  it('units and processes of the node keep their names, foreign containers too', async () => {
    create();
    await settle();
    expect(identity.local(owner({ path: ['kubelet.service', 'system.slice'] }))).toMatchObject({
      name: 'kubelet.service',
      kind: 'Unit',
    });
    expect(identity.local(owner({ flags: 1 }))).toMatchObject({ name: 'kernel', kind: 'Process' });
    expect(identity.local(owner({ path: [`docker-${'1'.repeat(64)}.scope`, 'system.slice'] }))).toMatchObject(
      { kind: 'Container' },
    );
  });

  it('is unknown and counted while the name is late, then announced and right', async () => {
    const object = pod('checkout');
    create();
    await settle();
    const late = inPod(object);
    const before = identity.stats().unknown;
    expect(identity.local(late)).toMatchObject({ name: 'unknown', kind: 'Unknown' });
    expect(identity.stats().unknown).toBe(before + 1);
    const changes: IdentityChange[] = [];
    identity.onChange((change) => changes.push(change));
    server.put('pods', object);
    await until(() => changes.length > 0, 'announced');
    expect(identity.local(late)).toMatchObject({ name: 'checkout', kind: 'Deployment' });
    expect(changes.at(-1)?.revision).toBe(identity.revision);
  });

  it('a pod that is replaced under the same name, and a container that was restarted', async () => {
    const old = server.put('pods', pod('db', { owner: 'StatefulSet', suffix: '0', uid: uid('first') }));
    create();
    await settle();
    expect(identity.local(inPod(old)).name).toBe('db');
    server.remove('pods', keyOf(old));
    const fresh = server.put('pods', pod('db', { owner: 'StatefulSet', suffix: '0', uid: uid('second') }));
    await settle();
    const byUid = owner({ path: inPod(fresh).path.slice(1) });
    expect(identity.local(byUid).name).toBe('db');
    const restarted = structuredClone(fresh);
    restarted.status.containerStatuses[0] = {
      containerID: `containerd://${containerId('again')}`,
      lastState: { terminated: { containerID: fresh.status.containerStatuses[0].containerID } },
    };
    server.put('pods', restarted);
    await settle();
    const path = (id: string): OwnerInfo => owner({ path: [`cri-containerd-${id}.scope`] });
    expect(identity.local(path(containerId('again'))).name).toBe('db');
    expect(identity.local(path(containerId('shop/db-0/app'))).name).toBe('db');
  });
});

describe('remote ends', () => {
  it('pods of other nodes through EndpointSlices: one lookup for all pods of a ReplicaSet', async () => {
    const pods = Array.from({ length: 20 }, (_, index) =>
      server.put('pods', pod('payments', { node: 'node-2', ip: `10.1.2.${10 + index}` })),
    );
    server.put('services', service('payments', { clusterIP: '10.96.0.10' }));
    server.put('endpointslices', slice('payments', pods));
    create();
    await settle();
    for (let index = 0; index < 20; index++) name(exact(`10.1.2.${10 + index}`));
    await eventually(exact('10.1.2.10', { port: 8080 }), 'Deployment shop/payments');
    for (let index = 0; index < 20; index++)
      expect(name(exact(`10.1.2.${10 + index}`))).toBe('Deployment shop/payments');
    expect(identity.remote(exact('10.1.2.10')).workload).toMatchObject({
      zone: 'zone-b',
      pod: pods[0]?.metadata.name,
    });
    expect(server.count('pods', 'get')).toBe(1);
    expect(server.lists('pods')).toBe(1);
  });

  it('no lookup at all where a pod of the same controller runs here', async () => {
    server.put('pods', pod('payments', { ip: '10.1.1.9' }));
    server.put('endpointslices', slice('payments', [pod('payments', { node: 'node-2', ip: '10.1.2.9' })]));
    create();
    await settle();
    expect(name(exact('10.1.2.9'))).toBe('Deployment shop/payments');
    expect(identity.stats().counters.lookups).toBe(0);
  });

  it('a pod without a service is found by its address; a node tunnel is its node; a stranger among pods is external', async () => {
    server.put('pods', pod('worker', { node: 'node-2', ip: '10.1.2.77' }));
    create();
    await settle();
    expect(name(exact('10.1.2.77'))).toBe('Unknown unknown');
    await eventually(exact('10.1.2.77'), 'Deployment shop/worker');
    await eventually(exact('10.1.2.0'), 'Node node-2');
    expect(name(exact('10.1.1.1'))).toBe('Node node-1');
    // Outside all nodes' ranges but next to a pod.
    server.put('pods', pod('vpc', { ip: '172.16.5.5' }));
    await settle();
    await eventually(exact('172.16.5.99'), 'External external');
    expect(identity.ranges()).toContainEqual({ cidr: '172.16.5.0/24', kind: 'exact', id: 0 });
  });

  it('nodes, host-network pods, node ports, the API server, named ranges, external', async () => {
    const proxy = server.put(
      'pods',
      pod('edge-proxy', { owner: 'DaemonSet', node: 'node-2', ip: '192.0.2.2', hostNetwork: true }),
    );
    server.put('endpointslices', slice('edge-proxy', [proxy], 8443));
    const front = server.put('pods', pod('front', { ip: '10.1.1.20' }));
    server.put(
      'services',
      service('front', { clusterIP: '10.96.0.20', type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] }),
    );
    server.put('endpointslices', slice('front', [front]));
    server.put(
      'services',
      service('kubernetes', { clusterIP: '10.96.0.1', ports: [{ port: 443 }] }, {}, 'default'),
    );
    server.put('endpointslices', slice('kubernetes', ['198.18.0.5'], 6443, 'default'));
    server.put('services', service('legacy-db', { clusterIP: '10.96.0.30' }));
    server.put('endpointslices', slice('legacy-db', ['203.0.113.200'], 5432));
    create();
    await settle();
    expect(name(exact('192.0.2.2'))).toBe('Node node-2');
    expect(name(exact('192.0.2.2', { port: 22 }))).toBe('Node node-2');
    await eventually(exact('192.0.2.2', { port: 8443 }), 'DaemonSet shop/edge-proxy');
    expect(name(exact('192.0.2.1', { port: 30080 }))).toBe('Deployment shop/front by front');
    expect(name(exact('192.0.2.2', { port: 30080 }))).toBe('Deployment shop/front by front');
    expect(name(exact('198.18.0.5', { port: 6443 }))).toBe('ControlPlane kube-system/kube-apiserver');
    expect(name(exact('10.96.0.1', { port: 443 }))).toBe(
      'ControlPlane kube-system/kube-apiserver by kubernetes',
    );
    expect(name(exact('203.0.113.200', { port: 5432 }))).toBe('Service shop/legacy-db');
    expect(name(exact('10.96.0.30', { port: 80 }))).toBe('Service shop/legacy-db by legacy-db');
    expect(name(exact('198.51.100.3'))).toBe('CIDR office');
    expect(name({ scope: 'range', range: 1 })).toBe('CIDR office');
    expect(name(exact('8.8.8.8'))).toBe('External external');
    expect(name({ scope: 'external' })).toBe('External external');
    expect(identity.remote(exact('192.0.2.2')).workload.zone).toBe('zone-b');
  });

  it('what was dialled and what was reached', async () => {
    const front = server.put('pods', pod('front', { ip: '10.1.1.20' }));
    const other = server.put('pods', pod('canary', { ip: '10.1.1.21' }));
    server.put(
      'services',
      service(
        'front',
        {
          clusterIP: '10.96.0.20',
          type: 'LoadBalancer',
          externalIPs: ['198.18.7.7'],
          ports: [{ port: 80, nodePort: 30080 }],
        },
        { loadBalancer: { ingress: [{ ip: '198.18.7.8' }] } },
      ),
    );
    server.put('services', service('mixed', { clusterIP: '10.96.0.21' }));
    server.put('services', service('nobody', { clusterIP: '10.96.0.22' }));
    server.put('services', service('headless', { clusterIP: 'None' }));
    server.put('endpointslices', slice('front', [front]));
    server.put('endpointslices', slice('mixed', [front, other]));
    server.put('endpointslices', slice('headless', [front]));
    create();
    await settle();
    const reached = (address: string, port: number) =>
      name(exact('10.1.1.20', { port: 8080, dialled: { address, port } }));
    expect(reached('10.96.0.20', 80)).toBe('Deployment shop/front by front');
    expect(reached('10.96.0.21', 80)).toBe('Deployment shop/front by mixed');
    expect(reached('192.0.2.1', 30080)).toBe('Deployment shop/front by front');
    expect(reached('127.0.0.1', 30080)).toBe('Deployment shop/front by front');
    expect(reached('198.18.7.7', 80)).toBe('Deployment shop/front by front');
    expect(reached('198.18.7.8', 80)).toBe('Deployment shop/front by front');
    expect(reached('198.18.7.8', 81)).toBe('Deployment shop/front');
    expect(name(exact('10.1.1.20', { port: 8080 }))).toBe('Deployment shop/front');
    // Only the service is known: its one workload, or itself.
    expect(name(exact('10.96.0.20', { port: 80 }))).toBe('Deployment shop/front by front');
    expect(identity.remote(exact('10.96.0.20', { port: 80 })).workload.pod).toBeUndefined();
    expect(name(exact('10.96.0.21', { port: 80 }))).toBe('Service shop/mixed by mixed');
    expect(name(exact('10.96.0.22', { port: 80 }))).toBe('Service shop/nobody by nobody');
    // Hairpin: the peer is on this host.
    expect(name({ scope: 'local', peer: inPod(front), dialled: { address: '10.96.0.20', port: 80 } })).toBe(
      'Deployment shop/front by front',
    );
    expect(name({ scope: 'external', dialled: { address: '198.18.7.8', port: 80 } })).toBe(
      'External external by front',
    );
  });

  it('loopback stays in the pod, but on the host for pods on its network', async () => {
    const plain = server.put('pods', pod('plain', { ip: '10.1.1.5' }));
    const onHost = server.put('pods', pod('on-host', { ip: '192.0.2.1', hostNetwork: true }));
    create();
    await settle();
    expect(name({ scope: 'loopback', owner: inPod(plain) })).toBe('Deployment shop/plain');
    expect(name({ scope: 'loopback', owner: inPod(onHost) })).toBe('Node node-1');
    expect(name({ scope: 'loopback', owner: owner({ path: ['kubelet.service'] }) })).toBe('Node node-1');
  });

  it('an agent on its own pod network is a pod, not the node', async () => {
    server.put('pods', pod('kubenetprobe', { owner: 'DaemonSet', ip: '10.1.1.1' }));
    create();
    await settle();
    expect(name(exact('10.1.1.1'))).toBe('DaemonSet shop/kubenetprobe');
    expect(name(exact('192.0.2.1'))).toBe('Node node-1');
  });

  it('an address that moved is attributed by time', async () => {
    const first = server.put('pods', pod('first', { ip: '10.1.1.50' }));
    create();
    await settle();
    clock = 2_000_000;
    server.remove('pods', keyOf(first));
    const second = server.put('pods', pod('second', { ip: '10.1.1.50' }));
    await settle();
    clock = 2_000_500;
    server.remove('pods', keyOf(second));
    server.put('pods', pod('third', { ip: '10.1.1.50' }));
    await settle();
    expect(name(exact('10.1.1.50', { at: 1_500_000 }))).toBe('Deployment shop/first');
    expect(name(exact('10.1.1.50', { at: 2_000_100 }))).toBe('Deployment shop/second');
    expect(name(exact('10.1.1.50'))).toBe('Deployment shop/third');
  });

  it('an address between two services moves with the slices, whichever is told first', async () => {
    const old = pod('old', { node: 'node-2', ip: '10.1.2.50' });
    const fresh = pod('fresh', { node: 'node-2', ip: '10.1.2.50' });
    server.put('pods', old);
    server.put('pods', fresh);
    server.put('endpointslices', slice('old', [old]));
    create();
    await settle();
    await eventually(exact('10.1.2.50'), 'Deployment shop/old');
    clock += 1000;
    server.put('endpointslices', slice('fresh', [fresh]));
    await settle();
    await eventually(exact('10.1.2.50'), 'Deployment shop/fresh');
    server.put('endpointslices', slice('old', []));
    await settle();
    expect(name(exact('10.1.2.50'))).toBe('Deployment shop/fresh');
  });

  it('an address that was given up names its last holder for a minute, unless somebody else is found', async () => {
    const gone = server.put('pods', pod('gone', { ip: '10.1.1.60' }));
    const before = server.put('pods', pod('before', { ip: '10.1.1.61' }));
    create();
    await settle();
    clock += 1000;
    server.remove('pods', keyOf(gone));
    server.remove('pods', keyOf(before));
    server.put('pods', pod('after', { node: 'node-2', ip: '10.1.1.61' }));
    await settle();
    clock += 1;
    expect(name(exact('10.1.1.60'))).toBe('Deployment shop/gone');
    await eventually(exact('10.1.1.61'), 'Deployment shop/after');
    clock += 61_000;
    await eventually(exact('10.1.1.60'), 'Node node-1');
  });

  it('watches all pods where told to, finished ones give their address back', async () => {
    const done = server.put('pods', pod('batch', { owner: 'Job', node: 'node-2', ip: '10.1.2.90' }));
    create({ remote: 'pods' });
    await settle();
    expect(name(exact('10.1.2.90'))).toBe('Job shop/batch');
    server.put('pods', { ...done, status: { ...done.status, phase: 'Succeeded' } });
    server.put('pods', pod('next', { node: 'node-2', ip: '10.1.2.90' }));
    clock += 1000;
    await settle();
    expect(name(exact('10.1.2.90'))).toBe('Deployment shop/next');
    expect(identity.stats().counters.lookups).toBe(0);
  });

  it('before the cluster is known, private addresses are kept and unknown; afterwards only its own are', async () => {
    server.put('services', service('a', { clusterIP: '10.96.0.10' }));
    server.put('services', service('b', { clusterIP: '10.96.200.1' }));
    server.fault = ({ resource }) => (resource === 'nodes' ? { kind: 'status', status: 503 } : undefined);
    create();
    const kept = () => identity.ranges().map((range) => range.cidr);
    expect(kept()).toEqual(
      expect.arrayContaining(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']),
    );
    expect(name(exact('10.44.0.1'))).toBe('Unknown unknown');
    expect(name(exact('8.8.8.8'))).toBe('External external');
    await identity.start();
    await until(() => identity.stats().known.services === 2, 'services listed');
    expect(kept()).toContain('10.0.0.0/8');
    const changes: IdentityChange[] = [];
    identity.onChange((change) => changes.push(change));
    server.fault = () => undefined;
    await until(() => identity.synced && changes.some((change) => change.ranges), 'complete');
    expect(kept()).not.toContain('10.0.0.0/8');
    expect(name(exact('10.44.0.1'))).toBe('External external');
    // A service that is a moment late is in between those that are known.
    expect(kept()).toContain('10.96.0.0/16');
    expect(name(exact('10.96.77.7', { port: 80 }))).toBe('Unknown unknown');
    expect(identity.stats().counters.lookups).toBe(0);
  });

  it('IPv6 and dual stack', async () => {
    server.put('nodes', {
      ...node('node-6', '2001:db8::6'),
      spec: { podCIDRs: ['2001:db8:6::/64', '10.1.6.0/24'] },
    });
    server.put('pods', pod('dual', { ips: ['10.1.1.70', '2001:db8:1::70'] }));
    create();
    await settle();
    expect(name(exact('2001:db8:1::70'))).toBe('Deployment shop/dual');
    expect(name(exact('10.1.1.70'))).toBe('Deployment shop/dual');
    expect(name(exact('2001:db8::6'))).toBe('Node node-6');
    const cidrs = identity.ranges().map((range) => range.cidr);
    expect(cidrs).toEqual(
      expect.arrayContaining([
        '2001:db8:6::/64',
        '10.1.6.0/24',
        '2001:db8:1::/120',
        '2001:db8::6/128',
        '192.0.2.2/32',
        '198.51.100.0/24',
      ]),
    );
    expect(new Set(cidrs).size).toBe(cidrs.length);
  });
});

describe('the API server', () => {
  it('is not needed at the start, and its return brings the names', async () => {
    const object = server.put('pods', pod('checkout', { ip: '10.1.1.5' }));
    await server.stop();
    create();
    await identity.start();
    expect(identity.local(inPod(object)).kind).toBe('Unknown');
    expect(identity.local(owner({ path: ['kubelet.service'] })).name).toBe('kubelet.service');
    expect(name({ scope: 'external' })).toBe('External external');
    await until(() => warnings.length > 0, 'said so');
    await server.start();
    await settle();
    expect(identity.local(inPod(object)).name).toBe('checkout');
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toContain(`cannot reach the API server at ${url} (ECONNREFUSED)`);
    expect(warnings[1]).toContain('up to date again');
    expect(identity.stats().problems).toEqual([]);
  });

  it('may go away: what was known stays', async () => {
    const object = server.put('pods', pod('checkout', { ip: '10.1.1.5' }));
    create();
    await settle();
    await server.stop();
    await until(() => identity.stats().problems.length > 0, 'noticed');
    expect(identity.local(inPod(object)).name).toBe('checkout');
    expect(name(exact('10.1.1.5'))).toBe('Deployment shop/checkout');
    await server.start();
    server.remove('pods', keyOf(object));
    server.put('pods', pod('next', { ip: '10.1.1.5' }));
    clock += 1000;
    await settle();
    expect(name(exact('10.1.1.5'))).toBe('Deployment shop/next');
    expect(['pods', 'services', 'endpointslices', 'nodes'].map((resource) => server.lists(resource))).toEqual(
      [1, 1, 1, 1],
    );
  });

  it.each(['nodes', 'pods', 'services', 'endpointslices'])(
    'one verb missing, on %s: one line, the rest works',
    async (resource) => {
      const object = server.put('pods', pod('front', { ip: '10.1.1.20' }));
      server.put('services', service('front', { clusterIP: '10.96.0.20' }));
      server.put('endpointslices', slice('front', [object]));
      server.fault = (request) =>
        request.resource === resource && request.verb === 'list'
          ? { kind: 'status', status: 403 }
          : undefined;
      create();
      await identity.start();
      const works: Record<string, () => boolean> = {
        nodes: () => name(exact('192.0.2.2')) === 'Node node-2',
        pods: () => identity.local(inPod(object)).name === 'front',
        services: () =>
          name(exact('10.1.1.20', { dialled: { address: '10.96.0.20', port: 80 } })).endsWith('by front'),
        endpointslices: () => identity.stats().known.endpointslices === 1,
      };
      await until(
        () => Object.entries(works).every(([kind, works]) => kind === resource || works()),
        'the rest works',
      );
      await until(() => warnings.length > 0, 'said so');
      // Lookups of single pods have a line of their own.
      expect(warnings.filter((line) => line.includes(`list ${resource}`))).toEqual([
        `not allowed to list ${resource} (403): grant the verb list on ${resource} in the agent's ClusterRole; names that need it are missing`,
      ]);
      expect(identity.stats().problems.some((line) => line.includes(`list ${resource}`))).toBe(true);
    },
  );

  it('without the right to get pods, remote pods are named by their service', async () => {
    server.put('endpointslices', slice('payments', [pod('payments', { node: 'node-2', ip: '10.1.2.9' })]));
    server.fault = (request) => (request.verb === 'get' ? { kind: 'status', status: 403 } : undefined);
    create();
    await settle();
    await eventually(exact('10.1.2.9'), 'Service shop/payments');
    expect(warnings.filter((line) => line.includes('not allowed to get pods'))).toHaveLength(1);
    expect(server.count('pods', 'get')).toBe(1);
  });

  it('a node name that the cluster does not have is said', async () => {
    create({ nodeName: 'localhost' });
    await identity.start();
    await until(() => identity.stats().problems.length > 0, 'said so');
    expect(identity.stats().problems).toEqual([
      'the cluster has no node localhost: set kubernetes.node_name to the name of this node',
    ]);
  });

  it('rotated tokens are read anew', async () => {
    const { connect } = await import('../../../../exporter/identity/kubernetes/connection.ts');
    const directory = mkdtempSync(join(tmpdir(), 'knp-identity-'));
    try {
      // The service account's way is TLS only; the same files over a kubeconfig-less plain connection prove the reading.
      writeFileSync(join(directory, 'token'), 'first\n');
      writeFileSync(join(directory, 'ca.crt'), '');
      const found = await connect({
        serviceAccountDir: directory,
        environment: { KUBERNETES_SERVICE_HOST: '::1', KUBERNETES_SERVICE_PORT: '6443' },
      });
      expect(found?.server).toBe('https://[::1]:6443');
      found?.close();
      expect(
        await connect({
          serviceAccountDir: join(directory, 'no'),
          environment: { KUBERNETES_SERVICE_HOST: '::1' },
        }),
      ).toBeUndefined();
      expect(await connect({ environment: {} })).toBeUndefined();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

it('tells what it knows and could not name, as metrics', async () => {
  server.put('pods', pod('checkout', { ip: '10.1.1.5' }));
  server.put('services', service('front', { clusterIP: '10.96.0.20' }));
  create();
  const store = new SeriesStore();
  const collector = new Collector({ store, sources: [createIdentitySource({ store, identity })] });
  const read = (metric: MetricName) =>
    Object.fromEntries(store.family(metric).points.map((point) => [point.labels, point.value]));
  await collector.collect();
  expect(read('knp.kubernetes.synced')).toEqual({});
  await settle();
  const { unresolved } = identity.stats();
  identity.local(owner({ path: [`pod${uid('nobody')}`, 'burstable', 'kubepods'] }));
  name({ scope: 'exact' });
  name(exact('10.96.0.20', { port: 80 }));
  server.endWatches();
  await until(
    () => Object.values(identity.stats().resources).every((each) => each.watchRestarts === 1),
    'watching again',
  );
  await collector.collect();
  await collector.collect();
  expect(read('knp.identity.unresolved')).toEqual({
    'kind="backend"': unresolved.backend + 1,
    'kind="local"': unresolved.local + 1,
    'kind="remote"': unresolved.remote + 1,
  });
  expect(read('knp.kubernetes.objects')).toEqual({
    'resource="pods"': 2,
    'resource="services"': 2,
    'resource="endpointslices"': 1,
    'resource="nodes"': 3,
  });
  expect(read('knp.kubernetes.synced')['resource="nodes"']).toBe(1);
  expect(read('knp.kubernetes.watch_restarts')['resource="pods"']).toBe(1);
  expect(read('knp.identity.entries')).toMatchObject({
    'kind="addresses"': 2,
    'kind="ranges"': 1,
    'kind="pod_addresses"': 2,
  });
});

it('hostile objects neither break nor inflate anything', async () => {
  const long = 'x'.repeat(100_000);
  const nasty: FakeObject[] = [
    { metadata: { name: 'a' }, spec: null, status: null },
    {
      metadata: { name: 'b', labels: [], ownerReferences: {} },
      spec: { nodeName: 7 },
      status: { podIPs: 'x', podIP: 'no address', containerStatuses: [null, 1, { containerID: long }] },
    },
    {
      metadata: { name: 'c', ownerReferences: [{ kind: long, name: 'evil\u202E\n' }] },
      spec: { nodeName: 'node-1' },
      status: { podIP: '10.1.1.99', podIPs: [null, { ip: '::' }] },
    },
    { metadata: { name: '__proto__', uid: '__proto__' }, status: { podIP: '10.1.1.98' } },
  ];
  for (const object of nasty) {
    server.put('pods', object);
    server.put('services', { ...object, spec: { clusterIP: 5, ports: [{ port: -1 }, null, { port: 1e9 }] } });
    server.put('endpointslices', {
      ...object,
      endpoints: [null, { addresses: ['zz', 1, '10.9.9.9'], targetRef: 'x' }],
      ports: [null, { port: 'x' }],
    });
    server.put('nodes', { ...object, spec: { podCIDRs: ['x', 5, '10.0.0.0/99'] } });
  }
  create({ remote: 'pods' });
  await settle();
  expect(name(exact('10.1.1.99'))).toMatch(/^Pod c$|^evil|Pod/);
  expect(identity.stats().problems).toEqual([]);
  expect(identity.ranges().every((range) => range.cidr.length < 50)).toBe(true);
});
