// The Redis logic of bpf/ in user mode: generated traffic, cut in every place, comes to what it was made from and to what
// another project's decoder finds in it; and one test for each corner of the protocol.
import { beforeAll, describe, expect, it } from 'vitest';
import { buildDriver, names, type Outcome, type Over, runConversations, type Step } from './driver.ts';
import { decode } from './reference.ts';
import { conversation, type Exchange, encode, random, request, type Value } from './traffic.ts';

const RESYNC = 1;
const LEFT = 2;

beforeAll(() => buildDriver(), 120_000);

const latin = (text: string): Buffer => Buffer.from(text, 'latin1');
const ask = (...pieces: (string | Buffer)[]): Step => ({
  direction: 'request',
  pieces: pieces.map((p) => (typeof p === 'string' ? latin(p) : p)),
});
const answer = (...pieces: (string | Buffer)[]): Step => ({
  direction: 'answer',
  pieces: pieces.map((p) => (typeof p === 'string' ? latin(p) : p)),
});

function run(...steps: Step[]): Outcome {
  const [outcome] = runConversations([steps]);
  if (!outcome) throw new Error('no outcome');
  return outcome;
}

type Expected = Pick<Over, 'command' | 'status' | 'database' | 'error'>;
const comparable = ({ command, status, database, error }: Over): Expected => ({
  command,
  status,
  database,
  error,
});
const expectedOf = (exchanges: readonly Exchange[]): Expected[] =>
  exchanges.map(({ command, status, database }) => ({ command, status, database, error: 0 }));

function compareAll(cases: readonly { steps: Step[]; expected: Expected[]; name: string }[]): void {
  const outcomes = runConversations(cases.map((c) => c.steps));
  expect(outcomes).toHaveLength(cases.length);
  for (const [i, c] of cases.entries()) {
    const outcome = outcomes[i] as Outcome;
    expect({
      name: c.name,
      lost: outcome.lost,
      waiting: outcome.waiting,
      over: outcome.over.map(comparable),
    }).toEqual({ name: c.name, lost: 0, waiting: 0, over: c.expected });
  }
}

/** `cut` says where to cut a message, as sorted offsets. */
function pieces(direction: 'request' | 'answer', message: Buffer, cut: number[]): Step[] {
  const at = [0, ...cut, message.length];
  return at.slice(1).map((end, i) => ({ direction, pieces: [message.subarray(at[i], end)] }));
}
const answerOf = (e: Exchange): Buffer => Buffer.concat([e.before, e.answer]);
const everywhere = (message: Buffer): number[] => Array.from({ length: message.length - 1 }, (_, i) => i + 1);
const stepsOf = (exchanges: readonly Exchange[], cut: (message: Buffer) => number[]): Step[] =>
  exchanges.flatMap((e) => [
    ...pieces('request', e.request, cut(e.request)),
    ...pieces('answer', answerOf(e), cut(answerOf(e))),
  ]);

/** Calls of random iovecs. */
function calls(stream: Buffer, direction: 'request' | 'answer', pick: (below: number) => number): Step[] {
  const out: Step[] = [];
  for (let at = 0; at < stream.length; ) {
    const iovecs: Buffer[] = [];
    for (let n = pick(4); n >= 0 && at < stream.length; n--) {
      const size = pick(3) === 0 ? pick(4) : pick(900);
      iovecs.push(stream.subarray(at, at + size));
      at += size;
    }
    out.push({ direction, pieces: iovecs });
  }
  return out;
}

it('keeps little of a connection, and the tables of words are in order', () => {
  const { commands, size, parser, statuses } = names();
  expect(size).toBeLessThanOrEqual(8192 - 128);
  expect(parser).toBeLessThanOrEqual(128);
  expect(commands).toContain('GEORADIUSBYMEMBER_RO');
  expect(commands.slice(1)).toEqual(commands.slice(1).sort());
  expect(statuses).toContain('WRONGTYPE');
});

