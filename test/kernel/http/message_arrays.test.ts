// Programs use one array of messages for all their sendmmsg() and recvmmsg() calls, with as many of them as there are to
// be moved; and they put empty pieces in front, without an address, where a header is left out. Every request is counted.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildPeer } from '../peers/build.ts';
import { differences, follow } from './differential/compare.ts';
import { probeOf, WAYS } from './differential/ways.ts';
import type { Probe } from './harness.ts';

const REQUEST = 'GET /alpha HTTP/1.1\r\nHost: host.example\r\n\r\n';
const ANSWER = 'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno';

beforeAll(() => buildPeer('differential_peer'));

/** `length` bytes in `count` pieces. */
const pieces = (length: number, count: number) => `${'3 '.repeat(count - 1)}${length - 3 * (count - 1)}`;

describe.each(WAYS)('$name', (way) => {
  let probe: Probe;

  beforeAll(() => {
    if (way.missing === undefined) probe = probeOf(way);
  });
  afterAll(() => probe?.close());
  beforeEach((context) => {
    if (way.missing !== undefined) context.skip(`no ${way.provider} provider: ${way.missing}`);
  });

  /** Exchanges over one connection: each is a step to send and one to receive, for a length, and for where it ends. */
  async function expectCounted(
    count: number,
    send: (length: number, i: number) => string,
    receive: (until: number, i: number) => string,
  ): Promise<void> {
    const client = ['open'];
    const server = ['open'];
    for (let i = 0; i < count; i++) {
      client.push(send(REQUEST.length, i), receive((i + 1) * ANSWER.length, i));
      server.push(receive((i + 1) * REQUEST.length, i), send(ANSWER.length, i));
    }
    client.push('close');
    server.push('end', 'close');
    const script = {
      steps: { client, server },
      requests: Buffer.from(REQUEST.repeat(count)),
      answers: Buffer.from(ANSWER.repeat(count)),
      ledger: {
        client: { 'GET 404 /alpha 1.1 404': count },
        server: { 'GET 404 /alpha 1.1 -': count },
      },
      bodies: { request: 0, response: 2 * count },
    };
    expect(await differences(probe, await follow(script), script)).toEqual({ rows: {}, missing: 0 });
  }

  it('sendmmsg with one array for another number of messages each time', async () => {
    await expectCounted(
      12,
      (length, i) => `send sendmmsg ${pieces(length, 1 + ((i * 5) % 7))}`,
      (until) => `receive read ${until} 4096`,
    );
  });

  it('recvmmsg with one array for another number of messages each time', async () => {
    await expectCounted(
      12,
      (length) => `send write ${length}`,
      // all messages are filled, so that nothing but the next call's number tells that this one is over
      (until, i) =>
        `receive recvmmsg ${until} ${pieces(until === (i + 1) * ANSWER.length ? ANSWER.length : REQUEST.length, 1 + ((i * 5) % 7))}`,
    );
  });

  it.each(['writev', 'sendmsg'])('%s with an empty piece in front', async (how) => {
    await expectCounted(
      5,
      (length) => `send ${how} 0 10 ${length - 10}`,
      (until) => `receive readv ${until} 7 0 4096`,
    );
  });
});
