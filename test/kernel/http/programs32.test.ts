// 32-bit programs on a 64-bit kernel: what they send and receive is seen like everybody's, by whichever of their system calls.
import { afterAll, afterEach, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { buildPeer, peerPath } from '../peers/build.ts';
import { endAll, freePort, METHOD_STATUS_ROUTE, missingFor, PROVIDERS, Probe, start } from './harness.ts';

const PEER = peerPath('http_peer_32');
const COUNT = 30;

const WAYS = [
  'read',
  'readv',
  'recvfrom',
  'recvmsg',
  'recvmmsg',
  'socketcall-recv',
  'socketcall-recvfrom',
  'socketcall-recvmsg',
  'socketcall-recvmmsg',
];

const supported = process.arch === 'x64';

beforeAll(() => {
  if (supported) buildPeer('http_peer_32');
});
afterEach(endAll);

describe.each(PROVIDERS)('%s', (provider) => {
  let probe: Probe;
  const missing = supported ? missingFor(provider) : 'the peer is of i386';

  beforeAll(() => {
    if (missing === undefined) probe = new Probe({ http: { provider } });
  });
  afterAll(() => probe?.close());

  const test = (name: string, body: (context: TestContext) => Promise<void>): void => {
    it(name, async (context) => {
      if (missing !== undefined) context.skip(`no ${provider} provider: ${missing}`);
      await body(context);
    });
  };

  test('every request of a 32-bit client to a 32-bit server counts at both ends, none is lost', async () => {
    const before = await probe.lost();
    const ports = [];
    for (const way of WAYS) {
      const port = await freePort();
      await start(PEER, ['serve', String(port), way], /ready/);
      const client = await start(PEER, ['ask', String(port), way, String(COUNT)], /done/);
      if (client.exitCode === null) await new Promise((resolve) => client.once('close', resolve));
      expect(client.exitCode, way).toBe(0);
      const path = way.split('-').reverse().join('/');
      ports.push({ port, expected: { [`GET 204 /${path}`]: COUNT } });
    }
    for (const { port, expected } of ports) {
      const labels = { server_port: port };
      expect.soft(await probe.table('client', labels, METHOD_STATUS_ROUTE)).toEqual(expected);
      expect.soft(await probe.table('server', labels, METHOD_STATUS_ROUTE)).toEqual(expected);
    }
    expect(await probe.lost()).toEqual(before);
  });
});
