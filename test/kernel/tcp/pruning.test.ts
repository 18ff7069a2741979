// Idle edges and owners leave the kernel's tables, and nothing that happens meanwhile is lost.
import { afterEach, beforeAll, expect, test } from 'vitest';
import { buildPeer, endPeers, Probe, runClient, startPeer } from './harness.ts';

beforeAll(buildPeer);
afterEach(endPeers);

const IDLE = 300_001;

/** Ids of the table's edges whose local end is this process. */
function edgesOf(probe: Probe, name: string): number[] {
  const { table } = probe.core;
  const batch = table.read();
  return [...batch.ids].filter((id, i) => {
    const owner = table.owner(table.key(id, batch.values, i * batch.stride).owner);
    return owner !== undefined && Buffer.from(owner.comm).toString() === name;
  });
}

test('an edge goes five minutes after its last connection, and comes back with the next', async () => {
  const probe = new Probe();
  try {
    const server = await startPeer(['serve', 'knp-prune-s', '127.0.0.1', 21501, 1]);
    const dial = () => runClient(['knp-prune-c', '127.0.0.1', 21501, 7, 1000, 10, 'client', 1]);
    await dial();
    probe.collect();
    const [first] = edgesOf(probe, 'knp-prune-c');
    expect(first).toBeDefined();
    probe.collect(IDLE - 2000);
    expect(edgesOf(probe, 'knp-prune-c')).toEqual([first]);
    probe.collect(IDLE); // takes the key away
    expect(edgesOf(probe, 'knp-prune-c')).toEqual([first]);
    await dial(); // between the steps: a new edge
    probe.collect(); // takes the old edge away
    const after = edgesOf(probe, 'knp-prune-c');
    expect(after).toHaveLength(1);
    expect(after).not.toContain(first);
    // The series had expired with the edge; what came after counts from nothing.
    expect(probe.sum('knp.tcp.sent_bytes', { reporter: 'client', client_workload: 'knp-prune-c' })).toBe(
      7000,
    );
    // The listener is idle too, but its socket is there.
    expect(edgesOf(probe, 'knp-prune-s').length).toBeGreaterThan(0);
    await server.end();
  } finally {
    probe.close();
  }
});

test('an edge with an open connection stays, however idle, and so do its series', async () => {
  const probe = new Probe();
  try {
    const server = await startPeer(['serve', 'knp-stay-s', '127.0.0.1', 21502, 0]);
    const hold = await startPeer(['hold', 'knp-stay-c', '127.0.0.1', 21502, 2, 1000, 10]);
    await hold.exchange();
    for (let i = 0; i < 4; i++) probe.collect(IDLE);
    const labels = { reporter: 'client', client_workload: 'knp-stay-c' };
    expect(probe.sum('knp.tcp.connections', labels)).toBe(2);
    expect(probe.sum('knp.tcp.sent_bytes', labels)).toBe(2000);
    await hold.exchange();
    probe.collect();
    expect(probe.sum('knp.tcp.sent_bytes', labels)).toBe(4000);
    await hold.end();
    await server.end();
  } finally {
    probe.close();
  }
});

test('an owner goes when no edge names it any more', async () => {
  const probe = new Probe();
  try {
    await runClient(['knp-owner-c', '127.0.0.1', 21503, 3, 17, 0, 'client', 1]); // refused: an edge all the same
    probe.collect();
    const owners = () =>
      [
        ...probe.core.loaded
          .map('owners')
          .readAll()
          .values.toString('latin1')
          .matchAll(/knp-owner-c/g),
      ].length;
    expect(owners()).toBeGreaterThan(0);
    for (let i = 0; i < 5; i++) probe.collect(IDLE);
    expect(owners()).toBe(0);
    await runClient(['knp-owner-c', '127.0.0.1', 21503, 3, 17, 0, 'client', 1]);
    probe.collect();
    expect(probe.sum('knp.tcp.connect_failures', { client_workload: 'knp-owner-c', reason: 'refused' })).toBe(
      3,
    );
  } finally {
    probe.close();
  }
});
