// The same traffic for every provider that this kernel offers: all calls that move bytes over a socket, by system call
// and by io_uring, full speed, and entries that were missed. What a provider cannot see is a counted loss, and nothing
// is read from an address that only looks like a buffer.
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { type Feature, KernelFeatures } from '../../../exporter/kernel/features.ts';
import { scaled } from '../../guests/scale.ts';
import { buildPeer, peerPath } from '../peers/build.ts';
import {
  endAll,
  freePort,
  h2load,
  METHOD_STATUS,
  METHOD_STATUS_ROUTE,
  missingFor,
  Nginx,
  PROVIDERS,
  Probe,
  start,
} from './harness.ts';

const PEER = peerPath('http_peer');
/** Of the peer: this kernel has no such operation. */
const UNSUPPORTED = 77;
const COUNT = 30;
const BODY = 400 * 'GET /trap HTTP/1.1\r\n\r\n'.length;

const CALLS = [
  ['write', 'read'],
  ['writev', 'readv'],
  ['sendto', 'recvfrom'],
  ['sendmsg', 'recvmsg'],
  ['sendmmsg', 'recvmmsg'],
  ['sendfile', 'peek'],
  ['splice', 'read'],
] as const;

const BY_IO_URING = [
  ['uring-send', 'uring-recv'],
  ['uring-sendmsg', 'uring-recvmsg'],
  ['uring-write', 'uring-read'],
  ['uring-writev', 'uring-readv'],
  ['uring-send-worker', 'uring-recv-worker'],
  ['uring-send+poller', 'uring-recv'],
  ['uring-send-zerocopy', 'uring-recv'],
  ['uring-send', 'uring-recv-multishot'],
] as const;

/** Buffers that the kernel knows by number. */
const FIXED = ['uring-write-fixed', 'uring-read-fixed'] as const;
/** Answers and requests arrive on the way out of system calls that read something else. */
const AT_EXIT = ['sendto', 'uring-recv-exit'] as const;

/** It may stop by time, which no hook on a socket shows: which message comes next cannot be known. */
const TIMED = ['sendmmsg', 'recvmmsg-timeout'] as const;

type Pair = readonly [send: string, receive: string];
type Counts = Record<string, number>;

beforeAll(() => buildPeer('http_peer'));
afterEach(endAll);

/** As before Linux 6.16, where another hook keeps the beginning of a send. */
class OlderKernel extends KernelFeatures {
  override missing(feature: Feature): string | undefined {
    return feature === 'tracepoint:tcp_sendmsg_locked' ? 'hidden by the test' : super.missing(feature);
  }
}

const newer = new KernelFeatures().missing('tracepoint:tcp_sendmsg_locked') === undefined;
const WAYS = PROVIDERS.flatMap((provider) => [
  { name: provider, provider },
  ...(newer && provider === 'tracepoint'
    ? [{ name: `${provider} before Linux 6.16`, provider, features: new OlderKernel() }]
    : []),
]);

