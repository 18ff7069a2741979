// How often programs run for one connection: what is attached to its life costs most where connections are short.
import { afterEach, beforeAll, expect, test } from 'vitest';
import { enableBpfStats } from '../../../exporter/kernel/native.ts';
import { buildPeer, endPeers, Probe, runClient, startPeer } from '../tcp/harness.ts';

beforeAll(buildPeer);
afterEach(endPeers);

const CONNECTIONS = 1000;

/** Runs of all programs that the loader attached; walks are not of a connection. */
function runs(probe: Probe): number {
  const { loaded } = probe.core;
  return [...loaded.links.keys()]
    .filter((name) => !/walk|find_|conntrack/.test(name))
    .reduce((sum, name) => sum + loaded.program(name).info().runCount, 0);
}

test('a connection costs one run of each program per transition, and one per socket freed', async () => {
  using _stats = enableBpfStats();
  const probe = new Probe();
  try {
    const programs = [...probe.core.loaded.links.keys()].filter((name) => name.startsWith('core_state'));
    // Five transitions at each end; each socket is freed once.
    const expected = 10 * (programs.length - 1) + 2;
    const server = await startPeer(['serve', 'knp-runs-s', '127.0.0.1', 21971, 1]);
    const dial = () => runClient(['knp-runs-c', '127.0.0.1', 21971, CONNECTIONS, 100, 100, 'client', 1]);
    await dial();
    // Others have connections too: the quietest of three rounds.
    const rounds: number[] = [];
    for (let round = 0; round < 3; round++) {
      const before = runs(probe);
      await dial();
      rounds.push((runs(probe) - before) / CONNECTIONS);
    }
    expect(Math.min(...rounds)).toBeGreaterThan(expected * 0.98);
    expect(Math.min(...rounds)).toBeLessThan(expected * 1.02);
    await server.end();
  } finally {
    probe.close();
  }
});
