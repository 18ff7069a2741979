// Names on a host without Kubernetes: the answers for owners and remote addresses as the kernel side hands them over.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, networkInterfaces, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAddress } from '../../../exporter/identity/address.ts';
import { createHostIdentity } from '../../../exporter/identity/host.ts';
import type {
  CgroupMode,
  IdentityChange,
  OwnerInfo,
  RemoteAddress,
} from '../../../exporter/identity/types.ts';

const ID = '3a1f0c9e4b7d2865f1e0d3c2b5a49687788695a4b3c2d1e0f0e1d2c3b4a59687';
const cgroup: CgroupMode = { mode: 'v2', layout: 'v2' };
const proc = '/nowhere';

let nextId = 1;
function owner(more: Partial<OwnerInfo>): OwnerInfo {
  return { id: nextId++, pid: 0, cgroupId: 0n, comm: 'sh', exe: 'dash', flags: 0, path: [], ...more };
}

describe('local ends', () => {
  const identity = createHostIdentity({ cgroup, proc, root: '/nowhere' });

  it.each<[string, Partial<OwnerInfo>, string, string]>([
    ['a unit', { path: ['nginx.service', 'system.slice'] }, 'nginx.service', 'Unit'],
    ['a container', { path: [`docker-${ID}.scope`, 'system.slice'] }, ID.slice(0, 12), 'Container'],
    [
      'a session',
      { path: ['session-1.scope', 'user-0.slice', 'user.slice'], comm: 'iperf3', exe: 'iperf3' },
      'iperf3',
      'Process',
    ],
    ['the root cgroup', { path: [], comm: 'MainThread', exe: 'node' }, 'node', 'Process'],
    ['a kernel thread', { comm: 'kworker/u4:2', exe: '', flags: 1 }, 'kernel', 'Process'],
    ['the agent in its own unit', { path: ['kubenetprobe.service'], flags: 2 }, 'kubenetprobe', 'Process'],
    ['nothing known', { comm: '', exe: '' }, 'unknown', 'Process'],
    [
      'a monitor of containers',
      { path: [`libpod-conmon-${ID}.scope`, 'machine.slice'], comm: 'conmon', exe: 'conmon' },
      'conmon',
      'Process',
    ],
  ])('%s', (_, info, name, kind) => {
    expect(identity.local(owner(info))).toEqual({ name, kind, namespace: '' });
  });

  it('two programs of one cgroup keep their own names; one program is one object', () => {
    const path = ['session-1.scope', 'user-0.slice'];
    const curl = identity.local(owner({ path, comm: 'curl', exe: 'curl' }));
    const wget = identity.local(owner({ path, comm: 'wget', exe: 'wget' }));
    expect([curl.name, wget.name]).toEqual(['curl', 'wget']);
    expect(identity.local(owner({ path, comm: 'curl', exe: 'curl' }))).toBe(curl);
  });
});

describe('remote ends', () => {
  let addresses = ['192.0.2.10', 'fe80::1%eth0', '2001:db8::10', '127.0.0.1'];
  const listening = owner({ path: ['postgresql.service', 'system.slice'] });
  const identity = createHostIdentity({
    cgroup,
    proc,
    nodeName: 'web-1',
    addresses: () => addresses,
    listener: (port) => (port === 5432 ? listening : undefined),
    ranges: [
      { name: 'office', cidr: '198.51.100.0/24' },
      { name: 'printers', cidr: '198.51.100.128/25' },
      { name: 'office', cidr: '2001:db8:1::/48' },
    ],
  });
  const name = (address: RemoteAddress) => {
    const { workload, service } = identity.remote(address);
    expect(service).toBeUndefined();
    expect(workload.namespace).toBe('');
    return `${workload.kind} ${workload.name}`;
  };
  const exact = (text: string, more: Partial<RemoteAddress> = {}): RemoteAddress => ({
    scope: 'exact',
    address: parseAddress(text) as Uint8Array,
    ...more,
  });

  it.each<[string, RemoteAddress, string]>([
    [
      'the peer that the kernel found',
      { scope: 'local', peer: owner({ path: ['redis.service'] }) },
      'Unit redis.service',
    ],
    [
      'the peer, even with an address',
      exact('203.0.113.1', { peer: owner({ path: ['redis.service'] }) }),
      'Unit redis.service',
    ],
    ['own address, port of a known listener', exact('192.0.2.10', { port: 5432 }), 'Unit postgresql.service'],
    ['own address, any port', exact('192.0.2.10', { port: 80 }), 'Node web-1'],
    ['own link-local address', exact('fe80::1'), 'Node web-1'],
    ['local without a peer', { scope: 'local' }, 'Node web-1'],
    ['loopback', { scope: 'loopback', port: 80 }, 'Node web-1'],
    ['loopback, port of a known listener', { scope: 'loopback', port: 5432 }, 'Unit postgresql.service'],
    [
      'loopback of a container',
      { scope: 'loopback', owner: owner({ path: [`docker-${ID}.scope`] }) },
      `Container ${ID.slice(0, 12)}`,
    ],
    ['loopback as an exact address', exact('127.0.0.9'), 'Node web-1'],
    ['a named range by id', { scope: 'range', range: 2 }, 'CIDR printers'],
    ['an id that is no range', { scope: 'range', range: 99 }, 'Unknown unknown'],
    ['an address in a range', exact('198.51.100.7'), 'CIDR office'],
    ['an address in a longer prefix', exact('198.51.100.200'), 'CIDR printers'],
    ['a second prefix of the same name', exact('2001:db8:1::5'), 'CIDR office'],
    ['external', { scope: 'external', port: 443 }, 'External external'],
    ['an address of nobody', exact('203.0.113.9'), 'External external'],
    ['text instead of bytes', { scope: 'exact', address: '::ffff:198.51.100.7' }, 'CIDR office'],
    ['no address', { scope: 'exact' }, 'Unknown unknown'],
    ['a malformed address', { scope: 'exact', address: new Uint8Array(3) }, 'Unknown unknown'],
  ])('%s', (_, address, expected) => {
    expect(name(address)).toBe(expected);
  });

  it('counts what it could not name', () => {
    const before = identity.stats().unknown;
    name({ scope: 'exact' });
    expect(identity.stats().unknown).toBe(before + 1);
  });

  it('gives the trie its prefixes', () => {
    expect(identity.ranges()).toEqual([
      { cidr: '198.51.100.0/24', kind: 'range', id: 1, name: 'office' },
      { cidr: '198.51.100.128/25', kind: 'range', id: 2, name: 'printers' },
      { cidr: '2001:db8:1::/48', kind: 'range', id: 1, name: 'office' },
      { cidr: '192.0.2.10/32', kind: 'exact', id: 0 },
      { cidr: 'fe80::1/128', kind: 'exact', id: 0 },
      { cidr: '2001:db8::10/128', kind: 'exact', id: 0 },
    ]);
  });

  it('announces an address that came, once, with new ranges', async () => {
    const changes: IdentityChange[] = [];
    const unsubscribe = identity.onChange((change) => changes.push(change));
    const before = identity.revision;
    addresses = [...addresses, '192.0.2.11'];
    const base = identity as unknown as { refreshAddresses(): void };
    base.refreshAddresses();
    base.refreshAddresses();
    expect(identity.revision).toBe(before + 1);
    await new Promise(setImmediate);
    expect(changes).toEqual([{ revision: before + 1, ranges: true }]);
    expect(name(exact('192.0.2.11'))).toBe('Node web-1');
    unsubscribe();
    addresses = addresses.slice(0, 1);
    base.refreshAddresses();
    await new Promise(setImmediate);
    expect(changes).toHaveLength(1);
  });
});

