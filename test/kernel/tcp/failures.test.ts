// What goes wrong with TCP connections: refusals, timeouts, unreachable hosts, resets, overflowing listeners. Held
// against what the test did, and against the kernel's own counters of a network namespace made for it.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { buildPeer, endPeers, nstat, Probe, runClient, sh, startPeer, TwoHosts } from './harness.ts';

let hosts: TwoHosts;
beforeAll(() => {
  buildPeer();
  hosts = new TwoHosts(32);
  // one SYN more after the first, so that a timeout takes 3 seconds
  sh(`ip netns exec ${hosts.a} sysctl -qw net.ipv4.tcp_syn_retries=1`);
});
afterEach(endPeers);
afterAll(() => hosts.remove());

describe('connects that fail', () => {
  test('refused: the port is closed', async () => {
    const probe = new Probe();
    try {
      const before = nstat(['TcpOutRsts'], hosts.b).TcpOutRsts ?? 0;
      const client = await runClient(['knp-refused', hosts.addressB, 21101, 50, 17, 0, 'client', 2], hosts.a);
      expect(client).toMatchObject({ refused: 50, connections: 0 });
      probe.collect();
      const labels = { reporter: 'client', client_workload: 'knp-refused', server_port: 21101 };
      expect(probe.sum('knp.tcp.connect_failures', { ...labels, reason: 'refused' })).toBe(50);
      expect(probe.sum('knp.tcp.connect_failures', labels)).toBe(50);
      expect(probe.sum('knp.tcp.connections_opened', labels)).toBe(0);
      expect(probe.sum('knp.tcp.resets', labels)).toBe(0);
      expect((nstat(['TcpOutRsts'], hosts.b).TcpOutRsts ?? 0) - before).toBe(50);
    } finally {
      probe.close();
    }
  });

  test('timed out: nobody answers', async () => {
    const probe = new Probe();
    try {
      sh(`ip -n ${hosts.a} neigh replace 10.213.32.99 lladdr 02:00:00:00:00:99 dev knpv32a`);
      const before = nstat(['TcpRetransSegs'], hosts.a).TcpRetransSegs ?? 0;
      const client = await runClient(['knp-timeout', '10.213.32.99', 21102, 8, 17, 0, 'client', 8], hosts.a);
      expect(client).toMatchObject({ timed_out: 8, connections: 0 });
      probe.collect();
      const labels = { reporter: 'client', client_workload: 'knp-timeout' };
      expect(probe.sum('knp.tcp.connect_failures', { ...labels, reason: 'timed_out' })).toBe(8);
      // a SYN sent again is a retransmitted segment, and no byte
      const again = (nstat(['TcpRetransSegs'], hosts.a).TcpRetransSegs ?? 0) - before;
      expect(again).toBeGreaterThanOrEqual(8);
      expect(probe.sum('knp.tcp.retransmitted_segments', labels)).toBe(again);
      expect(probe.sum('knp.tcp.sent_bytes', labels)).toBe(0);
    } finally {
      probe.close();
    }
  });

  test('unreachable: a router says so', async () => {
    const probe = new Probe();
    try {
      sh(`
        ip -n ${hosts.a} route replace 10.98.0.0/24 via ${hosts.addressB}
        ip netns exec ${hosts.b} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0
        ip -n ${hosts.b} route replace unreachable 10.98.0.0/24
      `);
      const client = await runClient(['knp-unreach', '10.98.0.1', 21103, 4, 17, 0, 'client', 1], hosts.a);
      // The kernel limits how often it says so; an attempt that hears nothing times out.
      expect(client.unreachable).toBeGreaterThan(0);
      expect(client.unreachable + client.timed_out).toBe(4);
      probe.collect();
      const labels = { reporter: 'client', client_workload: 'knp-unreach' };
      const failures = (reason: string) => probe.sum('knp.tcp.connect_failures', { ...labels, reason });
      expect(failures('unreachable')).toBe(client.unreachable);
      expect(failures('timed_out')).toBe(client.timed_out);
    } finally {
      probe.close();
    }
  });

  test('a socket that failed and then connects counts both', async () => {
    const probe = new Probe();
    try {
      const server = await startPeer(['serve', 'knp-retry-s', '127.0.0.1', 21105, 1]);
      const text = sh(`exec -a knp python3 - <<'PY'
import ctypes, socket
ctypes.CDLL(None).prctl(15, b"knp-retry-c")
s = socket.socket()
for port in (21104, 21105):
    try:
        s.connect(("127.0.0.1", port))
        print("connected")
    except ConnectionRefusedError:
        print("refused")
s.sendall((1017).to_bytes(8, "little") + (0).to_bytes(8, "little") + b"c" + bytes(1000))
s.close()
PY`);
      expect(text).toBe('refused\nconnected\n');
      expect((await server.end()).received).toBe(1017);
      probe.collect();
      const labels = { reporter: 'client', client_workload: 'knp-retry-c' };
      expect(
        probe.sum('knp.tcp.connect_failures', { ...labels, reason: 'refused', server_port: 21104 }),
      ).toBe(1);
      expect(probe.sum('knp.tcp.connections_opened', { ...labels, server_port: 21105 })).toBe(1);
      expect(probe.sum('knp.tcp.sent_bytes', { ...labels, server_port: 21105 })).toBe(1017);
      expect(probe.sum('knp.tcp.connections', labels)).toBe(0);
    } finally {
      probe.close();
    }
  });
});

test('every reset that a namespace sends is counted, with or without a socket', async () => {
  const other = new TwoHosts(33);
  const probe = new Probe();
  try {
    const server = await startPeer(['serve', 'knp-rst-s', other.addressB, 21106, 2], other.b);
    await runClient(['knp-rst-c', other.addressB, 21106, 40, 500, 500, 'reset', 2], other.a);
    await runClient(['knp-rst-c', other.addressB, 21107, 30, 500, 500, 'client', 2], other.a);
    await server.end();
    probe.collect();
    const fromClient = probe.sum('knp.tcp.resets', {
      reporter: 'client',
      client_workload: 'knp-rst-c',
      direction: 'sent',
    });
    expect(fromClient).toBe(40);
    expect(nstat(['TcpOutRsts'], other.a).TcpOutRsts).toBe(40);
    expect(nstat(['TcpOutRsts'], other.b).TcpOutRsts).toBe(30);
  } finally {
    probe.close();
    other.remove();
  }
});
