// The kernel may leave a program out where it is running already (docs/design.md, nested events). Connections whose
// beginning nobody saw must count all the same, and say so: here the programs are detached at that moment.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { KernelFeatures } from '../../../exporter/kernel/features.ts';
import type { BpfLink } from '../../../exporter/kernel/native.ts';
import { buildPeer, endPeers, type Peer, Probe, runClient, sh, ss, startPeer, TwoHosts } from './harness.ts';

/** As on Linux 7, where a program makes up for what all the others have missed. */
const { release } = new KernelFeatures();
const features = new KernelFeatures({ release: () => (release.startsWith('7.') ? release : '7.0.0') });

let hosts: TwoHosts;
beforeAll(() => {
  buildPeer();
  hosts = new TwoHosts(36);
});
afterEach(endPeers);
afterAll(() => hosts.remove());

/** Takes the programs that see a connection begin and end away; what it answers puts them back. */
function detachState(probe: Probe): () => BpfLink[] {
  const { loaded } = probe.core;
  const names = [...loaded.links.keys()].filter((name) => name.startsWith('core_state'));
  expect(names.length).toBeGreaterThan(1);
  for (const name of names) loaded.links.get(name)?.close();
  return () => names.map((name) => loaded.program(name).attach());
}

const pair = (reporter: string) => ({ reporter, server_workload: 'knp-missed-s' });

async function exchangeTwice(hold: Peer): Promise<void> {
  await hold.exchange();
  await hold.end();
}

test('a server’s connections, seen only when they end', async () => {
  const probe = new Probe({ features });
  try {
    const server = await startPeer(['serve', 'knp-missed-s', '127.0.0.1', 21901, 4]);
    const attach = detachState(probe);
    const hold = await startPeer(['hold', 'knp-missed-c', '127.0.0.1', 21901, 3, 1000, 700]);
    const links = attach();
    await exchangeTwice(hold);
    const served = await server.end();
    probe.collect();
    expect(served.connections).toBe(3);
    expect(probe.sum('knp.tcp.connections_opened', { ...pair('server'), server_port: 21901 })).toBe(3);
    expect(probe.sum('knp.tcp.received_bytes', { ...pair('server'), server_port: 21901 })).toBe(
      served.received,
    );
    expect(probe.sum('knp.tcp.sent_bytes', { ...pair('server'), server_port: 21901 })).toBe(served.sent);
    expect(probe.sum('knp.tcp.connections', pair('server'))).toBe(0);
    expect(probe.lost().established).toBe(3);
    for (const link of links) link.close();
  } finally {
    probe.close();
  }
});

test('a client’s connection is no failed one', async () => {
  const probe = new Probe({ features });
  try {
    const server = await startPeer(['serve', 'knp-missed-s', hosts.addressB, 21902, 1], hosts.b);
    // The first SYN goes to nobody, so that there is time between it and the connection.
    sh(`ip -n ${hosts.a} neigh replace ${hosts.addressB} lladdr 02:00:00:00:00:99 dev knpv36a`);
    const starting = startPeer(['hold', 'knp-missed-c', hosts.addressB, 21902, 1, 1000, 700], hosts.a);
    const connecting = () => ss('state syn-sent dport = :21902', hosts.a).length;
    while (connecting() === 0) await sleep(5);
    const attach = detachState(probe);
    sh(`ip -n ${hosts.a} neigh del ${hosts.addressB} dev knpv36a`);
    const hold = await starting;
    const links = attach();
    await exchangeTwice(hold);
    const served = await server.end();
    probe.collect();
    const labels = { reporter: 'client', client_workload: 'knp-missed-c', server_port: 21902 };
    expect(probe.sum('knp.tcp.connect_failures', labels)).toBe(0);
    expect(probe.sum('knp.tcp.connections_opened', labels)).toBe(1);
    expect(probe.sum('knp.tcp.sent_bytes', labels)).toBe(served.received);
    expect(probe.sum('knp.tcp.received_bytes', labels)).toBe(served.sent);
    expect(probe.lost().established).toBe(2); // both ends
    // That neither was seen to begin does not keep them from knowing each other.
    for (const reporter of ['client', 'server'])
      expect(
        probe.sum('knp.tcp.connections_opened', {
          reporter,
          client_workload: 'knp-missed-c',
          server_workload: 'knp-missed-s',
          server_port: 21902,
        }),
      ).toBe(1);
    for (const link of links) link.close();
  } finally {
    probe.close();
  }
});

/** Takes away the programs that see transitions; the one that sees sockets freed stays. */
function detachTransitions(probe: Probe): void {
  const names = [...probe.core.loaded.links.keys()].filter((name) => /^core_state(_backup\d*)?$/.test(name));
  expect(names.length).toBeGreaterThan(0);
  for (const name of names) probe.core.loaded.links.get(name)?.close();
}

