// Everything that Redis does beside answering one request after the other, with a real server: subscriptions, transactions,
// blocking, MONITOR, silence, redirects, inline requests, big values, connections that break or were there before.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { scaled } from '../../guests/scale.ts';
import { endAll } from '../http/harness.ts';
import { Probe, Raw, RedisServer, run } from './harness.ts';

let server: RedisServer;
let probe: Probe;
let before: Record<string, number>;

async function begin(...options: string[]): Promise<void> {
  server = await RedisServer.start(...options);
}
beforeEach(async () => {
  probe = new Probe();
  before = await probe.lost();
});
afterEach(async () => {
  probe.close();
  await endAll();
  server.remove();
});

const list = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;

/** Both sides counted these, and nothing was lost. */
async function expectTable(expected: Record<string, number>): Promise<void> {
  expect(await probe.table('server', server.port)).toEqual(expected);
  expect(await probe.table('client', server.port)).toEqual(expected);
  expect(await probe.lost()).toEqual(before);
}

/** The server's own count, with the question for it. */
async function expectCalls(): Promise<void> {
  const calls = await server.calls();
  const expected = { ...calls, INFO: (calls.INFO ?? 0) + 1 };
  expect(await probe.table('server', server.port, ['command'])).toEqual(expected);
  expect(await probe.table('client', server.port, ['command'])).toEqual(expected);
}

describe('subscriptions', () => {
  it.each([2, 3])('of RESP%i: messages are no answers', async (version) => {
    await begin();
    const reader = new Raw(server.port);
    const writer = new Raw(server.port);
    if (version === 3) await reader.say(list('HELLO', '3')).hear(/proto/);
    await reader.say(list('SUBSCRIBE', 'a', 'b') + list('PSUBSCRIBE', 'c*')).hear(/psubscribe[\s\S]*:3\r\n$/);
    for (let i = 0; i < 100; i++)
      writer.say(list('PUBLISH', ['a', 'b', 'cc'][i % 3] as string, `message ${i}`));
    await writer.hear(/(:1\r\n){100}$/);
    await reader.hear(/message 99\r\n$/);
    await reader.say(list('PING')).hear(/PONG|pong/);
    await reader.say(list('UNSUBSCRIBE') + list('PUNSUBSCRIBE')).hear(/punsubscribe[\s\S]*:0\r\n$/);
    await reader.say(list('GET', 'x')).hear(/-1|_/);
    await Promise.all([reader.close(), writer.close()]);
    await expectTable({
      ...(version === 3 && { 'HELLO -': 1 }),
      'GET -': 1,
      'PING -': 1,
      'PSUBSCRIBE -': 1,
      'PUBLISH -': 100,
      'PUNSUBSCRIBE -': 1,
      'SUBSCRIBE -': 1,
      'UNSUBSCRIBE -': 1,
    });
    await expectCalls();
  });
});

describe('transactions', () => {
  it('say what was queued, carried out, discarded, aborted', async () => {
    await begin();
    const client = new Raw(server.port);
    await client
      .say(list('MULTI') + list('SET', 'a', 'b') + list('LPUSH', 'a', 'x') + list('EXEC'))
      .hear(/WRONGTYPE.*\r\n/);
    await client.say(list('MULTI') + list('SET', 'a', 'b') + list('DISCARD')).hear(/QUEUED\r\n\+OK/);
    await client.say(list('MULTI') + list('NOSUCH') + list('EXEC')).hear(/EXECABORT.*\r\n/);
    await client.close();
    await expectTable({
      '_OTHER ERR': 1,
      'DISCARD -': 1,
      'EXEC EXECABORT': 1,
      'EXEC WRONGTYPE': 1,
      'LPUSH QUEUED': 1,
      'MULTI -': 3,
      'SET QUEUED': 2,
    });
  });
});

