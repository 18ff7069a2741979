// Listening sockets: what they drop equals the kernel's own counter, what waits equals `ss`.
import { afterEach, beforeAll, expect, test } from 'vitest';
import { buildPeer, endPeers, nstat, Probe, sh, startPeer, TwoHosts } from './harness.ts';

beforeAll(buildPeer);
afterEach(endPeers);

const queue = (netns: string, port: number) =>
  (/LISTEN\s+(\d+)\s+(\d+)/.exec(sh(`ip netns exec ${netns} ss -ltnH sport = :${port}`)) ?? [])
    .slice(1)
    .map(Number);

test('drops of an overflowing listener equal nstat’s, its queue equals ss’s', async () => {
  const hosts = new TwoHosts(34);
  const probe = new Probe();
  try {
    // Cookies would let connections in that the full queue then drops again and again: same count, no fixed end.
    sh(
      `for n in ${hosts.a} ${hosts.b}; do ip netns exec $n sysctl -qw net.ipv4.tcp_syn_retries=1 net.ipv4.tcp_syncookies=0; done`,
    );
    const listener = await startPeer(['listen', 'knp-listen', hosts.addressB, 21201, 3], hosts.b);
    const flood = await startPeer(
      ['connect', 'knp-flood', hosts.addressB, 21201, 30, 17, 100, 'client', 30],
      hosts.a,
    );
    // The last attempts give up after 1 + 2 seconds. Others wait for an answer that never comes, and ask again at ever
    // longer intervals: it takes a moment in which nothing is dropped to compare.
    const dropped = () => nstat(['TcpExtListenDrops'], hosts.b).TcpExtListenDrops ?? 0;
    let drops = 0;
    do {
      await new Promise((resolve) => setTimeout(resolve, 4000));
      drops = dropped();
      probe.collect();
    } while (drops === 0 || drops !== dropped());
    const labels = { server_workload: 'knp-listen', server_port: 21201 };
    expect(probe.sum('knp.tcp.listen_drops', labels)).toBe(drops);
    const [backlog, limit] = queue(hosts.b, 21201);
    expect(backlog).toBe(4); // one more than the limit fits
    expect(limit).toBe(3);
    expect(probe.sum('knp.tcp.listen_backlog', labels)).toBe(backlog);
    expect(probe.sum('knp.tcp.listen_backlog_limit', labels)).toBe(limit);
    flood.process.kill('SIGKILL');
    await listener.end();
    probe.collect();
    expect(probe.sum('knp.tcp.listen_drops', labels)).toBe(dropped());
    expect(probe.sum('knp.tcp.listen_backlog', labels)).toBe(0);
    expect(probe.sum('knp.tcp.listen_backlog_limit', labels)).toBe(0);
  } finally {
    probe.close();
    hosts.remove();
  }
});

test('sockets that share a port through SO_REUSEPORT add up', async () => {
  const probe = new Probe();
  try {
    const servers = await Promise.all(
      [1, 2, 3].map(() => startPeer(['listen', 'knp-reuse', '127.0.0.1', 21202, 10])),
    );
    probe.collect();
    const labels = { server_workload: 'knp-reuse', server_port: 21202 };
    expect(probe.points('knp.tcp.listen_backlog_limit', labels)).toHaveLength(1);
    expect(probe.sum('knp.tcp.listen_backlog_limit', labels)).toBe(30);
    for (const server of servers) await server.end();
    probe.collect();
    expect(probe.sum('knp.tcp.listen_backlog_limit', labels)).toBe(0);
  } finally {
    probe.close();
  }
});