describe.each(WAYS)('$name', ({ provider, features }) => {
  let probe: Probe;
  const missing = missingFor(provider);
  /** At the entry of what sends, the buffers are kept. */
  const keepsBuffers = provider !== 'tracepoint' || (newer && features === undefined);

  beforeAll(() => {
    if (missing === undefined) probe = new Probe({ http: { provider }, ...(features && { features }) });
  });
  afterAll(() => probe?.close());

  const test = (name: string, body: (context: TestContext) => Promise<void>): void => {
    it(name, async (context) => {
      if (missing !== undefined) context.skip(`no ${provider} provider: ${missing}`);
      await body(context);
    });
  };

  /** Makes COUNT requests; answers the port. */
  async function traffic(pair: Pair, context: TestContext): Promise<number> {
    const port = await freePort();
    try {
      await start(PEER, ['serve', String(port), ...pair], /ready/);
      await ask(port, pair, 1);
    } catch (error) {
      if ((error as { code?: unknown }).code === UNSUPPORTED)
        context.skip(`this kernel's io_uring cannot do ${pair.join(' and ')}`);
      throw error;
    }
    return port;
  }

  /** COUNT requests over one connection, `rounds` times. */
  async function ask(port: number, pair: Pair, rounds: number, between = async () => {}): Promise<void> {
    const client = await start(PEER, ['ask', String(port), ...pair, String(COUNT)], /done/);
    const closed = new Promise<number | null>((resolve) => client.once('close', resolve));
    for (let round = 1; round < rounds; round++) {
      await between();
      const done = new Promise((resolve) => client.stdout?.once('data', resolve));
      client.stdin?.write('\n');
      await Promise.race([done, closed]);
    }
    client.stdin?.end();
    expect(await closed).toBe(0);
  }

  async function counted(port: number, by: readonly string[]): Promise<{ client: Counts; server: Counts }> {
    const labels = { server_port: port };
    return {
      client: await probe.table('client', labels, by),
      server: await probe.table('server', labels, by),
    };
  }

  /** Of a kernel counter, which other programs move too. */
  async function grown(name: string, before: Counts): Promise<number> {
    return ((await probe.lost())[name] ?? 0) - (before[name] ?? 0);
  }

  async function expectExact(port: number, pair: Pair): Promise<void> {
    const expected = { [`POST 200 /${pair.join('/').replace('+poller', '')}`]: COUNT };
    expect(await counted(port, METHOD_STATUS_ROUTE)).toEqual({ client: expected, server: expected });
    for (const side of ['client', 'server'] as const)
      for (const what of ['request', 'response'] as const) {
        const points = probe.points(`http.${side}.${what}.body.size`, { server_port: port });
        expect(
          points.reduce((total, point) => total + point.sum, 0),
          `${side} ${what}`,
        ).toBe(COUNT * BODY);
      }
  }

  /**
   * The kernel runs no program of a kprobe while a task is within bpf() on the same processor, preempted there. With
   * io_uring nothing stands in for it: what is not counted must be counted as lost.
   */
  async function expectCountedOrLost(port: number, pair: Pair, before: Counts): Promise<void> {
    const { client, server } = await counted(port, METHOD_STATUS);
    const missing = 2 * COUNT - (client['POST 200'] ?? 0) - (server['POST 200'] ?? 0);
    if (missing === 0) await expectExact(port, pair);
    else expect(await grown('lost_unseen', before)).toBeGreaterThanOrEqual(missing);
    expect(Object.keys({ ...client, ...server })).toEqual(['POST 200']);
  }

  async function expectUnobserved(port: number, before: Counts): Promise<void> {
    expect(await counted(port, METHOD_STATUS_ROUTE)).toEqual({ client: {}, server: {} });
    // the connection of each end, once
    expect(await grown('lost_unobserved', before)).toBeGreaterThanOrEqual(2);
  }

  /** The client's requests are observed, their answers are not: each is lost, and counted. */
  async function expectAnswersUnobserved(port: number, before: Counts): Promise<void> {
    expect(await counted(port, METHOD_STATUS_ROUTE)).toEqual({ client: {}, server: {} });
    expect(await grown('lost_unseen', before)).toBeGreaterThanOrEqual(COUNT);
  }

  for (const pair of CALLS)
    test(pair.join(' and '), async (context) => {
      await expectExact(await traffic(pair, context), pair);
    });

  for (const pair of BY_IO_URING)
    test(pair.join(' and '), async (context) => {
      requireIoUring(context);
      const before = await probe.lost();
      const port = await traffic(pair, context);
      if (provider === 'tracepoint') await expectUnobserved(port, before);
      else if (provider === 'kprobe') await expectCountedOrLost(port, pair, before);
      else await expectExact(port, pair);
    });

  test(`${FIXED.join(' and ')}: unobserved, and that is counted`, async (context) => {
    requireIoUring(context);
    const before = await probe.lost();
    await expectUnobserved(await traffic(FIXED, context), before);
  });

  test(`${AT_EXIT.join(' and ')}: not taken for what the other call reads`, async (context) => {
    requireIoUring(context);
    const before = await probe.lost();
    const port = await traffic(AT_EXIT, context);
    if (provider === 'fentry') await expectExact(port, AT_EXIT);
    else if (provider === 'kprobe') await expectCountedOrLost(port, AT_EXIT, before);
    else await expectAnswersUnobserved(port, before);
  });

  test(`${TIMED.join(' and ')}: where its buffers are not kept, answers are unobserved, and that is counted`, async (context) => {
    const before = await probe.lost();
    const port = await traffic(TIMED, context);
    await (provider === 'tracepoint' ? expectAnswersUnobserved(port, before) : expectExact(port, TIMED));
  });

  test('at full speed over 16 connections, as h2load and nginx count', async () => {
    const requests = scaled(40_000);
    const nginx = await Nginx.start('location / { return 200 "hello\\n"; }');
    try {
      expect(await h2load(nginx.url('/hello'), requests, 16)).toMatchObject({ '2xx': requests });
      await nginx.stop();
      expect(nginx.log()).toHaveLength(requests);
      const expected = { 'GET 200': requests };
      expect(await counted(nginx.port, METHOD_STATUS)).toEqual({ client: expected, server: expected });
    } finally {
      nginx.remove();
    }
  });

  // the last ones: the provider is of no use behind them
  const withoutNotes = async (): Promise<void> => {
    const entry = provider === 'kprobe' ? 'kprobe' : 'entry';
    for (const [program, link] of probe.http.loaded.links)
      if (program.startsWith('stream_') && (program.includes(`_${entry}`) || program.includes('_begins')))
        link.close();
  };

  test('an entry that was missed, of io_uring: a counted loss, and the context of the call before does not serve again', async (context) => {
    if (provider === 'tracepoint') context.skip('this provider does not see io_uring');
    requireIoUring(context);
    const port = await freePort();
    const pair = ['uring-send', 'uring-recv'] as const;
    await start(PEER, ['serve', String(port), ...pair], /ready/);
    const before = await probe.lost();
    await ask(port, pair, 2, withoutNotes);
    const first = { 'POST 200': COUNT };
    expect(await counted(port, METHOD_STATUS)).toEqual({ client: first, server: first });
    expect(await grown('lost_unseen', before)).toBeGreaterThanOrEqual(2);
  });

  test('an entry that was missed, of a system call: its registers do as well', async (context) => {
    if (!keepsBuffers) context.skip('this provider keeps no buffers');
    await withoutNotes();
    const pair = ['sendto', 'recvfrom'] as const;
    await expectExact(await traffic(pair, context), pair);
  });
});

function requireIoUring(context: TestContext): void {
  let disabled: string;
  try {
    disabled = readFileSync('/proc/sys/kernel/io_uring_disabled', 'utf8').trim();
  } catch {
    return; // before Linux 6.6 it cannot be disabled; where it was not built, the peer says so
  }
  if (disabled === '2') context.skip('io_uring is disabled on this machine (kernel.io_uring_disabled)');
}
