// How often programs run for one connection: what is attached to its life costs most where connections are short.
import { afterEach, beforeAll, expect, test } from 'vitest';
import type { LoadedProbe } from '../../../exporter/kernel/loader.ts';
import { enableBpfStats } from '../../../exporter/kernel/native.ts';
import { nativeOnly } from '../../guests/scale.ts';
import { endAll, Probe as HttpProbe, Nginx, run } from '../http/harness.ts';
import { buildPeer, endPeers, Probe, runClient, scaled, startPeer } from '../tcp/harness.ts';

beforeAll(buildPeer);
afterEach(async () => {
  endPeers();
  await endAll();
});

const CONNECTIONS = scaled(1000, 100);

/** Asks once over each connection, in as few calls as it takes: send, receive, close. */
const CLIENT = `
import socket, sys
for _ in range(int(sys.argv[2])):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert s.recv(4096).endswith(b"hello\\n")
    s.close()
`;

/** Runs of all programs of these objects that are attached; walks are not of a connection. */
function runs(objects: readonly LoadedProbe[]): number {
  return objects
    .flatMap((loaded) => [...loaded.links.keys()].map((name) => [loaded, name] as const))
    .filter(([, name]) => !/walk|find_|conntrack/.test(name))
    .reduce((sum, [loaded, name]) => sum + loaded.program(name).info().runCount, 0);
}

/** Of a connect(): where fexit is refused, a program at its beginning is what sees that it failed at once. */
const runsOfConnect = (core: LoadedProbe) => (core.links.has('core_connect4_begins') ? 1 : 0);

/** Runs for each of the connections that `dial` makes. Others have some too: of the quietest of three rounds. */
async function runsEach(objects: readonly LoadedProbe[], dial: () => Promise<unknown>): Promise<number> {
  await dial();
  const rounds: number[] = [];
  for (let round = 0; round < 3; round++) {
    const before = runs(objects);
    await dial();
    rounds.push((runs(objects) - before) / CONNECTIONS);
  }
  return Math.min(...rounds);
}

test('a connection costs one run of each program per transition, and one per socket freed', async () => {
  using _stats = enableBpfStats();
  const probe = new Probe();
  try {
    const programs = [...probe.core.loaded.links.keys()].filter((name) => name.startsWith('core_state'));
    const destroyed = programs.filter((name) => name === 'core_state_destroyed').length;
    // Five transitions at each end; each socket is freed once.
    const expected = 10 * (programs.length - destroyed) + 2 * destroyed + runsOfConnect(probe.core.loaded);
    const server = await startPeer(['serve', 'knp-runs-s', '127.0.0.1', 21971, 1]);
    const dial = () => runClient(['knp-runs-c', '127.0.0.1', 21971, CONNECTIONS, 100, 100, 'client', 1]);
    const each = await runsEach([probe.core.loaded], dial);
    expect(each).toBeGreaterThan(expected * 0.98);
    expect(each).toBeLessThan(expected * 1.02);
    await server.end();
  } finally {
    probe.close();
  }
});

test('a connection with one HTTP request costs at most 29 runs at both ends: two for each transition, one for each socket freed; one more where fexit is refused', async (context) => {
  nativeOnly(context, 'counts what this kernel needs; others have other hooks');
  using _stats = enableBpfStats();
  const nginx = await Nginx.start('location / { return 200 "hello\\n"; }');
  const probe = new HttpProbe();
  try {
    const objects = [probe.core.loaded, probe.http.requests.loaded];
    const each = await runsEach(objects, () =>
      run('python3', ['-c', CLIENT, String(nginx.port), String(CONNECTIONS)]),
    );
    expect(each).toBeGreaterThan(20);
    expect(each).toBeLessThanOrEqual((29 + runsOfConnect(probe.core.loaded)) * 1.01);
    console.log(`runs of a connection with one request: ${each.toFixed(2)}`);
  } finally {
    probe.close();
    nginx.remove();
  }
});
