// The HTTP/1 logic of bpf/ in user mode: compared with Node's own parser on generated traffic cut in every place,
// and one test for each corner of the protocol.
import { beforeAll, describe, expect, it } from 'vitest';
import { buildDriver, type Exchange, type Outcome, runConversations, type Step } from './driver.ts';
import { methodNumber, referenceMessages } from './llhttp.ts';
import { conversation, type Message, random } from './traffic.ts';

const TUNNEL = 2;

beforeAll(() => buildDriver(), 120_000);

const bytes = (text: string) => Buffer.from(text, 'latin1');
const ask = (...texts: string[]): Step => ({ direction: 'request', pieces: texts.map(bytes) });
const answer = (...texts: string[]): Step => ({ direction: 'response', pieces: texts.map(bytes) });

function run(...steps: Step[]): Outcome {
  const [outcome] = runConversations([steps]);
  if (!outcome) throw new Error('no outcome');
  return outcome;
}

/** FNV-1a 64 over the path as bpf/http1_parser.h describes it, written from that description. */
function pathHash(path: string): string {
  const fnv = (hash: bigint, byte: number) => BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  const cut = path.length > 192;
  const segments = (cut ? path.slice(0, 192) : path).split('/');
  let hash = 0xcbf29ce484222325n;
  for (const [i, segment] of segments.entries()) {
    if (i > 0) hash = fnv(hash, 0x2f);
    const isId =
      /^[0-9]+$/.test(segment) ||
      (segment.length >= 16 && /^[0-9a-f-]+$/i.test(segment) && /[0-9]/.test(segment));
    if (cut && i === segments.length - 1) hash = fnv(hash, 2);
    else if (isId) hash = fnv(hash, 1);
    else for (const byte of bytes(segment)) hash = fnv(hash, byte);
  }
  return hash.toString(16).padStart(16, '0');
}