test('ends that nobody saw count when the sockets are freed', async () => {
  const probe = new Probe({ features });
  try {
    const server = await startPeer(['serve', 'knp-missed-s', '127.0.0.1', 21903, 4]);
    const hold = await startPeer(['hold', 'knp-missed-c', '127.0.0.1', 21903, 3, 1000, 700]);
    await hold.exchange();
    detachTransitions(probe);
    await exchangeTwice(hold);
    const served = await server.end();
    probe.collect();
    for (const reporter of ['client', 'server']) {
      const labels = { reporter, client_workload: 'knp-missed-c', server_workload: 'knp-missed-s' };
      const [sent, received] = reporter === 'server' ? ['sent', 'received'] : ['received', 'sent'];
      expect(probe.sum(`knp.tcp.${sent}_bytes` as 'knp.tcp.sent_bytes', labels)).toBe(served.sent);
      expect(probe.sum(`knp.tcp.${received}_bytes` as 'knp.tcp.sent_bytes', labels)).toBe(served.received);
      expect(probe.sum('knp.tcp.connections_opened', labels)).toBe(3);
      expect(probe.sum('knp.tcp.connections', labels)).toBe(0);
    }
    expect(probe.lost().established).toBe(0);
  } finally {
    probe.close();
  }
});

test('connections of which neither beginning nor end was seen at the server', async () => {
  const probe = new Probe({ features });
  try {
    const server = await startPeer(['serve', 'knp-missed-s', '127.0.0.1', 21904, 4]);
    detachTransitions(probe);
    await runClient(['knp-missed-c', '127.0.0.1', 21904, 5, 1000, 700, 'client', 1]);
    const served = await server.end();
    probe.collect();
    const labels = { ...pair('server'), server_port: 21904 };
    expect(probe.sum('knp.tcp.connections_opened', labels)).toBe(5);
    expect(probe.sum('knp.tcp.received_bytes', labels)).toBe(served.received);
    expect(probe.sum('knp.tcp.sent_bytes', labels)).toBe(served.sent);
    expect(probe.sum('knp.tcp.connections', labels)).toBe(0);
    expect(probe.lost().established).toBe(5);
  } finally {
    probe.close();
  }
});

test('a refusal that nobody saw is one all the same', async () => {
  const probe = new Probe({ features });
  try {
    sh(`ip -n ${hosts.a} neigh replace ${hosts.addressB} lladdr 02:00:00:00:00:99 dev knpv36a`);
    const client = runClient(['knp-missed-r', hosts.addressB, 21905, 1, 17, 0, 'client', 1], hosts.a);
    while (ss('state syn-sent dport = :21905', hosts.a).length === 0) await sleep(5);
    detachTransitions(probe);
    sh(`ip -n ${hosts.a} neigh del ${hosts.addressB} dev knpv36a`);
    expect((await client).refused).toBe(1);
    probe.collect();
    const labels = { client_workload: 'knp-missed-r', server_port: 21905 };
    expect(probe.sum('knp.tcp.connect_failures', { ...labels, reason: 'refused' })).toBe(1);
    expect(probe.sum('knp.tcp.connect_failures', labels)).toBe(1);
    expect(probe.sum('knp.tcp.connections', labels)).toBe(0);
  } finally {
    probe.close();
  }
});

test('a socket that is connected again after a refusal that nobody saw is a new connection', async () => {
  const probe = new Probe({ features });
  try {
    const server = await startPeer(['serve', 'knp-missed-s', hosts.addressB, 21907, 1], hosts.b);
    sh(`ip -n ${hosts.a} neigh replace ${hosts.addressB} lladdr 02:00:00:00:00:99 dev knpv36a`);
    const starting = startPeer(['again', 'knp-missed-a', hosts.addressB, 21906, 21907], hosts.a);
    while (ss('state syn-sent dport = :21906', hosts.a).length === 0) await sleep(5);
    const attach = detachState(probe);
    sh(`ip -n ${hosts.a} neigh del ${hosts.addressB} dev knpv36a`);
    const client = await starting;
    const links = attach();
    await client.exchange();
    await client.end();
    await server.end();
    probe.collect();
    const labels = { reporter: 'client', client_workload: 'knp-missed-a' };
    expect(probe.sum('knp.tcp.connections_opened', { ...labels, server_port: 21907 })).toBe(1);
    expect(probe.sum('knp.tcp.connections', labels)).toBe(0);
    // How the first attempt ended nobody can know any more, and that is said.
    expect(probe.lost().socket_unseen).toBe(1);
    for (const link of links) link.close();
  } finally {
    probe.close();
  }
});
