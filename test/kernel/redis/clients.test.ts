// Client libraries as people use them: what the server counted is what the kernel counted, whatever way the library writes.
import { join } from 'node:path';
import { createClient } from '@redis/client';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { scaled } from '../../guests/scale.ts';
import { endAll } from '../http/harness.ts';
import { Probe, RedisServer, run, type Side } from './harness.ts';

let server: RedisServer;
let probe: Probe;
let before: Record<string, number>;

beforeEach(async () => {
  probe = new Probe();
  server = await RedisServer.start();
  before = await probe.lost();
});
afterEach(async () => {
  probe.close();
  await endAll();
  server.remove();
});

/** By command. CLIENT SETINFO, which this server refuses as unknown, is in none of its statistics. */
async function counts(side: Side): Promise<Record<string, number>> {
  const out: Record<string, number> = {};
  for (const [row, count] of Object.entries(await probe.table(side, server.port))) {
    const [command = '', status] = row.split(' ');
    if (command !== 'CLIENT' || status !== 'ERR') out[command] = (out[command] ?? 0) + count;
  }
  return out;
}

/** Both ends agree with the server, and nothing was lost. */
async function expectSame(): Promise<Record<string, number>> {
  const calls = await server.calls();
  const expected = { ...calls, INFO: (calls.INFO ?? 0) + 1 };
  await server.stop();
  expect(await probe.lost()).toEqual(before);
  expect(await counts('server')).toEqual(expected);
  expect(await counts('client')).toEqual(expected);
  return expected;
}

describe('ioredis', () => {
  it('a thousand at once, each written by itself', async () => {
    const client = new Redis({ port: server.port, host: '127.0.0.1', lazyConnect: true });
    await client.connect();
    const rounds = scaled(20);
    for (let round = 0; round < rounds; round++)
      await Promise.all(
        Array.from({ length: 500 }, (_, i) =>
          Promise.all([client.set(`k${i}`, 'v'.repeat(i)), client.get(`k${i}`)]),
        ),
      );
    await client.quit();
    const counted = await expectSame();
    expect(counted).toMatchObject({ SET: 500 * rounds, GET: 500 * rounds, QUIT: 1 });
  }, 300_000);

  it('pipelines of four thousand, and automatic ones', async () => {
    const client = new Redis({
      port: server.port,
      host: '127.0.0.1',
      enableAutoPipelining: true,
      lazyConnect: true,
    });
    await client.connect();
    for (let round = 0; round < 3; round++) {
      const pipeline = client.pipeline();
      for (let i = 0; i < 2000; i++) pipeline.hset(`h${i % 9}`, `f${i}`, i).expire(`h${i % 9}`, 100);
      await pipeline.exec();
    }
    await Promise.all(Array.from({ length: 5000 }, (_, i) => client.incr(`n${i % 3}`)));
    client.disconnect();
    expect(await expectSame()).toMatchObject({ HSET: 6000, EXPIRE: 6000, INCR: 5000 });
  }, 300_000);
});

describe('node-redis with RESP3', () => {
  it('is counted, with what the server pushes in between', async () => {
    const client = await createClient({
      RESP: 3,
      socket: { port: server.port, host: '127.0.0.1' },
    }).connect();
    const other = await createClient({
      RESP: 3,
      disableClientInfo: true,
      socket: { port: server.port, host: '127.0.0.1' },
    }).connect();
    let heard = 0;
    await client.subscribe('news', () => heard++);
    const count = scaled(2000);
    for (let i = 0; i < count; i++)
      await Promise.all([
        client.hSet('h', `f${i % 10}`, i),
        client.hGetAll('h'),
        client.zAdd('z', { score: i, value: 'x' }),
        other.publish('news', `${i}`),
      ]);
    await client.unsubscribe('news');
    client.destroy();
    other.destroy();
    expect(heard).toBe(count);
    expect(await expectSame()).toMatchObject({
      HGETALL: count,
      PUBLISH: count,
      SUBSCRIBE: 1,
      UNSUBSCRIBE: 1,
    });
  }, 300_000);
});

describe('redis-py', () => {
  it.each([
    ['single', 3000],
    ['pipeline', 20_000],
    ['transaction', 2000],
    ['threads', 1500],
  ])(
    '%s',
    async (mode, count) => {
      const script = join(import.meta.dirname, 'clients.py');
      // Debian's own interpreter, which has Debian's package of redis-py
      await run('/usr/bin/python3', [script, String(server.port), mode, String(scaled(count))]);
      await expectSame();
    },
    300_000,
  );
});
