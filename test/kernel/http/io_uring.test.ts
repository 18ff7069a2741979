// What io_uring sends and receives for a process is counted exactly where a provider shows the kernel's own buffers,
// and is a counted loss where it does not: nothing is read from an address that only looks like a buffer.
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { buildPeer, peerPath } from '../peers/build.ts';
import { endAll, freePort, METHOD_STATUS_ROUTE, Probe, run, start } from './harness.ts';

const COUNT = 30;
const BODY = 400 * 'GET /trap HTTP/1.1\r\n\r\n'.length;
/** Exit code of the peer: this kernel has no such operation. */
const UNSUPPORTED = 77;
const PEER = peerPath('uring_peer');

let probe: Probe;

beforeAll(() => {
  buildPeer('uring_peer');
  probe = new Probe();
});
afterEach(endAll);
afterAll(() => probe?.close());

function requireIoUring(context: TestContext): void {
  try {
    const disabled = Number(readFileSync('/proc/sys/kernel/io_uring_disabled', 'utf8'));
    if (disabled === 2) context.skip('io_uring is disabled on this machine (kernel.io_uring_disabled)');
  } catch {
    // before Linux 6.6 it cannot be disabled; where it was not built, the peer says so
  }
}

/** Makes the requests; answers the port. */
async function traffic(context: TestContext, how: string): Promise<number> {
  requireIoUring(context);
  const port = await freePort();
  try {
    await start(PEER, ['serve', String(port), how], /ready/);
    await run(PEER, ['ask', String(port), how, String(COUNT)]);
  } catch (error) {
    if ((error as { code?: number }).code === UNSUPPORTED)
      context.skip(`this kernel's io_uring has no ${how}`);
    throw error;
  }
  return port;
}

async function counted(port: number): Promise<Record<'client' | 'server', Record<string, number>>> {
  const labels = { server_port: port };
  return {
    client: await probe.table('client', labels, METHOD_STATUS_ROUTE),
    server: await probe.table('server', labels, METHOD_STATUS_ROUTE),
  };
}

const grown = (before: Record<string, number>, after: Record<string, number>, name: string): number =>
  (after[name] ?? 0) - (before[name] ?? 0);

async function expectExact(port: number, how: string): Promise<void> {
  const expected = { [`POST 200 /${how}`]: COUNT };
  expect(await counted(port)).toEqual({ client: expected, server: expected });
  for (const side of ['client', 'server'] as const)
    for (const what of ['request', 'response'] as const) {
      const points = probe.points(`http.${side}.${what}.body.size`, { server_port: port });
      expect(
        points.reduce((total, point) => total + point.sum, 0),
        `${side} ${what}`,
      ).toBe(COUNT * BODY);
    }
}

async function expectNotShown(port: number, before: Record<string, number>): Promise<void> {
  expect(await counted(port)).toEqual({ client: {}, server: {} });
  // the connection of each end, once; other programs may add theirs
  expect(grown(before, await probe.lost(), 'lost_not_shown')).toBeGreaterThanOrEqual(2);
}

const HOWS = ['send', 'message', 'write', 'vector', 'worker', 'poller', 'multishot', 'zerocopy'];

describe('by io_uring', () => {
  for (const how of HOWS)
    it(how, async (context) => {
      const before = await probe.lost();
      const port = await traffic(context, how);
      if (probe.seesIoUring) await expectExact(port, how);
      else await expectNotShown(port, before);
    });

  it('buffers that the kernel knows by number are seen by nobody, and that is counted', async (context) => {
    const before = await probe.lost();
    const port = await traffic(context, 'fixed');
    await expectNotShown(port, before);
  });

  it('what completes on the way out of other system calls is not taken for theirs', async (context) => {
    const before = await probe.lost();
    const port = await traffic(context, 'exit');
    if (probe.seesIoUring) {
      await expectExact(port, 'exit');
      return;
    }
    // The client's requests are seen, by send(), and their answers are not: each is lost, and counted.
    expect(await counted(port)).toEqual({ client: {}, server: {} });
    expect(grown(before, await probe.lost(), 'lost_unseen')).toBeGreaterThanOrEqual(COUNT);
  });
});