function pathOf(url: string): string {
  const path = url.replace(/^https?:\/\/[^/?#]*/, '').replace(/[?#].*$/s, '');
  return path === '' ? '/' : path;
}

type Expected = Pick<Exchange, 'method' | 'status' | 'hash' | 'minor' | 'request' | 'response' | 'error'>;

function expectedOf(messages: readonly Message[]): Expected[] {
  // A parser for each message: this one takes no bytes behind an HTTP/1.0 message.
  const requests = messages.flatMap((m) => referenceMessages('request', m.request));
  const responses = messages.flatMap((m) =>
    referenceMessages('response', m.response, () => m.method === 'HEAD'),
  );
  if (requests.length !== messages.length || responses.length !== messages.length)
    throw new Error(`the reference saw ${requests.length}/${responses.length} of ${messages.length}`);
  return requests.map((r, i) => ({
    method: methodNumber(r.method),
    status: responses[i]?.status ?? 0,
    hash: pathHash(pathOf(r.url)),
    minor: 48 + r.minor,
    request: r.body,
    response: responses[i]?.body ?? 0,
    error: 0,
  }));
}

const comparable = (e: Exchange): Expected => ({
  method: e.method,
  status: e.status,
  hash: e.hash,
  minor: e.minor,
  request: e.request,
  response: e.response,
  error: e.error,
});

/** Steps of a conversation; `cut` says where to cut a message, as sorted offsets. */
function steps(messages: readonly Message[], cut: (message: Buffer, index: number) => number[]): Step[] {
  const pieces = (message: Buffer, index: number) => {
    const at = [0, ...cut(message, index), message.length];
    return at.slice(1).map((end, i) => message.subarray(at[i], end));
  };
  return messages.flatMap((m, i) => [
    ...pieces(m.request, 2 * i).map((p): Step => ({ direction: 'request', pieces: [p] })),
    ...pieces(m.response, 2 * i + 1).map((p): Step => ({ direction: 'response', pieces: [p] })),
  ]);
}

function compareAll(cases: { steps: Step[]; expected: Expected[]; name: string }[]): void {
  const outcomes = runConversations(cases.map((c) => c.steps));
  expect(outcomes).toHaveLength(cases.length);
  for (const [i, c] of cases.entries()) {
    const outcome = outcomes[i] as Outcome;
    expect({ name: c.name, lost: outcome.lost, exchanges: outcome.exchanges.map(comparable) }).toEqual({
      name: c.name,
      lost: 0,
      exchanges: c.expected,
    });
  }
}

describe("compared with Node's parser", () => {
  it('agrees on whole messages of 2000 conversations', () => {
    compareAll(
      Array.from({ length: 2000 }, (_, seed) => {
        const messages = conversation(seed, 5);
        return { steps: steps(messages, () => []), expected: expectedOf(messages), name: `seed ${seed}` };
      }),
    );
  });

  it('agrees wherever a message is cut in two', () => {
    for (let seed = 5000; seed < 5025; seed++) {
      const messages = conversation(seed, 2);
      const expected = expectedOf(messages);
      const longest = Math.max(...messages.flatMap((m) => [m.request.length, m.response.length]));
      compareAll(
        Array.from({ length: longest - 1 }, (_, i) => ({
          steps: steps(messages, (message) => (i + 1 < message.length ? [i + 1] : [])),
          expected,
          name: `seed ${seed} cut at ${i + 1}`,
        })),
      );
    }
  });

  it('agrees byte by byte', () => {
    compareAll(
      Array.from({ length: 60 }, (_, i) => {
        const messages = conversation(9000 + i, 2);
        return {
          steps: steps(messages, (m) => Array.from({ length: m.length - 1 }, (_, at) => at + 1)),
          expected: expectedOf(messages),
          name: `seed ${9000 + i}`,
        };
      }),
    );
  });

  it('agrees on random calls of random iovecs, pipelined or not, answers seen late or early', () => {
    compareAll(
      Array.from({ length: 1500 }, (_, i) => {
        const pick = random(i + 77);
        const messages = conversation(20_000 + i, 1 + pick(6));
        const calls = (stream: Buffer, direction: 'request' | 'response'): Step[] => {
          const out: Step[] = [];
          for (let at = 0; at < stream.length; ) {
            const pieces: Buffer[] = [];
            for (let n = pick(4); n >= 0 && at < stream.length; n--) {
              const size = pick(3) === 0 ? pick(4) : pick(700);
              pieces.push(stream.subarray(at, at + size));
              at += size;
            }
            out.push({ direction, pieces });
          }
          return out;
        };
        const pipelined = pick(2) === 0;
        const groups = pipelined ? [messages] : messages.map((m) => [m]);
        const all = groups.flatMap((group) => [
          ...calls(Buffer.concat(group.map((m) => m.request)), 'request'),
          ...calls(Buffer.concat(group.map((m) => m.response)), 'response'),
        ]);
        return { steps: all, expected: expectedOf(messages), name: `seed ${i}` };
      }),
    );
  });

  it('agrees when every answer is seen before its request', () => {
    compareAll(
      Array.from({ length: 500 }, (_, i) => {
        const messages = conversation(40_000 + i, 4).filter((m) => m.method !== 'HEAD');
        return {
          steps: messages.flatMap((m): Step[] => [
            { direction: 'response', pieces: [m.response] },
            { direction: 'request', pieces: [m.request] },
          ]),
          expected: expectedOf(messages),
          name: `seed ${i}`,
        };
      }),
    );
  });
});

describe('corners', () => {
  const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';
  const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

  it('takes times from the first byte of the request, the first and the last byte of the answer', () => {
    const outcome = run(
      ask('GET'),
      ask(' / HTTP/1.1\r\n\r\n'),
      answer('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n'),
      answer('ab'),
      answer('cd'),
    );
    expect(outcome.exchanges).toMatchObject([{ start: 1, first: 3, end: 5 }]);
  });

  it('takes the first byte of the final answer, not of an interim one', () => {
    const outcome = run(ask(GET), answer('HTTP/1.1 100 Continue\r\n\r\n'), answer(OK));
    expect(outcome.exchanges).toMatchObject([{ status: 200, start: 1, first: 3, end: 3 }]);
  });

  it('knows the answer to HEAD by its request, also when the answer is seen first', () => {
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n';
    const late = run(ask('HEAD /a HTTP/1.1\r\n\r\n'), answer(head), ask(GET), answer(OK));
    expect(late.exchanges).toMatchObject([
      { method: 2, response: 0 },
      { method: 1, response: 2 },
    ]);
    const early = run(answer(head), ask('HEAD /a HTTP/1.1\r\n\r\n'), ask(GET), answer(OK));
    expect(early.exchanges).toMatchObject([
      { method: 2, status: 200, response: 0 },
      { method: 1, response: 2 },
    ]);
  });

  it('waits for the body of an answer that is seen before its GET', () => {
    const outcome = run(answer('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n'), ask(GET), answer('ok'));
    expect(outcome.exchanges).toMatchObject([{ method: 1, response: 2, end: 3 }]);
  });

  it('ends a close-delimited answer at its last byte', () => {
    const outcome = run(
      ask('GET / HTTP/1.0\r\n\r\n'),
      answer('HTTP/1.0 200 OK\r\n\r\nab'),
      answer('cde'),
      'close',
    );
    expect(outcome.exchanges).toMatchObject([{ status: 200, response: 5, error: 0, minor: 48, end: 3 }]);
  });

  it('says which: no answer, or one that broke off', () => {
    expect(run(ask(GET), 'close').exchanges).toMatchObject([{ status: 0, error: 1 }]);
    const broken = run(ask(GET), answer('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'), 'close');
    expect(broken.exchanges).toMatchObject([{ status: 200, error: 4, response: 3 }]);
    const chunk = run(
      ask(GET),
      answer('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc'),
      'close',
    );
    expect(chunk.exchanges).toMatchObject([{ status: 200, error: 4, response: 3 }]);
  });

  it('stops at 101 and at CONNECT, and not at a refused CONNECT', () => {
    const upgraded = run(
      ask('GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n'),
      answer('HTTP/1.1 101 Switching\r\n\r\n\x81\x05hello'),
      ask('GET / HTTP/1.1\r\n\r\n'),
      'close',
    );
    expect(upgraded.exchanges).toMatchObject([{ status: 101, error: 0 }]);
    expect(upgraded.flags & TUNNEL).toBe(TUNNEL);
    const connected = run(
      ask('CONNECT h:443 HTTP/1.1\r\n\r\n'),
      answer('HTTP/1.1 200 OK\r\n\r\n'),
      ask('\x16\x03'),
      'close',
    );
    expect(connected.exchanges).toMatchObject([{ method: 6, status: 200 }]);
    expect(connected).toMatchObject({ lost: 0 });
    const refused = run(
      ask('CONNECT h:443 HTTP/1.1\r\n\r\n'),
      answer('HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n'),
      ask(GET),
      answer(OK),
    );
    expect(refused.exchanges).toMatchObject([
      { method: 6, status: 403 },
      { method: 1, status: 200 },
    ]);
  });

  it('does not take tunnelled bytes for a broken request when the answer to CONNECT is seen late', () => {
    const outcome = run(
      ask('CONNECT h:443 HTTP/1.1\r\n\r\n'),
      ask('\x16\x03\x01junk'),
      answer('HTTP/1.1 200 OK\r\n\r\n'),
    );
    expect(outcome.exchanges).toMatchObject([{ method: 6, status: 200 }]);
    expect(outcome.lost).toBe(0);
  });

  it('gives an early answer to a request whose body is still under way', () => {
    const outcome = run(
      ask('POST /f HTTP/1.1\r\nContent-Length: 10\r\n\r\n123'),
      answer('HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n'),
      ask('4567890'),
      ask(GET),
      answer(OK),
    );
    expect(outcome.exchanges).toMatchObject([{ status: 413, request: 10 }, { status: 200 }]);
  });

  it('gives what comes late for a request that ended as idle to no other', () => {
    const created = answer('HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok');
    const more = Array.from({ length: 17 }, () => [ask(GET), created]).flat();
    const statuses = (outcome: Outcome) => outcome.exchanges.map((e) => [e.status, e.error]);
    const good = Array.from({ length: 17 }, () => [201, 0]);
    const stream = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n';
    const stalled = run(ask(GET), answer(stream), 'idle', answer('0\r\n\r\n'), ...more);
    expect(statuses(stalled)).toEqual([[200, 5], ...good]);
    expect(stalled.lost).toBe(0);
    const late = run(ask(GET), 'idle', answer(OK), ...more);
    expect(statuses(late)).toEqual([[0, 5], ...good]);
    expect(late.lost).toBe(0);
    const head = answer('HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n');
    expect(statuses(run(ask('HEAD / HTTP/1.1\r\n\r\n'), 'idle', head, ...more))).toEqual([[0, 5], ...good]);
    const upload = run(
      ask('POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n'),
      answer(OK),
      'idle',
      ask('0\r\n\r\n'),
      ...more,
      'close',
    );
    expect(statuses(upload)).toEqual([[200, 0], ...good]);
    expect(upload.lost).toBe(0);
    expect(statuses(run(ask(GET), 'idle', 'idle', 'close'))).toEqual([[0, 5]]);
  });

  it('gives an answer that was outstanding when the connection was joined to no request that came later', () => {
    const status = (code: number) => answer(`HTTP/1.1 ${code} R\r\nContent-Length: 2\r\n\r\nok`);
    const get = (path: string) => ask(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
    const seen = (...steps: Step[]) => {
      const outcome = run('midway', ...steps);
      return { statuses: outcome.exchanges.map((e) => e.status), lost: outcome.lost };
    };
    // /a was asked before, and answered 500
    expect(seen(get('/b'), status(500), status(201), get('/c'), status(202), get('/d'), status(203))).toEqual(
      {
        statuses: [202, 203],
        lost: 1,
      },
    );
    expect(
      seen(get('/b'), get('/c'), status(500), status(201), status(202), get('/d'), status(203), get('/e')),
    ).toEqual({
      statuses: [203],
      lost: 2,
    });
    expect(seen(get('/b'), status(500), 'close')).toEqual({ statuses: [], lost: 1 });
    expect(seen(get('/b'), 'close')).toEqual({ statuses: [0], lost: 0 }); // no answer, whoever's
    // nothing was outstanding
    expect(seen(get('/b'), status(201), get('/c'), status(202), get('/d'), status(203))).toEqual({
      statuses: [201, 202, 203],
      lost: 0,
    });
    expect(seen(get('/b'), get('/c'), status(201), status(202), get('/d'), status(203))).toEqual({
      statuses: [201, 202, 203],
      lost: 0,
    });
    // the same after a loss, of which it is known how many were waiting
    const after = run(
      get('/a'),
      get('/b'),
      ask('nonsense\r\n\r\n'),
      get('/c'),
      status(500),
      status(201),
      status(202),
      get('/d'),
      status(203),
      get('/e'),
      status(204),
    );
    expect(after.exchanges.map((e) => e.status)).not.toContain(500);
    expect(after.exchanges.map((e) => e.status)).toContain(203);
  });

  it('counts pipelined requests up to the depth of its queue, and loses those beyond one by one', () => {
    const statuses = (outcome: Outcome) => outcome.exchanges.map((e) => e.status);
    const asked = (from: number, to: number, more = '') =>
      Array.from({ length: to - from }, (_, i) => `GET /p HTTP/1.1\r\nX: ${from + i}\r\n${more}\r\n`).join(
        '',
      );
    const ok = (from: number, to: number, more = '') =>
      Array.from(
        { length: to - from },
        (_, i) => `HTTP/1.1 ${500 + from + i} R\r\nContent-Length: 2\r\n${more}\r\nok`,
      );
    const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => 500 + from + i);
    const answers = (from: number, to: number) => answer(ok(from, to).join(''));
    for (const depth of [16, 17, 32, 33, 100]) {
      const deep = run(
        ask(asked(0, depth)),
        answers(0, depth),
        ask(asked(depth, depth + 40)),
        answers(depth, depth + 40),
      );
      expect(statuses(deep)).toEqual([...numbers(0, 16), ...numbers(depth, depth + 16)]);
      expect(deep.lost).toBe(depth - 16 + 24);
      const apart = run(
        ask(asked(0, depth)),
        ...ok(0, depth).map((text) => answer(text)),
        ask(GET),
        answers(300, 301),
      );
      expect(statuses(apart)).toEqual([...numbers(0, 16), 800]);
      expect(apart.lost).toBe(depth - 16);
    }
    // 20 are under way all the time: who finds a place is counted, with its own answer
    const rolling = run(
      ask(asked(0, 20)),
      ...Array.from({ length: 200 }, (_, i) => [answers(i, i + 1), ask(asked(20 + i, 21 + i))]).flat(),
    );
    const counted = statuses(rolling);
    expect(counted).toEqual([...new Set(counted)].sort((a, b) => a - b));
    const lost = numbers(0, 200).filter((status) => !counted.includes(status));
    expect(rolling.exchanges.length + lost.length).toBe(200);
  });

  it('knows which answer beyond the depth of its queue has no body, and gives up where it cannot', () => {
    const head = 'HEAD /h HTTP/1.1\r\n\r\n';
    const toHead = 'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n';
    const upload = 'POST /u HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n';
    const known = run(
      ask(GET.repeat(16) + head + upload + head),
      answer(OK.repeat(16) + toHead + OK + toHead),
      ask(head),
      answer('HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n'),
      ask(GET),
      answer(OK),
    );
    expect(known.exchanges.map((e) => e.status)).toEqual([...Array<number>(16).fill(200), 201, 200]);
    expect(known.lost).toBe(3);
    const far = run(
      ask(GET.repeat(80) + head),
      answer(OK.repeat(80) + toHead),
      ask(GET),
      answer(OK),
      ask(GET),
      answer(OK),
    );
    expect(far.exchanges).toHaveLength(2);
    expect(far.lost).toBe(81);
  });

  it('steps over body bytes that no hook showed, and is lost when they were headers', () => {
    const body = run(
      ask(GET),
      answer('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n'),
      { unseen: 'response', bytes: 1000 },
      ask(GET),
      answer(OK),
    );
    expect(body.exchanges).toMatchObject([{ response: 1000 }, { response: 2 }]);
    expect(body.lost).toBe(0);
    const headers = run(ask(GET), { unseen: 'response', bytes: 50 }, ask(GET), answer(OK));
    expect(headers.lost).toBe(1);
    expect(headers.exchanges).toMatchObject([{ status: 200, response: 2 }]);
  });

  it('bytes of a body that no hook showed, in the middle or at the end, of a request or an answer, lose nothing', () => {
    const head = 'Content-Length: 1000\r\n\r\n';
    const chunk = '3e8\r\n';
    for (const [before, unseen] of [
      [0, 1000],
      [0, 600],
      [300, 600],
      [300, 700],
    ] as const) {
      const seen = (length: number) => 'x'.repeat(length);
      const rest = 1000 - before - unseen;
      const both: Step[] = [
        ask(`POST /a HTTP/1.1\r\n${head}${seen(before)}`),
        { unseen: 'request', bytes: unseen },
        ...(rest ? [ask(seen(rest))] : []),
        answer(`HTTP/1.1 201 Created\r\n${head}${seen(before)}`),
        { unseen: 'response', bytes: unseen },
        ...(rest ? [answer(seen(rest))] : []),
        ask(`POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}${seen(before)}`),
        { unseen: 'request', bytes: unseen },
        ask(`${seen(rest)}\r\n0\r\n\r\n`),
        answer(`HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}${seen(before)}`),
        { unseen: 'response', bytes: unseen },
        answer(`${seen(rest)}\r\n0\r\n\r\n`),
      ];
      const outcome = run(...both, ...both, ask(GET), answer(OK));
      expect(outcome).toMatchObject({ lost: 0, flags: 4 });
      expect(outcome.exchanges.map((e) => [e.status, e.request, e.response])).toEqual([
        [201, 1000, 1000],
        [202, 1000, 1000],
        [201, 1000, 1000],
        [202, 1000, 1000],
        [200, 0, 2],
      ]);
    }
  });

  it('ten thousand small chunks in one call, however they lie in memory', () => {
    const head = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
    const chunks = (count: number, size: number) =>
      Array.from({ length: count }, () => [`${size.toString(16)}\r\n`, 'x'.repeat(size), '\r\n']).flat();
    const end = '0\r\n\r\n';
    for (const [count, size, answered] of [
      [10_000, 45, [head + chunks(10_000, 45).join('') + end]],
      [40_000, 1, [head + chunks(40_000, 1).join('') + end]],
      [2000, 400, [head + chunks(2000, 400).join('') + end]],
      [340, 45, [head, ...chunks(340, 45), end]], // 1024 pieces are the most that a call has
      [340, 0x1000, [head, ...chunks(340, 0x1000), end]],
      [1, 900, [head, '384\r\n', ...Array.from({ length: 900 }, () => 'y'), `\r\n${end}`]],
    ] as const) {
      const outcome = run(ask(GET), answer(...answered), ask(GET), answer(OK));
      expect(outcome).toMatchObject({ lost: 0, exchanges: [{ response: count * size }, { response: 2 }] });
      const asked = answered.map((piece) => piece.replace('HTTP/1.1 200 OK', 'POST /x HTTP/1.1'));
      const upload = run(ask(...asked), answer(OK), ask(GET), answer(OK));
      expect(upload).toMatchObject({ lost: 0, exchanges: [{ request: count * size }, { request: 0 }] });
    }
  });

  it('a body in a thousand pieces of memory, and the next answer behind it', () => {
    const outcome = run(
      ask(GET, GET),
      answer(
        'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n',
        ...Array.from({ length: 1000 }, () => 'y'),
        '',
        OK,
      ),
    );
    expect(outcome).toMatchObject({ lost: 0, exchanges: [{ response: 1000 }, { response: 2 }] });
  });

  it('is taken up again at the next request line after it was lost', () => {
    const outcome = run(
      ask(GET),
      answer('nonsense'),
      answer('more'),
      ask('\x01\x02'),
      ask(GET),
      answer(OK),
      ask(GET),
      answer(OK),
    );
    expect(outcome.lost).toBe(1);
    expect(outcome.exchanges).toMatchObject([
      { start: 5, end: 6 },
      { start: 7, end: 8 },
    ]);
  });

  it('refuses what makes framing ambiguous', () => {
    for (const fields of [
      'Content-Length: 5\r\nContent-Length: 6',
      'Content-Length: 5, 5',
      'Content-Length: -1',
      'Content-Length: ',
      'Content-Length: 99999999999999999999',
      'Transfer-Encoding: gzip',
    ])
      expect(run(ask(`POST / HTTP/1.1\r\n${fields}\r\n\r\n`), answer(OK)), fields).toMatchObject({
        lost: 1,
        exchanges: [],
      });
    const twice = run(ask('POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab'), answer(OK));
    expect(twice.exchanges).toMatchObject([{ request: 2 }]);
    const both = run(
      ask('POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n'),
      answer(OK),
    );
    expect(both.exchanges).toMatchObject([{ request: 1 }]);
  });

  it('leaves other protocols alone', () => {
    for (const first of [
      'SSH-2.0-OpenSSH_9.2\r\n',
      '\x16\x03\x01\x02',
      '*1\r\n$4\r\nPING\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'GET key\r\n',
      'EHLO example\r\n',
      'GET / HTTP/1.1x\r\n\r\n',
      'G(T / HTTP/1.1\r\n\r\n',
      `${'M'.repeat(65)} / HTTP/1.1\r\n\r\n`,
      ' / HTTP/1.1\r\n\r\n',
      'word after word after word',
    ])
      expect(run(ask(first), answer('+OK\r\n'), 'close'), first).toMatchObject({ exchanges: [], lost: 0 });
  });

  it('takes any token for a method, wherever the line is cut, and tells it from what is none', () => {
    const other = methodNumber('PROPFIND');
    const methods = [
      'RPC_IN_DATA',
      'CCM_POST',
      'X',
      'get',
      'M-SEARCH',
      "!#$%&'*+-.^_`|~09az",
      'M'.repeat(64),
    ];
    for (const method of methods)
      for (const target of ['/a', '*', 'http://h.example/a', `/${'long/'.repeat(80)}`]) {
        const line = `${method} ${target} HTTP/1.1\r\nHost: a\r\n\r\n`;
        const places = line.split('').flatMap((_, i) => (i < 90 || i % 16 === 0 ? [i] : []));
        const cuts = places.map((i) => [
          ask(...[line.slice(0, i), line.slice(i)].filter((piece) => piece !== '')),
          ...(i ? [ask(line.slice(0, i)), ask(line.slice(i))] : [ask(line)]),
          answer(OK, OK),
        ]);
        for (const outcome of runConversations(cuts))
          expect(outcome).toMatchObject({
            lost: 0,
            exchanges: [
              { method: other, status: 200 },
              { method: other, status: 200 },
            ],
          });
      }
  });

  it('hands out paths without query or fragment, however long, and hashes identifiers alike', () => {
    const outcome = run(
      ask('GET /users/1?token=secret HTTP/1.1\r\n\r\n'),
      answer(OK),
      ask('GET /users/2#f HTTP/1.1\r\n\r\n'),
      answer(OK),
      ask('GET http://h.example?secret HTTP/1.1\r\n\r\n'),
      answer(OK),
      ask('OPTIONS * HTTP/1.1\r\n\r\n'),
      answer(OK),
      ask(`GET /${'a'.repeat(400)}?x HTTP/1.1\r\n\r\n`),
      answer(OK),
      ask(`GET /${'a'.repeat(190)}${'b'.repeat(90)} HTTP/1.1\r\n\r\n`),
      answer(OK),
    );
    expect(outcome.paths.map((p) => p.path)).toEqual([
      '/users/1',
      '/users/2',
      '/',
      '*',
      `/${'a'.repeat(191)}`,
      `/${'a'.repeat(190)}b`,
    ]);
    expect(outcome.paths.map((p) => p.cut)).toEqual([0, 0, 0, 0, 1, 1]);
    const hashes = outcome.exchanges.map((e) => e.hash);
    expect(hashes[0]).toBe(hashes[1]);
    expect(hashes[4]).toBe(hashes[5]); // the last segment is cut: it says nothing
    expect(new Set(hashes).size).toBe(4);
  });

  it('finds trace context wherever it is cut', () => {
    const parent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    const text = `GET / HTTP/1.1\r\nTraceparent:  ${parent} \r\ntracestate:a=b,c=d\r\n\r\n`;
    const cuts = Array.from({ length: text.length - 1 }, (_, i) => [
      ask(text.slice(0, i + 1)),
      ask(text.slice(i + 1)),
      answer(OK),
    ]);
    for (const outcome of runConversations(cuts))
      expect(outcome).toMatchObject({ traceparent: [parent], tracestate: ['a=b,c=d'], lost: 0 });
  });

  it('accepts lines that end in a bare line feed and empty lines before a request', () => {
    const outcome = run(
      ask('\r\n\nGET /x HTTP/1.1\nHost: a\n\n'),
      answer('HTTP/1.1 200 OK\nContent-Length: 1\n\nx'),
    );
    expect(outcome.exchanges).toMatchObject([{ status: 200, response: 1 }]);
  });
});