describe('errors', () => {
  it('by their first word', async () => {
    await begin('--requirepass', 'secret');
    const client = new Raw(server.port);
    await client.say(list('GET', 'a')).hear(/NOAUTH/);
    await client.say(list('AUTH', 'wrong')).hear(/WRONGPASS/);
    await client.say(list('AUTH', 'secret')).hear(/OK/);
    await client
      .say(list('SET', 'a', 'b') + list('INCR', 'a') + list('LPOP', 'a') + list('EVALSHA', 'ff', '0'))
      .hear(/NOSCRIPT/);
    await client.close();
    await expectTable({
      'AUTH -': 1,
      'AUTH WRONGPASS': 1,
      'EVALSHA NOSCRIPT': 1,
      'GET NOAUTH': 1,
      'INCR ERR': 1,
      'LPOP WRONGTYPE': 1,
      'SET -': 1,
    });
  });

  it('of a cluster: MOVED, CROSSSLOT, CLUSTERDOWN', async () => {
    await begin('--cluster-enabled', 'yes', '--cluster-require-full-coverage', 'no');
    const client = new Raw(server.port);
    await client.say(list('GET', 'a')).hear(/CLUSTERDOWN/);
    // slots of its own but for the last, which it is told belongs to a node that is not there
    await client.say(list('CLUSTER', 'ADDSLOTSRANGE', '0', '16000')).hear(/OK/);
    await client.say(list('MGET', 'a', 'b')).hear(/CROSSSLOT/);
    await client.close();
    await expectTable({ 'CLUSTER -': 1, 'GET CLUSTERDOWN': 1, 'MGET CROSSSLOT': 1 });
  });

  it('MOVED and ASK from one node to another', async () => {
    await begin('--cluster-enabled', 'yes');
    const first = server;
    const second = await RedisServer.start('--cluster-enabled', 'yes');
    try {
      const id = async (node: RedisServer) => (await node.cli(['CLUSTER', 'MYID'])).trim();
      await first.cli(['CLUSTER', 'ADDSLOTSRANGE', '0', '8191']);
      await second.cli(['CLUSTER', 'ADDSLOTSRANGE', '8192', '16383']);
      await first.cli(['CLUSTER', 'MEET', '127.0.0.1', String(second.port)]);
      while (!(await first.cli(['CLUSTER', 'INFO'])).includes('cluster_state:ok'))
        await new Promise((resolve) => setTimeout(resolve, 100));
      const client = new Raw(first.port);
      await client.say(list('GET', 'a')).hear(/MOVED 15495/);
      await first.cli(['CLUSTER', 'SETSLOT', '3300', 'MIGRATING', await id(second)]);
      await client.say(list('GET', 'b')).hear(/ASK 3300/);
      await client.close();
      const table = await probe.table('server', first.port);
      expect(table).toMatchObject({ 'GET MOVED': 1, 'GET ASK': 1 });
      expect(await probe.table('client', first.port)).toEqual(table);
    } finally {
      second.remove();
    }
  }, 120_000);
});

