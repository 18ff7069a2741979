// Counts are exact at full speed: what redis-server says in INFO commandstats is what the kernel counted at both ends, to
// the command.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { scaled } from '../../guests/scale.ts';
import { sized } from '../../volume.ts';
import { endAll } from '../http/harness.ts';
import { Probe, RedisServer, run } from './harness.ts';

/** Requests of each load. */
const REQUESTS = scaled(sized(1_000_000, 0.1));

let server: RedisServer;
let probe: Probe;

beforeEach(async () => {
  probe = new Probe();
  server = await RedisServer.start();
});
afterEach(async () => {
  probe.close();
  await endAll();
  server.remove();
});

/** Both ends of the server's port agree with it; the question for its own count comes on top. */
async function expectSame(): Promise<void> {
  const calls = await server.calls();
  const expected = { ...calls, INFO: (calls.INFO ?? 0) + 1 };
  await server.stop();
  expect(await probe.table('server', server.port, ['command'])).toEqual(expected);
  expect(await probe.table('client', server.port, ['command'])).toEqual(expected);
}

async function benchmark(...args: string[]): Promise<void> {
  await run('redis-benchmark', ['-p', String(server.port), '-n', String(REQUESTS), '-q', ...args], {
    maxBuffer: 2 ** 26,
  });
}

describe.each([1, 16])('redis-benchmark with pipelines of %i', (pipeline) => {
  it('is counted to the command at both ends', async () => {
    const before = await probe.lost();
    await benchmark('-P', String(pipeline), '-t', 'set,get,incr,lpush,mset', '-c', '20');
    expect(await probe.lost()).toEqual(before);
    await expectSame();
  }, 600_000);
});

it('pipelines of a thousand are counted as well', async () => {
  const before = await probe.lost();
  await benchmark('-P', '1000', '-t', 'set,get', '-c', '4');
  expect(await probe.lost()).toEqual(before);
  await expectSame();
}, 300_000);

it('redis-cli, one command after the other, by database and status', async () => {
  await server.cli(
    [],
    `set a 1\nget a\nlpush a x\nselect 3\nget a\nnosuch\nselect 99\nhset h f v\nmulti\nincr n\nexec\nclient getname\n`,
  );
  const table = await probe.table('server', server.port, ['command', 'status', 'database']);
  expect(table).toMatchObject({
    'SET - 0': 1,
    'GET - 0': 1,
    'LPUSH WRONGTYPE 0': 1,
    'SELECT - 0': 1,
    'GET - 3': 1,
    '_OTHER ERR 3': 1,
    'SELECT ERR 3': 1,
    'HSET - 3': 1,
    'MULTI - 3': 1,
    'INCR QUEUED 3': 1,
    'EXEC - 3': 1,
    'CLIENT - 3': 1,
  });
  expect(await probe.table('client', server.port, ['command', 'status', 'database'])).toEqual(table);
});