describe('generated traffic', () => {
  it('comes to what it was made from, in whole messages of 2000 conversations', () => {
    compareAll(
      Array.from({ length: 2000 }, (_, seed) => {
        const exchanges = conversation(seed, 6);
        return { steps: stepsOf(exchanges, () => []), expected: expectedOf(exchanges), name: `seed ${seed}` };
      }),
    );
  });

  it('comes to what the decoder of node-redis finds in it', () => {
    const { commands, statuses } = names();
    const seeds = Array.from({ length: 1500 }, (_, i) => 100_000 + i);
    const conversations = seeds.map((seed) => conversation(seed, 8)).filter((c) => c.every((e) => !e.rare));
    const streams = conversations.map((exchanges) => ({
      requests: Buffer.concat(exchanges.map((e) => e.request)),
      answers: Buffer.concat(exchanges.map(answerOf)),
    }));
    const outcomes = runConversations(streams.map((s) => [ask(s.requests), answer(s.answers)]));
    let compared = 0;
    for (const [i, stream] of streams.entries()) {
      const answers = decode(stream.answers).filter(({ kind }) => kind !== 'push');
      const expected = decode(stream.requests).map(({ value }, n) => {
        const name = String((value as Buffer[])[0]).toUpperCase();
        const { kind, value: said } = answers[n] as (typeof answers)[number];
        const word = kind === 'error' ? ((said as Error).message.split(' ')[0] ?? '').toUpperCase() : 'OK';
        return {
          command: commands.indexOf(name) > 0 ? name : '_OTHER',
          status: statuses.includes(word) ? word : '_OTHER',
        };
      });
      expect(answers).toHaveLength(expected.length);
      const over = (outcomes[i] as Outcome).over.map(({ command, status }) => ({ command, status }));
      expect({ i, over }).toEqual({ i, over: expected });
      compared += expected.length;
    }
    expect(compared).toBeGreaterThan(3000);
  });

  it('comes to the same wherever a message is cut in two', () => {
    for (let seed = 5000; seed < 5020; seed++) {
      const exchanges = conversation(seed, 3);
      const longest = Math.max(...exchanges.flatMap((e) => [e.request.length, answerOf(e).length]));
      compareAll(
        Array.from({ length: Math.min(longest - 1, 700) }, (_, i) => ({
          steps: stepsOf(exchanges, (message) => (i + 1 < message.length ? [i + 1] : [])),
          expected: expectedOf(exchanges),
          name: `seed ${seed} cut at ${i + 1}`,
        })),
      );
    }
  });

  it('comes to the same byte by byte', () => {
    compareAll(
      Array.from({ length: 80 }, (_, i) => {
        const exchanges = conversation(9000 + i, 4);
        return {
          steps: stepsOf(exchanges, everywhere),
          expected: expectedOf(exchanges),
          name: `seed ${9000 + i}`,
        };
      }),
    );
  });

  it('comes to the same in random calls of random iovecs, pipelined', () => {
    compareAll(
      Array.from({ length: 1500 }, (_, i) => {
        const pick = random(i + 77);
        const exchanges = conversation(20_000 + i, 1 + pick(40));
        return {
          steps: [
            ...calls(Buffer.concat(exchanges.map((e) => e.request)), 'request', pick),
            ...calls(Buffer.concat(exchanges.map(answerOf)), 'answer', pick),
          ],
          expected: expectedOf(exchanges),
          name: `seed ${i}`,
        };
      }),
    );
  });
});

const OK = '+OK\r\n';
/** What is counted of a conversation, in a word each. */
const counted = (outcome: Outcome): string[] =>
  outcome.over.map(({ command, status, error }) => `${command} ${status}${error === 0 ? '' : ` !${error}`}`);
const list = (...items: (string | number | null)[]): Buffer =>
  encode({
    type: 'array',
    items: items.map(
      (item): Value =>
        item === null
          ? { type: 'null bulk' }
          : typeof item === 'number'
            ? { type: 'number', text: String(item) }
            : { type: 'bulk', bytes: latin(item) },
    ),
  });
const push = (...items: (string | number | null)[]): Buffer =>
  Buffer.concat([latin('>'), list(...items).subarray(1)]);

