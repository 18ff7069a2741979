// A bad network: loss and delay made with netem, which not every kernel has (the guests do). Retransmits equal what the
// sockets themselves say, and round-trip times fall into the buckets where they belong.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { buildPeer, endPeers, Probe, scaled, sh, ss, startPeer, TwoHosts } from './harness.ts';

let hosts: TwoHosts;
let netem = false;

beforeAll(() => {
  buildPeer();
  hosts = new TwoHosts(35);
  try {
    sh(`
      ip netns exec ${hosts.a} tc qdisc add dev knpv35a root netem delay 20ms loss 2% limit 100000 2>/dev/null
      ip netns exec ${hosts.b} tc qdisc add dev knpv35b root netem loss 2% limit 100000
    `);
    netem = true;
  } catch {
    // no sch_netem in this kernel
  }
});
afterEach(endPeers);
afterAll(() => hosts.remove());

describe('2 % loss and 20 ms delay', () => {
  test('retransmits equal tcp_info, bytes count once, RTT stands in its buckets', async ({ skip }) => {
    if (!netem) skip('this kernel has no netem (CONFIG_NET_SCH_NETEM)');
    const probe = new Probe();
    try {
      const server = await startPeer(['serve', 'knp-lossy-s', hosts.addressB, 21401, 0], hosts.b);
      const sockets = 8;
      const up = scaled(3_000_000, 400_000);
      const hold = await startPeer(
        ['hold', 'knp-lossy-c', hosts.addressB, 21401, sockets, up, 200_000],
        hosts.a,
      );
      const done = await hold.exchange();
      // Quiet for longer than any retransmission or delayed acknowledgement may take.
      await new Promise((resolve) => setTimeout(resolve, 3000));
      probe.collect();
      const total = (infos: Record<string, number>[], field: string) =>
        infos.reduce((sum, info) => sum + (info[field] ?? 0), 0);
      // ss writes `retrans:NOW/TOTAL`; the parser keeps NOW, so the total is read apart.
      const retransmitted = (netns: string, filter: string) =>
        [...sh(`ip netns exec ${netns} ss -tinH ${filter}`).matchAll(/retrans:\d+\/(\d+)/g)].reduce(
          (sum, [, n]) => sum + Number(n),
          0,
        );
      for (const [reporter, netns, filter, sent] of [
        ['client', hosts.a, 'dport = :21401', done.sent],
        ['server', hosts.b, 'sport = :21401', done.received],
      ] as const) {
        const labels = { reporter, client_workload: 'knp-lossy-c', server_workload: 'knp-lossy-s' };
        const expected = retransmitted(netns, filter);
        expect(expected, `segments lost on the way from the ${reporter}`).toBeGreaterThan(0);
        expect(probe.sum('knp.tcp.retransmitted_segments', labels)).toBe(expected);
        const infos = ss(filter, netns);
        expect(probe.sum('knp.tcp.sent_bytes', labels)).toBe(sent);
        expect(total(infos, 'bytes_sent') - total(infos, 'bytes_retrans')).toBe(sent);
        expect(probe.sum('knp.tcp.out_of_order_segments', labels)).toBe(total(infos, 'rcv_ooopack'));
        const [rtt] = probe.points('knp.tcp.rtt', labels);
        expect(rtt?.value).toBe(sockets);
        const below20ms = [...(rtt?.counts ?? [])].slice(0, 7).reduce((sum, n) => sum + n, 0); // ≤ 10 ms
        expect(below20ms).toBe(0);
        // the histogram agrees with what each socket says of itself
        const bounds = probe.store.bounds('knp.tcp.rtt');
        const expectedCounts = new Array(bounds.length + 1).fill(0);
        for (const { rtt: millis = 0 } of infos) {
          const bucket = bounds.findIndex((bound) => millis / 1000 <= bound);
          expectedCounts[bucket < 0 ? bounds.length : bucket]++;
        }
        expect([...(rtt?.counts ?? [])]).toEqual(expectedCounts);
      }
      await hold.end();
      await server.end();
    } finally {
      probe.close();
    }
  });
});