describe('waiting', () => {
  it('a blocking command is measured as long as it waits, a timeout is an answer', async () => {
    await begin();
    const waiter = new Raw(server.port);
    const other = new Raw(server.port);
    waiter.say(list('BLPOP', 'queue', '0'));
    await new Promise((resolve) => setTimeout(resolve, 700));
    other.say(list('RPUSH', 'queue', 'x'));
    await waiter.hear(/x\r\n$/);
    await waiter.say(list('BLPOP', 'queue', '0.2')).hear(/\*-1/);
    await Promise.all([waiter.close(), other.close()]);
    await expectTable({ 'BLPOP -': 2, 'RPUSH -': 1 });
    for (const side of ['client', 'server'] as const) {
      const waited = (await probe.counted(side, server.port)).find(
        ({ labels }) => labels.command === 'BLPOP',
      );
      expect(waited?.seconds).toBeGreaterThan(0.85);
      expect(waited?.seconds).toBeLessThan(5);
    }
  });

  it('what waits when the connection ends was not answered', async () => {
    await begin();
    const waiter = new Raw(server.port);
    await waiter.say(list('PING')).hear(/PONG/);
    waiter.say(list('BLPOP', 'queue', '0'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await waiter.close();
    const rows = await probe.table('client', server.port, ['command', 'status', 'error']);
    expect(rows).toEqual({ 'BLPOP - connection_closed': 1, 'PING - -': 1 });
  });
});

describe('a walk that looks at connections while they are at work', () => {
  /** Collects, and so walks, without a pause until `work` is done. How often. */
  async function walkDuring(work: Promise<unknown>): Promise<number> {
    let done = false;
    let walks = 0;
    const stop = work.finally(() => {
      done = true;
    });
    for (; !done; walks++) {
      await probe.collect();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await stop;
    return walks;
  }

  it('leaves every answer with its request: counts are those of the server, nothing is unmatched', async () => {
    await begin();
    const requests = String(scaled(400_000));
    const args = ['-p', String(server.port), '-n', requests, '-P', '16', '-c', '20', '-q'];
    const walks = await walkDuring(
      run('redis-benchmark', [...args, '-t', 'set,get,incr,lpush'], { maxBuffer: 2 ** 26 }),
    );
    expect(walks).toBeGreaterThan(20);
    expect(await probe.lost()).toEqual(before);
    await expectCalls();
  }, 300_000);

  it('takes none of those that wait when the connection is reset', async () => {
    await begin();
    const rounds = scaled(300);
    const commands = ['BLPOP', 'GET', 'INCR'];
    const other = new Raw(server.port);
    const resetAll = async () => {
      for (let i = 0; i < rounds; i++) {
        const client = new Raw(server.port);
        await client.say(list('PING')).hear(/PONG/);
        client.say(list('BLPOP', `queue ${i}`, '0') + list('GET', 'a') + list('INCR', 'n'));
        await other.say(list('ECHO', 'x')).hear(/x\r\n$/); // so the server has read what came before
        const closed = new Promise((resolve) => client.socket.once('close', resolve));
        client.socket.resetAndDestroy();
        await closed;
      }
    };
    expect(await walkDuring(resetAll())).toBeGreaterThan(scaled(20, 3));
    await other.close();
    for (const [side, how] of [
      ['client', 'connection_closed'], // by itself
      ['server', 'connection_reset'],
    ] as const) {
      const expected = Object.fromEntries(commands.map((command) => [`${command} ${how}`, rounds]));
      const rows = await probe.table(side, server.port, ['command', 'error']);
      expect(rows).toEqual({ ...expected, 'ECHO -': rounds, 'PING -': rounds });
    }
    expect(await probe.lost()).toEqual(before);
  }, 300_000);
});

describe('what answers nothing', () => {
  it('MONITOR tells of others', async () => {
    await begin();
    const monitor = new Raw(server.port);
    const other = new Raw(server.port);
    await monitor.say(list('MONITOR')).hear(/OK/);
    for (let i = 0; i < 50; i++) other.say(list('SET', 'key', `value ${i}`));
    await other.hear(/(\+OK\r\n){50}$/);
    await monitor.hear(/value 49"\r\n$/);
    await monitor.say(list('PING')).hear(/PONG/);
    await Promise.all([monitor.close(), other.close()]);
    await expectTable({ 'MONITOR -': 1, 'PING -': 1, 'SET -': 50 });
  });

  it('CLIENT REPLY OFF and SKIP', async () => {
    await begin();
    const client = new Raw(server.port);
    client.say(list('CLIENT', 'REPLY', 'OFF') + list('SET', 'a', '1') + list('INCR', 'a'));
    await client.say(list('CLIENT', 'REPLY', 'ON') + list('GET', 'a')).hear(/\+OK\r\n\$1\r\n2\r\n$/);
    await client
      .say(list('CLIENT', 'REPLY', 'SKIP') + list('INCR', 'a') + list('GET', 'a'))
      .hear(/^\$1\r\n3\r\n$/);
    await client.close();
    await expectTable({ 'CLIENT -': 3, 'GET -': 2, 'INCR -': 2, 'SET -': 1 });
    await expectCalls();
  });
});

describe('forms', () => {
  it('inline requests', async () => {
    await begin();
    const client = new Raw(server.port);
    await client.say('PING\r\n').hear(/PONG/);
    await client.say('set key "a value"\r\nget key\n\r\n').hear(/a value\r\n$/);
    await client.close();
    await expectTable({ 'GET -': 1, 'PING -': 1, 'SET -': 1 });
  });

  it('values of 64 MiB, and big lists', async () => {
    await begin();
    const client = new Raw(server.port);
    const value = 'v'.repeat(64 * 1024 * 1024);
    await client.say(list('SET', 'big', value)).hear(/OK/);
    client.say(list('GET', 'big') + list('STRLEN', 'big'));
    await client.hear(/:67108864\r\n$/);
    await client.close();
    await server.cli(
      [],
      Array.from({ length: 100 }, (_, i) => `rpush l ${'x '.repeat(i)}x\nlrange l 0 -1\n`).join(''),
    );
    await expectTable({
      'COMMAND -': 1, // redis-cli asks for the documentation of commands
      'GET -': 1,
      'LRANGE -': 100,
      'RPUSH -': 100,
      'SET -': 1,
      'STRLEN -': 1,
    });
  }, 300_000);

  it('a connection that was there before is joined at a request, its database is not known', async () => {
    await begin();
    probe.close();
    const client = new Raw(server.port);
    await client.say(list('SELECT', '5')).hear(/OK/);
    probe = new Probe();
    await client.say(list('SET', 'a', 'b')).hear(/OK/);
    await client.say(list('GET', 'a') + list('SELECT', '2') + list('GET', 'a')).hear(/-1\r\n$/);
    await client.close();
    const by = ['command', 'status', 'database'] as const;
    const table = { 'GET - -': 1, 'GET - 2': 1, 'SELECT - -': 1, 'SET - -': 1 };
    expect(await probe.table('server', server.port, by)).toEqual(table);
    expect(await probe.table('client', server.port, by)).toEqual(table);
  });

  it('a replica takes the stream of changes, and is left alone', async () => {
    await begin();
    const replica = await RedisServer.start('--replicaof', '127.0.0.1', String(server.port));
    try {
      while (!(await replica.cli(['INFO', 'replication'])).includes('master_link_status:up'))
        await new Promise((resolve) => setTimeout(resolve, 100));
      await server.cli([], Array.from({ length: 500 }, (_, i) => `set k${i} v\n`).join(''));
      while ((await replica.cli(['DBSIZE'])).trim() !== '500')
        await new Promise((resolve) => setTimeout(resolve, 50));
      const table = await probe.table('server', server.port);
      expect(table).toMatchObject({ 'SET -': 500, 'PING -': 1 });
      expect(table['PSYNC -']).toBe(1);
      expect(await probe.lost()).toEqual(before);
    } finally {
      replica.remove();
    }
  }, 120_000);
});
