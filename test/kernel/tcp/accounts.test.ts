// Bytes and connections, exact, against the peers' own counts and `ss -ti`.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  buildPeer,
  endPeers,
  NOTHING_LOST,
  Probe,
  runClient,
  scaled,
  sh,
  ss,
  startPeer,
  TwoHosts,
} from './harness.ts';

beforeAll(buildPeer);
afterEach(endPeers);

/** Holds both reporters' series of a pair against what the peers say. */
function expectExact(
  probe: Probe,
  names: { client: string; server: string; port: number },
  client: { connections: number; sent: number; received: number },
): void {
  for (const reporter of ['client', 'server']) {
    const labels = {
      reporter,
      client_workload: names.client,
      server_workload: names.server,
      server_port: names.port,
    };
    const [sent, received] = reporter === 'client' ? ['sent', 'received'] : ['received', 'sent'];
    expect
      .soft(
        {
          connections: probe.sum('knp.tcp.connections_opened', labels),
          sent: probe.sum(`knp.tcp.${sent}_bytes` as 'knp.tcp.sent_bytes', labels),
          received: probe.sum(`knp.tcp.${received}_bytes` as 'knp.tcp.sent_bytes', labels),
        },
        `as the ${reporter} reports it`,
      )
      .toEqual({ connections: client.connections, sent: client.sent, received: client.received });
  }
}

describe('short connections, opened and closed as fast as the machine can', () => {
  test.each([
    ['client', 21001],
    ['server', 21002],
    ['reset', 21003],
  ])('closed by %s', async (close, port) => {
    const probe = new Probe();
    try {
      const names = { client: `knp-sc-${close}`, server: `knp-ss-${close}`, port };
      const server = await startPeer(['serve', names.server, '127.0.0.1', port, 4]);
      const client = await runClient([
        names.client,
        '127.0.0.1',
        port,
        scaled(20_000, 200),
        1000,
        500,
        close,
        4,
      ]);
      const served = await server.end();
      expect(served).toMatchObject({
        connections: client.connections,
        sent: client.received,
        received: client.sent,
      });
      expect(client.errors).toBe(0);
      probe.collect();
      expectExact(probe, names, client);
      expect(probe.sum('knp.tcp.connections', { server_workload: names.server })).toBe(0);
      expect(probe.lost()).toEqual(NOTHING_LOST);
      const resets = close === 'reset' ? client.connections : 0;
      const labels = { client_workload: names.client, server_workload: names.server };
      expect(probe.sum('knp.tcp.resets', { ...labels, reporter: 'client', direction: 'sent' })).toBe(resets);
      expect(probe.sum('knp.tcp.resets', { ...labels, reporter: 'server', direction: 'received' })).toBe(
        resets,
      );
    } finally {
      probe.close();
    }
  });

  test('walks in between change nothing', async () => {
    const probe = new Probe();
    try {
      const names = { client: 'knp-sc-walk', server: 'knp-ss-walk', port: 21004 };
      const server = await startPeer(['serve', names.server, '127.0.0.1', names.port, 4]);
      const load = [names.client, '127.0.0.1', names.port, scaled(20_000, 200), 3000, 7000, 'client', 4];
      const client = { connections: 0, sent: 0, received: 0 };
      // On a machine that is busy with other things one round may see few walks.
      for (let walks = 0; walks <= 10; ) {
        let over = false;
        const finished = runClient(load).finally(() => {
          over = true;
        });
        for (; !over; walks++) {
          probe.collect(1); // any more, and a slow machine's edges would seem idle for minutes
          await new Promise((resolve) => setImmediate(resolve));
        }
        const done = await finished;
        for (const what of ['connections', 'sent', 'received'] as const) client[what] += done[what];
      }
      await server.end();
      probe.collect();
      expectExact(probe, names, client);
      expect(probe.lost()).toEqual(NOTHING_LOST);
    } finally {
      probe.close();
    }
  });
});

