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

/** Connects in each way that fails; prints what each attempt was told, by port. */
const ATTEMPTS = `
import collections, ctypes, errno, json, select, socket
ctypes.CDLL(None).prctl(15, b"knp-at-once")
V4, V6 = socket.AF_INET, socket.AF_INET6
told = collections.defaultdict(collections.Counter)
def attempt(port, address, family, blocking, s=None):
    s = s or socket.socket(family)
    s.setblocking(blocking)
    try: s.connect((address, port)); error = 0
    except OSError as e: error = e.errno
    if error == errno.EINPROGRESS:
        select.select([], [s], [])
        error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    told[port][errno.errorcode.get(error, 'OK')] += 1
    return s
PLACES = [
    (21110, V4, '10.99.1.1'), (21111, V6, 'fd99:1::1'), (21112, V4, '10.99.2.1'), (21113, V6, 'fd99:2::1'),
    (21114, V4, '10.99.3.1'), (21115, V6, 'fd99:3::1'), (21116, V4, '198.51.100.1'), (21117, V6, '2001:db8::1'),
    (21118, V6, '::ffff:10.99.2.1'),
]
for blocking in (True, False):
    for port, family, address in PLACES:
        for _ in range(5): attempt(port, address, family, blocking).close()
# one socket, many attempts: each counts
again = socket.socket()
for _ in range(5): attempt(21119, '10.99.1.1', V4, True, again)
for _ in range(2): attempt(21120, '127.0.0.1', V4, True, again)
for _ in range(3): attempt(21121, '10.99.3.1', V4, False, again)
again.close()
# one port is left for all connections to a server
open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40000 40000')
for port, family, address in ((21122, V4, '127.0.0.1'), (21123, V6, '::1')):
    listener = socket.create_server((address, port), family=family)
    held = [attempt(port, address, family, i % 2 == 0) for i in range(5)]
open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('32768 60999')
# given up before an answer comes
for blocking in (True, False):
    for _ in range(4):
        s = socket.socket()
        s.settimeout(0.05 if blocking else 0)
        try: s.connect(('10.213.34.99', 21124))
        except (TimeoutError, BlockingIOError): told[21124]['given up'] += 1
        s.close()
print(json.dumps(told))
`;

/** What the reason says of what the process was told. */
const REASONS: Readonly<Record<string, string>> = {
  EHOSTUNREACH: 'unreachable',
  EINVAL: 'invalid',
  EACCES: 'prohibited',
  ENETUNREACH: 'no_route',
  ECONNREFUSED: 'refused',
  EADDRNOTAVAIL: 'address_unavailable',
  'given up': 'cancelled',
};

test('connects that fail before any SYN count, each with what the process was told', (context) => {
  const other = new TwoHosts(34);
  const probe = new Probe();
  try {
    const hooks = probe.core.loaded.choices.find(({ purpose }) => purpose === 'connects that fail at once');
    if (hooks?.programs.length === 0)
      context.skip('this kernel has neither fexit nor task work for BPF programs');
    sh(`
      ip -n ${other.a} neigh replace 10.213.34.99 lladdr 02:00:00:00:00:99 dev knpv34a
      for kind in 1:unreachable 2:blackhole 3:prohibit; do
        ip -n ${other.a} route add \${kind#*:} 10.99.\${kind%%:*}.0/24
        ip -n ${other.a} -6 route add \${kind#*:} fd99:\${kind%%:*}::/64
      done
    `);
    const text = sh(`ip netns exec ${other.a} python3 - <<'PY'\n${ATTEMPTS}PY`);
    const told = JSON.parse(text) as Record<string, Record<string, number>>;
    probe.collect();
    const expected = Object.fromEntries(
      Object.entries(told).map(([port, errors]) => [
        port,
        Object.fromEntries(
          Object.entries(errors).flatMap(([error, n]) =>
            error === 'OK' ? [] : [[REASONS[error] ?? error, n]],
          ),
        ),
      ]),
    );
    const counted: Record<string, Record<string, number>> = {};
    const labels = { reporter: 'client', client_workload: 'knp-at-once' };
    for (const { labels: text, value } of probe.points('knp.tcp.connect_failures', labels)) {
      const label = (name: string) => new RegExp(`(?:^|,)${name}="([^"]*)"`).exec(text)?.[1] ?? '';
      const port = label('server_port');
      if (value > 0) counted[port] = { ...counted[port], [label('reason')]: value };
    }
    expect(counted).toEqual(expected);
    // every kind has failed as it should, or the comparison says little
    expect(Object.values(expected).map((reasons) => Object.entries(reasons).flat().join(' '))).toEqual([
      ...['unreachable 10', 'unreachable 10', 'invalid 10', 'invalid 10', 'prohibited 10', 'prohibited 10'],
      ...['no_route 10', 'no_route 10', 'invalid 10', 'unreachable 5', 'refused 2', 'prohibited 3'],
      ...['address_unavailable 4', 'address_unavailable 4', 'cancelled 8'],
    ]);
    expect(probe.sum('knp.tcp.connections_opened', labels)).toBe(2);
    expect(probe.lost()).toMatchObject({ connect_result: 0 });
  } finally {
    probe.close();
    other.remove();
  }
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