it('knows this host by default', () => {
  const identity = createHostIdentity({ cgroup });
  const own = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find((entry) => !entry.internal);
  if (own !== undefined) {
    expect(identity.remote({ scope: 'exact', address: own.address }).workload).toEqual({
      name: hostname(),
      kind: 'Node',
      namespace: '',
    });
  }
  expect(identity.remote({ scope: 'exact', address: '203.0.113.77' }).workload.kind).toBe('External');
});

it('says which range is malformed', () => {
  expect(() => createHostIdentity({ cgroup, ranges: [{ name: 'dc', cidr: '10.0.0.0/40' }] })).toThrow(
    /"dc".*"10\.0\.0\.0\/40".*is not a CIDR/,
  );
});

describe('names of containers', () => {
  let root: string;
  const write = (path: string, value: unknown) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), typeof value === 'string' ? value : JSON.stringify(value));
  };
  const id = (digit: string) => digit.repeat(64);

  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), 'knp-identity-'));
    write(`var/lib/docker/containers/${id('1')}/config.v2.json`, { Name: '/web', Config: { Labels: {} } });
    write(`var/lib/docker/containers/${id('2')}/config.v2.json`, {
      Name: '/shop-api-3',
      Config: { Labels: { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'api' } },
    });
    write(`var/lib/docker/containers/${id('3')}/config.v2.json`, {
      Name: '/front.1.x',
      Config: { Labels: { 'com.docker.swarm.service.name': 'front' } },
    });
    write(`var/lib/docker/containers/${id('4')}/config.v2.json`, '{ "Name": ');
    write(`var/lib/docker/containers/${id('5')}/config.v2.json`, { Name: '/a\u202E\nb' });
    write('var/lib/containers/storage/overlay-containers/containers.json', [{ id: id('6'), names: ['db'] }]);
    write(`run/containerd/io.containerd.runtime.v2.task/default/${id('7')}/config.json`, {
      annotations: { 'nerdctl/name': 'cache' },
    });
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  it.each([
    ['Docker', `docker-${id('1')}.scope`, 'web'],
    ['Docker, cgroupfs driver', id('1'), 'web'],
    ['Compose', `docker-${id('2')}.scope`, 'shop-api'],
    ['Swarm', `docker-${id('3')}.scope`, 'front'],
    ['Docker, broken file', `docker-${id('4')}.scope`, '444444444444'],
    ['Docker, hostile name', `docker-${id('5')}.scope`, 'a\uFFFD\uFFFDb'],
    ['Podman', `libpod-${id('6')}.scope`, 'db'],
    ['containerd', `nerdctl-${id('7')}.scope`, 'cache'],
    ['unknown', `docker-${id('8')}.scope`, '888888888888'],
    ['LXC', 'lxc.payload.web1', 'web1'],
  ])('%s', (_, leaf, expected) => {
    const identity = createHostIdentity({ cgroup, proc, root });
    expect(identity.local(owner({ path: [leaf] }))).toEqual({
      name: expected,
      kind: 'Container',
      namespace: '',
    });
  });
});
