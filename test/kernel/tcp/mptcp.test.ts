// MPTCP, which every server in Go listens with since Go 1.24: the same as TCP, while it lives and afterwards.
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { buildPeer, endPeers, Probe, type Protocol, sh, startPeer, TwoHosts } from './harness.ts';

beforeAll(buildPeer);
afterEach(endPeers);

/** Before that the kernel does not say what an MPTCP connection has moved: docs/kernel-support.md. */
const followed = new KernelFeatures().missing('kernel:6.5') === undefined;

/** What both ends report of the connections to a port, in the client's order. */
function reported(probe: Probe, port: number, workloads: { client?: string; server?: string } = {}) {
  return Object.fromEntries(
    (['client', 'server'] as const).map((reporter) => {
      const labels = {
        reporter,
        server_port: port,
        ...(workloads.client && { client_workload: workloads.client }),
        ...(workloads.server && { server_workload: workloads.server }),
      };
      const [up, down] =
        reporter === 'client' ? (['sent', 'received'] as const) : (['received', 'sent'] as const);
      return [
        reporter,
        {
          opened: probe.sum('knp.tcp.connections_opened', labels),
          open: probe.sum('knp.tcp.connections', labels),
          up: probe.sum(`knp.tcp.${up}_bytes`, labels),
          down: probe.sum(`knp.tcp.${down}_bytes`, labels),
        },
      ];
    }),
  );
}

const both = (values: { opened: number; open: number; up: number; down: number }) => ({
  client: values,
  server: values,
});

const UP = 100_000;
const DOWN = 200_000;

test.runIf(followed)(
  'a listener of MPTCP says while it lives what waits, what fits and what it dropped',
  async () => {
    const hosts = new TwoHosts(36);
    const probe = new Probe();
    try {
      sh(
        `for n in ${hosts.a} ${hosts.b}; do ip netns exec $n sysctl -qw net.ipv4.tcp_syn_retries=1 net.ipv4.tcp_syncookies=0; done`,
      );
      await startPeer(['listen', 'knp-mplisten', hosts.addressB, 21301, 3], hosts.b, 'mptcp');
      await startPeer(['connect', 'knp-mpflood', hosts.addressB, 21301, 10, 17, 100, 'client', 10], hosts.a);
      /** The socket's own count: an acknowledgement that finds the queue full is in it twice, in nstat's once. */
      const dropped = () =>
        Number(/skmem:.*,d(\d+)\)/.exec(sh(`ip netns exec ${hosts.b} ss -ltnmH sport = :21301`))?.[1]);
      let drops = 0;
      do {
        await new Promise((resolve) => setTimeout(resolve, 4000));
        drops = dropped();
        probe.collect();
      } while (drops === 0 || drops !== dropped());
      const labels = { server_workload: 'knp-mplisten', server_port: 21301 };
      const queue =
        /LISTEN\s+(\d+)\s+(\d+)/.exec(sh(`ip netns exec ${hosts.b} ss -ltnH sport = :21301`)) ?? [];
      expect(queue.slice(1)).toEqual(['4', '3']); // one more than the limit fits
      expect({
        backlog: probe.sum('knp.tcp.listen_backlog', labels),
        limit: probe.sum('knp.tcp.listen_backlog_limit', labels),
        drops: probe.sum('knp.tcp.listen_drops', labels),
      }).toEqual({ backlog: 4, limit: 3, drops });
    } finally {
      probe.close();
      hosts.remove();
    }
  },
);

const PAIRS: [Protocol, Protocol, number][] = [
  ['mptcp', 'tcp', 21302],
  ['tcp', 'mptcp', 21303],
  ['mptcp', 'mptcp', 21304],
];

describe.runIf(followed)('connections count while they are open, at both ends', () => {
  test.each(PAIRS)('a server of %s, clients of %s', async (serves, asks, port) => {
    const probe = new Probe();
    try {
      const names = { client: `knp-mpc-${port}`, server: `knp-mps-${port}` };
      const server = await startPeer(['serve', names.server, '127.0.0.1', port, 0], undefined, serves);
      const client = await startPeer(['hold', names.client, '127.0.0.1', port, 3, UP, DOWN], undefined, asks);
      await client.exchange();
      probe.collect();
      const moved = { opened: 3, up: 3 * UP, down: 3 * DOWN };
      expect(reported(probe, port, names)).toEqual(both({ ...moved, open: 3 }));
      await client.exchange();
      await client.end();
      await server.end();
      probe.collect();
      expect(reported(probe, port, names)).toEqual(both({ ...moved, up: 6 * UP, down: 6 * DOWN, open: 0 }));
    } finally {
      probe.close();
    }
  });
});

