// What the far end of an edge is called when it is not on this host: a named range, or `external`. The far ends here are
// closed ports in a network namespace, so no socket gives them a name.
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { buildPeer, endPeers, Probe, runClient, TwoHosts } from './harness.ts';

let hosts: TwoHosts;
beforeAll(() => {
  buildPeer();
  hosts = new TwoHosts(36);
});
afterEach(endPeers);
afterAll(() => hosts.remove());

const dial = (name: string, address: string, port: number) =>
  runClient([name, address, port, 3, 17, 0, 'client', 1], hosts.a);

test('named ranges keep their name, the longest prefix wins, everything else is external', async () => {
  const probe = new Probe({
    identity: {
      ranges: [
        { name: 'lab', cidr: '10.213.36.0/24' },
        { name: 'bench', cidr: '10.213.36.2/32' },
        { name: 'lab6', cidr: 'fd13:36::/64' },
      ],
    },
  });
  try {
    const failed = (labels: Record<string, string | number>) =>
      probe.sum('knp.tcp.connect_failures', { reporter: 'client', reason: 'refused', ...labels });
    await dial('knp-cidr', hosts.addressB, 21601);
    await dial('knp-cidr6', hosts.address6B, 21602);
    probe.collect();
    expect(failed({ client_workload: 'knp-cidr', server_workload: 'bench', server_kind: 'CIDR' })).toBe(3);
    expect(failed({ client_workload: 'knp-cidr6', server_workload: 'lab6', server_port: 21602 })).toBe(3);
  } finally {
    probe.close();
  }
});

test('outside all ranges there is one edge per port, however many addresses', async () => {
  const probe = new Probe();
  try {
    await dial('knp-ext', hosts.addressB, 21603);
    await dial('knp-ext', hosts.addressB, 21604);
    await dial('knp-ext', hosts.address6B, 21603);
    probe.collect();
    const labels = { client_workload: 'knp-ext', server_workload: 'external', server_kind: 'External' };
    expect(probe.sum('knp.tcp.connect_failures', { ...labels, server_port: 21603 })).toBe(6);
    expect(probe.sum('knp.tcp.connect_failures', { ...labels, server_port: 21604 })).toBe(3);
    expect(probe.points('knp.tcp.connect_failures', { ...labels, reason: 'refused' })).toHaveLength(2);
  } finally {
    probe.close();
  }
});