describe('pipelines', () => {
  it('takes times from the first byte of the request, the first and the last byte of the answer', () => {
    const whole = request('GET', 'a');
    const outcome = run(
      ask(whole.subarray(0, 5)),
      ask(whole.subarray(5)),
      answer('$2\r\n'),
      answer('ab\r'),
      answer('\n'),
    );
    expect(outcome.over).toMatchObject([{ start: 1, first: 3, end: 5 }]);
  });

  it('holds ten thousand equal requests of one call', () => {
    const outcome = run(
      ask(Buffer.concat(Array(10_000).fill(request('SET', 'k', 'v')))),
      answer(OK.repeat(10_000)),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(Array(10_000).fill('SET OK'));
  });

  it('holds four thousand different ones of one call', () => {
    const names = ['SET', 'EXPIRE', 'EXPIRE', 'GET', 'GET', 'GET', 'GET', 'INCR'];
    const many = Array.from({ length: 4000 }, (_, i) => names[(i * 7 + (i >> 4)) % 8] as string);
    const outcome = run(ask(Buffer.concat(many.map((name) => request(name, 'a')))), answer(OK.repeat(4000)));
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(many.map((name) => `${name} OK`));
  });

  it('holds some 1700 of as many calls, and counts each that has no room, and no other, as lost', () => {
    const names = ['GET', 'INCR', 'LLEN'];
    const many = Array.from({ length: 3000 }, (_, i) => names[i % 3] as string);
    const outcome = run(
      ...many.map((name) => ask(request(name, 'a'))),
      answer(':1\r\n'.repeat(3000)),
      ask(request('PING')),
      answer('+PONG\r\n'),
    );
    expect(outcome.lost).toBeGreaterThan(1200);
    expect(outcome.lost).toBeLessThan(1300);
    expect(outcome.waiting).toBe(0);
    expect(counted(outcome)).toEqual([
      ...many.slice(0, 3000 - outcome.lost).map((n) => `${n} OK`),
      'PING OK',
    ]);
    expect(outcome.over.at(-2)?.start).toBe(3000 - outcome.lost);
  });

  it('keeps each request with its answer while the queue is full, drained a little and filled again', () => {
    const pick = random(4);
    const steps: Step[] = [];
    const expected = new Set<string>();
    let asked = 0;
    let answered = 0;
    for (let round = 0; round < 140; round++) {
      for (let n = pick(80); n > 0; n--) {
        // the answer is an error by whose word the request can be told
        steps.push(ask(request(['GET', 'SET', 'DEL', 'TTL'][asked++ % 4] as string, 'a')));
      }
      let answers = '';
      for (let n = pick(40); n > 0 && answered < asked; n--)
        answers += `-${['ASK', 'BUSY', 'MOVED', 'OOM'][answered++ % 4]}\r\n`;
      if (answers !== '') steps.push(answer(answers));
    }
    while (answered < asked) steps.push(answer(`-${['ASK', 'BUSY', 'MOVED', 'OOM'][answered++ % 4]}\r\n`));
    for (const pair of ['GET ASK', 'SET BUSY', 'DEL MOVED', 'TTL OOM']) expected.add(pair);
    const outcome = run(...steps);
    expect(outcome.waiting).toBe(0);
    expect(outcome.lost).toBeGreaterThan(0);
    expect(outcome.over.length + outcome.lost).toBe(asked);
    expect(new Set(counted(outcome))).toEqual(expected);
  });

  it('remembers when each of many requests began, seconds apart too', () => {
    // a step of the driver is a microsecond; unseen bytes in the middle of a value take one each and are nothing else
    const outcome = run(
      ask(request('GET', 'a')),
      ask(request('GET', 'a')),
      ask(request('SET', 'a', 'b')),
      ask(request('SET', 'a', 'b')),
      answer('$-1\r\n'),
      ask(request('GET', 'b')),
      answer(`$-1\r\n${OK}${OK}$-1\r\n`),
    );
    expect(outcome.over.map(({ start, end }) => [start, end])).toEqual([
      [1, 5],
      [2, 7],
      [3, 7],
      [4, 7],
      [6, 7],
    ]);
    expect(outcome.over.map((o) => o.number)).toEqual([0, 1, 2, 3, 4]);
  });

  it('takes answers that are seen before their requests', () => {
    const three = Buffer.concat([request('SET', 'a', 'b'), request('GET', 'a'), request('GET', 'b')]);
    const outcome = run(
      answer(`${OK}$1\r\na\r\n`),
      { direction: 'request', pieces: [three], began: 1 },
      answer('$-1\r\n'),
      answer('+PONG\r\n', '-ERR x\r\n'),
      { direction: 'request', pieces: [request('PING'), request('GET')], began: 2 },
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(['SET OK', 'GET OK', 'GET OK', 'PING OK', 'GET ERR']);
    expect(outcome.over.map(({ start, end }) => [start, end])).toEqual([
      [1, 1],
      [1, 1],
      [1, 3],
      [3, 4],
      [3, 4],
    ]);
  });

  it('takes thousands of answers that are seen before their requests', () => {
    const outcome = run(answer(OK.repeat(3000)), {
      direction: 'request',
      pieces: [Buffer.concat(Array(3000).fill(request('SET', 'a', 'b')))],
      began: 1,
    });
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(outcome.over).toHaveLength(3000);
  });

  it('takes confirmations that are seen before SUBSCRIBE', () => {
    const outcome = run(
      answer(list('subscribe', 'a', 1), list('subscribe', 'b', 2)),
      { direction: 'request', pieces: [request('SUBSCRIBE', 'a', 'b')], began: 1 },
      answer(list('message', 'a', 'x')),
      ask(request('PING')),
      answer(list('pong', '')),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(['SUBSCRIBE OK', 'PING OK']);
  });
});

describe('what is not answered', () => {
  it('CLIENT REPLY OFF, until ON', () => {
    const outcome = run(
      ask(request('client', 'reply', 'off'), request('SET', 'a', 'b'), request('GET', 'a')),
      ask(request('CLIENT', 'REPLY', 'ON'), request('GET', 'a')),
      answer(`${OK}$1\r\nb\r\n`),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(['CLIENT ', 'SET ', 'GET ', 'CLIENT OK', 'GET OK']);
  });

  it('CLIENT REPLY SKIP, and the next request', () => {
    const outcome = run(
      ask(request('CLIENT', 'REPLY', 'SKIP'), request('SET', 'a', 'b'), request('GET', 'a')),
      answer('$1\r\nb\r\n'),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(['CLIENT ', 'SET ', 'GET OK']);
  });

  it('other forms of CLIENT are', () => {
    const outcome = run(
      ask(request('CLIENT', 'SETNAME', 'OFF'), request('CLIENT', 'ID')),
      answer(`${OK}:3\r\n`),
    );
    expect(counted(outcome)).toEqual(['CLIENT OK', 'CLIENT OK']);
  });

  it('empty lines and empty lists', () => {
    const outcome = run(ask('\r\n*0\r\n\n*-1\r\nPING\r\n'), answer('+PONG\r\n'));
    expect(counted(outcome)).toEqual(['PING OK']);
    expect(outcome.waiting).toBe(0);
  });

  it('what waits when the connection ends', () => {
    const outcome = run(ask(request('BLPOP', 'a', '0'), request('GET', 'b')), 'close', 'close');
    expect(counted(outcome)).toEqual(['BLPOP  !1', 'GET  !1']);
    expect(outcome.over[0]).toMatchObject({ start: 1, end: 2 });
  });

  it('a replica: from PSYNC on the server asks', () => {
    const outcome = run(
      ask(request('REPLCONF', 'capa', 'eof')),
      answer(OK),
      ask(request('PSYNC', '?', '-1')),
      answer('+FULLRESYNC 0123456789012345678901234567890123456789 0\r\n$5\r\nREDIS*1\r\n$4\r\nPING\r\n'),
    );
    expect(counted(outcome)).toEqual(['REPLCONF OK', 'PSYNC ']);
    expect(outcome.flags & LEFT).toBe(LEFT);
    expect(outcome.lost).toBe(0);
  });
});

describe('transactions', () => {
  it('queued ones say so, EXEC what became of it', () => {
    const outcome = run(
      ask(
        request('MULTI'),
        request('SET', 'a', 'b'),
        request('LPUSH', 'a', 'c'),
        request('EXEC'),
        request('PING'),
      ),
      answer(`${OK}+QUEUED\r\n+QUEUED\r\n*2\r\n${OK}-WRONGTYPE Operation against\r\n+PONG\r\n`),
    );
    expect(counted(outcome)).toEqual(['MULTI OK', 'SET QUEUED', 'LPUSH QUEUED', 'EXEC WRONGTYPE', 'PING OK']);
  });

  it('aborted', () => {
    const outcome = run(
      ask(request('MULTI'), request('NOSUCH'), request('EXEC')),
      answer(`${OK}-ERR unknown command\r\n-EXECABORT Transaction discarded\r\n`),
    );
    expect(counted(outcome)).toEqual(['MULTI OK', '_OTHER ERR', 'EXEC EXECABORT']);
  });
});

describe('databases', () => {
  const databases = (outcome: Outcome): string[] => outcome.over.map((o) => `${o.command} ${o.database}`);

  it('SELECT counts from its answer on, and only where that is OK', () => {
    const outcome = run(
      ask(
        request('GET', 'a'),
        request('SELECT', '3'),
        request('GET', 'a'),
        request('SELECT', '99'),
        request('GET', 'a'),
      ),
      answer(`$-1\r\n${OK}$-1\r\n-ERR DB index is out of range\r\n$-1\r\n`),
    );
    expect(databases(outcome)).toEqual(['GET 0', 'SELECT 0', 'GET 3', 'SELECT 3', 'GET 3']);
  });

  it('in a transaction it waits for EXEC', () => {
    const outcome = run(
      ask(request('MULTI'), request('SELECT', '2'), request('EXEC'), request('PING')),
      answer(`${OK}+QUEUED\r\n*1\r\n${OK}+PONG\r\n`),
      ask(request('MULTI'), request('SELECT', '7'), request('DISCARD'), request('PING')),
      answer(`${OK}+QUEUED\r\n${OK}+PONG\r\n`),
      ask(request('WATCH', 'a'), request('MULTI'), request('SELECT', '8'), request('EXEC'), request('PING')),
      answer(`${OK}${OK}+QUEUED\r\n*-1\r\n+PONG\r\n`),
    );
    expect(databases(outcome).filter((text) => text.startsWith('PING'))).toEqual([
      'PING 2',
      'PING 2',
      'PING 2',
    ]);
  });

  it('nobody knows which after an EXEC with errors, until the next SELECT; RESET goes back to 0', () => {
    const outcome = run(
      ask(request('MULTI'), request('SELECT', '2'), request('INCR', 'a'), request('EXEC'), request('PING')),
      answer(`${OK}+QUEUED\r\n+QUEUED\r\n*2\r\n${OK}-ERR value is not an integer\r\n+PONG\r\n`),
      ask(request('SELECT', '4'), request('PING'), request('RESET'), request('PING')),
      answer(`${OK}+PONG\r\n+RESET\r\n+PONG\r\n`),
    );
    expect(databases(outcome).filter((text) => text.startsWith('PING'))).toEqual([
      'PING -1',
      'PING 4',
      'PING 0',
    ]);
  });

  it('is not known where the connection was joined midway', () => {
    const outcome = run('midway', ask(request('GET', 'a')), answer('$-1\r\n'));
    expect(databases(outcome)).toEqual(['GET -1']);
  });
});

describe('what the server says by itself', () => {
  it('messages of RESP2, between the answers to what is allowed there', () => {
    const outcome = run(
      ask(request('SUBSCRIBE', 'a', 'b')),
      answer(list('subscribe', 'a', 1), list('subscribe', 'b', 2), list('message', 'a', 'PING')),
      ask(request('PING')),
      answer(list('message', 'b', '*1'), list('pong', ''), list('message', 'b', 'x')),
      ask(request('UNSUBSCRIBE')),
      answer(list('message', 'b', 'y'), list('unsubscribe', 'a', 1), list('unsubscribe', 'b', 0)),
      ask(request('LRANGE', 'list', '0', '-1')),
      answer(list('message', 'is', 'data')),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(['SUBSCRIBE OK', 'PING OK', 'UNSUBSCRIBE OK', 'LRANGE OK']);
  });

  it('messages and invalidations of RESP3', () => {
    const outcome = run(
      ask(request('HELLO', '3')),
      answer('%1\r\n$5\r\nproto\r\n:3\r\n'),
      ask(request('SUBSCRIBE', 'a'), request('PSUBSCRIBE', 'b*'), request('GET', 'k')),
      answer(push('subscribe', 'a', 1), push('psubscribe', 'b*', 2), '_\r\n'),
      answer(push('message', 'a', 'x'), push('invalidate', 'k')),
      ask(request('UNSUBSCRIBE'), request('PUNSUBSCRIBE', 'b*'), request('GET', 'k')),
      answer(push('unsubscribe', 'a', 1), push('message', 'a', 'y'), push('punsubscribe', 'b*', 0), ':1\r\n'),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(
      ['HELLO', 'SUBSCRIBE', 'PSUBSCRIBE', 'GET', 'UNSUBSCRIBE', 'PUNSUBSCRIBE', 'GET'].map(
        (name) => `${name} OK`,
      ),
    );
  });

  it('lists that only look like confirmations are answers', () => {
    const outcome = run(
      ask(request('LRANGE', 'l', '0', '-1'), request('GET', 'a')),
      answer(list('subscribe', 'a', 1), '$-1\r\n'),
    );
    expect(counted(outcome)).toEqual(['LRANGE OK', 'GET OK']);
  });

  it('unsubscribing from nothing is confirmed once', () => {
    const outcome = run(
      ask(request('UNSUBSCRIBE'), request('PUNSUBSCRIBE'), request('SUNSUBSCRIBE'), request('PING')),
      answer(
        list('unsubscribe', null, 0),
        list('punsubscribe', null, 0),
        list('sunsubscribe', null, 0),
        '+PONG\r\n',
      ),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(outcome.over).toHaveLength(4);
  });

  it('the end of a subscription to a shard that nobody asked for', () => {
    const outcome = run(
      ask(request('SSUBSCRIBE', 'a', 'b')),
      answer(list('ssubscribe', 'a', 1), list('ssubscribe', 'b', 2)),
      answer(list('sunsubscribe', 'a', 1)),
      ask(request('SUNSUBSCRIBE', 'b')),
      answer(list('sunsubscribe', 'b', 0)),
      ask(request('GET', 'a')),
      answer('$-1\r\n'),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(['SSUBSCRIBE OK', 'SUNSUBSCRIBE OK', 'GET OK']);
  });

  it('a SUBSCRIBE that is refused has one answer', () => {
    const outcome = run(
      ask(request('SUBSCRIBE', 'a', 'b', 'c'), request('PING')),
      answer('-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n'),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(['SUBSCRIBE NOAUTH', 'PING NOAUTH']);
  });

  it("other clients' requests behind MONITOR, until RESET", () => {
    const outcome = run(
      ask(request('MONITOR')),
      answer(`${OK}+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"\r\n`),
      ask(request('PING')),
      answer('+1339518087.877697 [0 127.0.0.1:60866] "dbsize"\r\n+PONG\r\n'),
      ask(request('RESET'), request('ECHO', '1')),
      answer('+1339518090.420270 [0 127.0.0.1:60866] "set" "x" "6"\r\n+RESET\r\n$1\r\n1\r\n'),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(counted(outcome)).toEqual(['MONITOR OK', 'PING OK', 'RESET OK', 'ECHO OK']);
  });
});

describe('errors', () => {
  it.each(['WRONGTYPE', 'NOAUTH', 'MOVED', 'ASK', 'CROSSSLOT', 'ERR', 'LOADING', 'EXECABORT'])(
    '%s',
    (word) => {
      expect(counted(run(ask(request('GET', 'a')), answer(`-${word} and more\r\n`)))).toEqual([
        `GET ${word}`,
      ]);
      expect(counted(run(ask(request('GET', 'a')), answer(`!${word.length + 2}\r\n${word} x\r\n`)))).toEqual([
        `GET ${word}`,
      ]);
      expect(counted(run(ask(request('GET', 'a')), answer(`-${word}\r\n`)))).toEqual([`GET ${word}`]);
    },
  );
});

describe('values', () => {
  it('are stepped over by their length, seen or not', () => {
    const huge = 512 * 1024 * 1024;
    const outcome = run(
      ask(`*3\r\n$3\r\nSET\r\n$1\r\na\r\n$${huge}\r\nabc`),
      { unseen: 'request', bytes: huge - 3 },
      ask('\r\n'),
      answer(OK),
      ask(request('GET', 'a')),
      answer(`$${huge}\r\n`),
      { unseen: 'answer', bytes: huge },
      answer('\r\n'),
    );
    expect(outcome).toMatchObject({ lost: 0, waiting: 0 });
    expect(outcome.over).toMatchObject([
      { command: 'SET', start: 1, end: 4 },
      { command: 'GET', start: 5, first: 6, end: 8 },
    ]);
  });

  it('lists within lists, however deep', () => {
    const deep = '*1\r\n'.repeat(100_000);
    const outcome = run(ask(request('EVAL', 'x', '0'), request('PING')), answer(`${deep}:1\r\n+PONG\r\n`));
    expect(counted(outcome)).toEqual(['EVAL OK', 'PING OK']);
  });
});

describe('what cannot be understood', () => {
  it('is lost until the next request that can', () => {
    const outcome = run(
      ask(request('GET', 'a')),
      answer('$-1\r\n'),
      ask(request('GET', 'a'), request('GET', 'b')),
      answer('nonsense\r\n'),
      ask(request('SET', 'a', 'b')),
      answer(OK),
    );
    expect(counted(outcome)).toEqual(['GET OK', 'SET OK']);
    expect(outcome).toMatchObject({ lost: 2, joined: 1, waiting: 0 });
  });

  it('bytes that pass unseen between messages desynchronise', () => {
    const outcome = run(ask(request('GET', 'a')), answer('$-1\r\n'), ask(request('GET', 'a')), {
      unseen: 'answer',
      bytes: 5,
    });
    expect(outcome.flags & RESYNC).toBe(RESYNC);
    expect(outcome.lost).toBe(1);
  });

  it.each([
    ['*1\r\n:5\r\n'],
    ['*x\r\n'],
    ['*1\r\n$-1\r\n'],
    ['*1\r\n$4 \r\nPING\r\n'],
    ['*99999999999\r\n'],
    ['"PING\r\n'],
  ])('the request %j', (bytes) => {
    const outcome = run(ask(request('GET', 'a')), answer('$-1\r\n'), ask(bytes));
    expect(outcome.flags & RESYNC).toBe(RESYNC);
    expect(outcome.lost).toBe(1);
  });

  it('surplus answers are no answers to what is asked later', () => {
    const outcome = run(
      ask(request('GET', 'a')),
      answer('$-1\r\n'),
      answer(`${OK}-ERR nobody asked\r\n`),
      ask(request('GET', 'b')),
      answer('$1\r\nx\r\n'),
    );
    expect(counted(outcome)).toEqual(['GET OK', 'GET OK']);
    expect(outcome).toMatchObject({ lost: 2, waiting: 0 });
  });

  it('a line that is no command of Redis is of some other protocol', () => {
    expect(run(ask('HELO example.org\r\n'), answer('250 ok\r\n'))).toMatchObject({ over: [], lost: 0 });
    expect(run(ask('get a\r\n'), answer('VALUE a 0 1\r\nx\r\nEND\r\n'))).toMatchObject({ over: [], lost: 0 });
  });
});