test.runIf(followed)(
  'of several paths under one connection each byte counts once, and the connection once',
  async () => {
    const hosts = new TwoHosts(37);
    const probe = new Probe();
    try {
      sh(`
      for n in ${hosts.a} ${hosts.b}; do ip -n $n mptcp limits set subflows 4 add_addr_accepted 4; done
      ip -n ${hosts.a} addr add 10.214.37.1/32 dev lo
      ip -n ${hosts.b} route add 10.214.37.1/32 via ${hosts.addressA}
      ip -n ${hosts.a} mptcp endpoint add 10.214.37.1 subflow
    `);
      const names = { client: 'knp-mppathc', server: 'knp-mppaths' };
      const server = await startPeer(['serve', names.server, hosts.addressB, 21305, 0], hosts.b, 'mptcp');
      const client = await startPeer(
        ['hold', names.client, hosts.addressB, 21305, 1, 4_000_000, 6_000_000],
        hosts.a,
        'mptcp',
      );
      await client.exchange(); // once it moves data the second path is made
      const paths = () =>
        sh(`ip netns exec ${hosts.a} ss -tnH state established dst ${hosts.addressB} dport = :21305`)
          .trim()
          .split('\n');
      while (paths().length < 2) await new Promise((resolve) => setTimeout(resolve, 50));
      await client.exchange();
      probe.collect();
      expect(reported(probe, 21305)).toEqual(both({ opened: 1, open: 1, up: 8_000_000, down: 12_000_000 }));
      await client.end();
      await server.end();
      probe.collect();
      expect(reported(probe, 21305, names)).toEqual(
        both({ opened: 1, open: 0, up: 8_000_000, down: 12_000_000 }),
      );
      expect(reported(probe, 21305)).toEqual(both({ opened: 1, open: 0, up: 8_000_000, down: 12_000_000 }));
    } finally {
      probe.close();
      hosts.remove();
    }
  },
);

test.runIf(followed)(
  'a server of MPTCP that was there before the agent: what it had, and what it accepts',
  async () => {
    const port = 21306;
    const names = { client: 'knp-mpoldc', server: 'knp-mpolds' };
    await startPeer(['serve', names.server, '127.0.0.1', port, 0], undefined, 'mptcp');
    const old = await startPeer(['hold', names.client, '127.0.0.1', port, 2, UP, DOWN], undefined, 'mptcp');
    await old.exchange();
    const probe = new Probe();
    try {
      expect(reported(probe, port, names)).toEqual(both({ opened: 0, open: 2, up: 0, down: 0 }));
      expect(
        probe.sum('knp.tcp.listen_backlog_limit', { server_workload: names.server, server_port: port }),
      ).toBe(4096);
      await old.exchange();
      const plain = await startPeer(['hold', names.client, '127.0.0.1', port, 3, UP, DOWN]);
      await plain.exchange();
      const multi = await startPeer(
        ['hold', names.client, '127.0.0.1', port, 4, UP, DOWN],
        undefined,
        'mptcp',
      );
      await multi.exchange();
      probe.collect();
      expect(reported(probe, port, names)).toEqual(both({ opened: 7, open: 9, up: 9 * UP, down: 9 * DOWN }));
    } finally {
      probe.close();
    }
  },
);

test.runIf(!followed)(
  'where the kernel does not say what passes, each end of a connection is a counted loss',
  async () => {
    const port = 21307;
    const probe = new Probe();
    try {
      await startPeer(['serve', 'knp-mp61s', '127.0.0.1', port, 0], undefined, 'mptcp');
      const client = await startPeer(
        ['hold', 'knp-mp61c', '127.0.0.1', port, 3, UP, DOWN],
        undefined,
        'mptcp',
      );
      await client.exchange();
      await client.end();
      probe.collect();
      expect(probe.lost().mptcp_payload).toBe(6);
      expect(reported(probe, port)).toEqual(both({ opened: 3, open: 0, up: 3 * UP, down: 3 * DOWN }));
    } finally {
      probe.close();
    }
  },
);