describe('long transfers', () => {
  test.each([
    ['127.0.0.1', '127.0.0.1', 21011],
    ['::1', '::1', 21012],
    ['::', '127.0.0.1', 21013],
  ])('served on %s, dialled as %s', async (listen, dial, port) => {
    const probe = new Probe();
    try {
      const names = { client: `knp-lc-${port}`, server: `knp-ls-${port}`, port };
      const gigabytes = scaled(2 ** 31 + 12_345, 2 ** 20);
      const server = await startPeer(['serve', names.server, listen, port, 0]);
      const client = await runClient([names.client, dial, port, 2, gigabytes, gigabytes + 99, 'client', 2]);
      await server.end();
      probe.collect();
      expect(client.sent).toBe(2 * gigabytes);
      expectExact(probe, names, client);
    } finally {
      probe.close();
    }
  });

  test('open connections agree with ss -ti, and are open', async () => {
    const probe = new Probe();
    try {
      const names = { client: 'knp-hold-c', server: 'knp-hold-s', port: 21014 };
      const server = await startPeer(['serve', names.server, '127.0.0.1', names.port, 0]);
      const hold = await startPeer(['hold', names.client, '127.0.0.1', names.port, 20, 100_000, 70_000]);
      const labels = { reporter: 'client', client_workload: names.client };
      for (let round = 1; round <= 3; round++) {
        const client = await hold.exchange();
        probe.collect();
        const sockets = ss(`dport = :${names.port}`);
        expect(sockets).toHaveLength(20);
        const sent = sockets.reduce((n, s) => n + (s.bytes_sent ?? 0) - (s.bytes_retrans ?? 0), 0);
        const received = sockets.reduce((n, s) => n + (s.bytes_received ?? 0), 0);
        expect(probe.sum('knp.tcp.sent_bytes', labels)).toBe(sent);
        expect(probe.sum('knp.tcp.received_bytes', labels)).toBe(received);
        expect(sent).toBe(client.sent);
        expect(received).toBe(client.received);
        expect(probe.sum('knp.tcp.connections', labels)).toBe(20);
        expect(probe.sum('knp.tcp.connections_opened', labels)).toBe(20);
        // one observation for each socket that moved data since the last collection
        expect(probe.sum('knp.tcp.rtt', labels)).toBe(20 * round);
      }
      expect(probe.sum('knp.tcp.connect_duration', labels)).toBe(20);
      await hold.end();
      await server.end();
      probe.collect();
      expect(probe.sum('knp.tcp.connections', labels)).toBe(0);
    } finally {
      probe.close();
    }
  });

  test('connections that were open before the agent count from its start', async () => {
    const names = { client: 'knp-old-c', server: 'knp-old-s', port: 21015 };
    const server = await startPeer(['serve', names.server, '127.0.0.1', names.port, 0]);
    const hold = await startPeer(['hold', names.client, '127.0.0.1', names.port, 5, 50_000, 60_000]);
    const before = await hold.exchange();
    const probe = new Probe();
    try {
      for (const reporter of ['client', 'server']) {
        const labels = { reporter, client_workload: names.client, server_workload: names.server };
        expect(probe.sum('knp.tcp.connections', labels)).toBe(5);
        expect(probe.sum('knp.tcp.sent_bytes', labels)).toBe(0);
      }
      const after = await hold.exchange();
      probe.collect();
      await hold.end();
      const served = await server.end();
      probe.collect();
      expect(served.received).toBe(after.sent);
      const moved = {
        connections: 0,
        sent: after.sent - before.sent,
        received: after.received - before.received,
      };
      expect(moved.sent).toBe(250_000);
      expectExact(probe, names, moved);
      expect(probe.sum('knp.tcp.connections', { server_workload: names.server })).toBe(0);
    } finally {
      probe.close();
    }
  });
});

describe('between network namespaces', () => {
  let hosts: TwoHosts;
  beforeAll(() => {
    hosts = new TwoHosts(31);
  });
  afterAll(() => hosts.remove());

  test('IPv4 and IPv6, both ends by name, though neither address is the host’s own', async () => {
    const probe = new Probe();
    try {
      for (const [address, port] of [
        [hosts.addressB, 21021],
        [hosts.address6B, 21022],
      ] as const) {
        const names = { client: `knp-ns-c${port}`, server: `knp-ns-s${port}`, port };
        const server = await startPeer(['serve', names.server, address, port, 4], hosts.b);
        const client = await runClient(
          [names.client, address, port, scaled(2000, 50), 2000, 900, 'server', 4],
          hosts.a,
        );
        await server.end();
        probe.collect();
        expectExact(probe, names, client);
      }
    } finally {
      probe.close();
    }
  });

  test('ends joined through address translation know each other', async () => {
    const probe = new Probe();
    const port = 21023;
    try {
      sh(`
        ip -n ${hosts.a} route add 10.99.0.0/24 via ${hosts.addressB}
        ip netns exec ${hosts.a} nft -f - <<'RULES'
table ip knp {
  chain out {
    type nat hook output priority -100
    ip daddr 10.99.0.1 tcp dport 80 dnat to ${hosts.addressB}:${port}
  }
}
RULES`);
      const names = { client: 'knp-nat-c', server: 'knp-nat-s' };
      const server = await startPeer(['serve', names.server, hosts.addressB, port, 2], hosts.b);
      const client = await runClient([names.client, '10.99.0.1', 80, 500, 2000, 900, 'client', 2], hosts.a);
      await server.end();
      probe.collect();
      // What the client dialled is a port of its own; who answered is known all the same.
      const dialled = {
        reporter: 'client',
        client_workload: names.client,
        server_workload: names.server,
        server_port: 80,
      };
      const served = {
        reporter: 'server',
        client_workload: names.client,
        server_workload: names.server,
        server_port: port,
      };
      expect(probe.sum('knp.tcp.sent_bytes', dialled)).toBe(client.sent);
      expect(probe.sum('knp.tcp.received_bytes', served)).toBe(client.sent);
    } finally {
      probe.close();
    }
  });
});
