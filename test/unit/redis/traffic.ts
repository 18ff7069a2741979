// Redis conversations made by chance from a seed, with what is to be counted of them. The values are built first and
// written down by an encoder of their own, so that nothing here is shared with the parser that is tested.

/** A value of RESP2 or RESP3, as the specification names them. */
export type Value =
  | { readonly type: 'simple' | 'error' | 'number' | 'double' | 'big'; readonly text: string }
  | { readonly type: 'null' | 'null bulk' | 'null array' }
  | { readonly type: 'boolean'; readonly text: 't' | 'f' }
  | { readonly type: 'bulk' | 'bulk error' | 'verbatim' | 'streamed bulk'; readonly bytes: Buffer }
  | { readonly type: 'array' | 'set' | 'push' | 'streamed array' | 'streamed set'; readonly items: Value[] }
  | { readonly type: 'map' | 'streamed map'; readonly items: Value[] }
  | { readonly type: 'attribute'; readonly items: Value[]; readonly of: Value };

const MARK = { simple: '+', error: '-', number: ':', double: ',', big: '(', boolean: '#' } as const;
const LENGTH = { bulk: '$', 'bulk error': '!', verbatim: '=' } as const;
const LIST = { array: '*', set: '~', push: '>' } as const;
const STREAM = { 'streamed array': '*', 'streamed set': '~', 'streamed map': '%' } as const;

const latin = (text: string): Buffer => Buffer.from(text, 'latin1');

/** The bytes of a value. */
export function encode(value: Value): Buffer {
  switch (value.type) {
    case 'null':
      return latin('_\r\n');
    case 'null bulk':
      return latin('$-1\r\n');
    case 'null array':
      return latin('*-1\r\n');
    case 'bulk':
    case 'bulk error':
    case 'verbatim':
      return Buffer.concat([
        latin(`${LENGTH[value.type]}${value.bytes.length}\r\n`),
        value.bytes,
        latin('\r\n'),
      ]);
    case 'streamed bulk': {
      const half = value.bytes.length >> 1;
      const parts = [value.bytes.subarray(0, half), value.bytes.subarray(half)].filter((p) => p.length > 0);
      return Buffer.concat([
        latin('$?\r\n'),
        ...parts.flatMap((part) => [latin(`;${part.length}\r\n`), part, latin('\r\n')]),
        latin(';0\r\n'),
      ]);
    }
    case 'array':
    case 'set':
    case 'push':
      return Buffer.concat([
        latin(`${LIST[value.type]}${value.items.length}\r\n`),
        ...value.items.map(encode),
      ]);
    case 'map':
      return Buffer.concat([latin(`%${value.items.length / 2}\r\n`), ...value.items.map(encode)]);
    case 'streamed array':
    case 'streamed set':
    case 'streamed map':
      return Buffer.concat([latin(`${STREAM[value.type]}?\r\n`), ...value.items.map(encode), latin('.\r\n')]);
    case 'attribute':
      return Buffer.concat([
        latin(`|${value.items.length / 2}\r\n`),
        ...value.items.map(encode),
        encode(value.of),
      ]);
    default:
      return latin(`${MARK[value.type]}${value.text}\r\n`);
  }
}

/** A request as client libraries send it. */
export function request(...words: (string | Buffer)[]): Buffer {
  return encode({ type: 'array', items: words.map((w) => ({ type: 'bulk', bytes: Buffer.from(w) })) });
}

/** Numbers below a bound, the same for the same seed (mulberry32). */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const ERRORS = [
  'ERR',
  'WRONGTYPE',
  'MOVED',
  'ASK',
  'NOAUTH',
  'OOM',
  'LOADING',
  'BUSYGROUP',
  'NOSCRIPT',
  'READONLY',
];
const COMMANDS = [
  'GET',
  'set',
  'HGetAll',
  'LRANGE',
  'incr',
  'ZADD',
  'GEORADIUSBYMEMBER_RO',
  'eval',
  'XREAD',
  'PING',
];
const UNKNOWN = [
  'FT.SEARCH',
  'JSON.GET',
  'getx',
  'ge',
  'A_NAME_LONGER_THAN_ANY_OF_REDIS',
  'GET\0',
  '',
  'Ünïcode',
];

type Pick = (below: number) => number;

function bytes(pick: Pick, below: number): Buffer {
  const text = Buffer.alloc(pick(below));
  // often what would be mistaken for syntax were it read
  for (let i = 0; i < text.length; i++)
    text[i] = pick(4) === 0 ? pick(256) : '\r\n$*+-:>1'.charCodeAt(pick(9));
  return text;
}

function error(pick: Pick): { text: string; status: string } {
  const word =
    pick(8) === 0
      ? ['SOMEELSE', 'Err', 'A-WORD-LONGER-THAN-ANY-ERROR'][pick(3)]
      : ERRORS[pick(ERRORS.length)];
  const name = word as string;
  return {
    text: pick(4) === 0 ? name : `${name} something ${'x'.repeat(pick(80))}`,
    status: ERRORS.includes(name.toUpperCase()) ? name.toUpperCase() : '_OTHER',
  };
}

/** A value without errors in it. `three`: types of RESP3 too; `streamed`: and those of unknown length. */
export function value(pick: Pick, three: boolean, streamed: boolean, depth = 0): Value {
  const items = (count: number): Value[] =>
    Array.from({ length: count }, () => value(pick, three, streamed, depth + 1));
  const leaf = depth > 4 || pick(3) > 0;
  if (leaf) {
    switch (pick(three ? 10 : 4)) {
      case 0:
        return { type: 'simple', text: ['OK', 'PONG', 'string', 'x y'][pick(4)] as string };
      case 1:
        return { type: 'number', text: String(pick(2) === 0 ? pick(1000) : -pick(1000)) };
      case 2:
        return { type: 'bulk', bytes: bytes(pick, pick(5) === 0 ? 2000 : 30) };
      case 3:
        return { type: pick(2) === 0 ? 'null bulk' : 'null array' };
      case 4:
        return { type: 'null' };
      case 5:
        return { type: 'boolean', text: pick(2) === 0 ? 't' : 'f' };
      case 6:
        return { type: 'double', text: ['1.5', 'inf', '-inf', 'nan', '1e9'][pick(5)] as string };
      case 7:
        return { type: 'big', text: '3492890328409238509324850943850943825024385' };
      case 8:
        return { type: 'verbatim', bytes: Buffer.concat([latin('txt:'), bytes(pick, 40)]) };
      default:
        return streamed ? { type: 'streamed bulk', bytes: bytes(pick, 60) } : { type: 'null' };
    }
  }
  switch (pick(three ? (streamed ? 6 : 3) : 1)) {
    case 0:
      return { type: 'array', items: items(pick(5)) };
    case 1:
      return { type: 'set', items: items(pick(5)) };
    case 2:
      return { type: 'map', items: items(2 * pick(4)) };
    case 3:
      // the outermost ones and those within, at most as deep as is followed
      return depth > 2
        ? { type: 'array', items: items(2) }
        : { type: 'streamed array', items: items(pick(4)) };
    case 4:
      return depth > 2 ? { type: 'array', items: [] } : { type: 'streamed map', items: items(2 * pick(3)) };
    default:
      return { type: 'attribute', items: items(2 * pick(3)), of: value(pick, three, streamed, depth + 1) };
  }
}

/** A request, what is answered to it, and how it is to be counted. */
export interface Exchange {
  readonly request: Buffer;
  readonly answer: Buffer;
  /** What the server says by itself before it answers. */
  readonly before: Buffer;
  readonly command: string;
  readonly status: string;
  readonly database: number;
  /** Written with what only this project's own parser knows: attributes, lengths that come at the end, inline requests. */
  readonly rare: boolean;
}

/** Exchanges of one connection, by a seed. */
export function conversation(seed: number, count: number): Exchange[] {
  const pick = random(seed);
  const three = pick(2) === 0;
  const streamed = three && pick(2) === 0;
  let database = 0;
  return Array.from({ length: count }, () => {
    const before =
      three && pick(5) === 0
        ? encode({
            type: 'push',
            items: [
              { type: 'bulk', bytes: latin(['message', 'invalidate', 'pmessage'][pick(3)] as string) },
              { type: 'bulk', bytes: bytes(pick, 20) },
              value(pick, three, streamed, 2),
            ],
          })
        : Buffer.alloc(0);
    const now = database;
    const failed = pick(5) === 0 ? error(pick) : undefined;
    if (pick(6) === 0) {
      const chosen = pick(16);
      if (failed === undefined) database = chosen;
      const answer: Value = failed ? { type: 'error', text: failed.text } : { type: 'simple', text: 'OK' };
      return {
        request: request(pick(2) === 0 ? 'SELECT' : 'select', String(chosen)),
        answer: encode(answer),
        before,
        command: 'SELECT',
        status: failed?.status ?? 'OK',
        database: now,
        rare: false,
      };
    }
    const known = pick(4) > 0;
    const name = (known ? COMMANDS[pick(COMMANDS.length)] : UNKNOWN[pick(UNKNOWN.length)]) as string;
    const words = Array.from({ length: pick(4) }, () => bytes(pick, pick(6) === 0 ? 3000 : 40));
    const inline = pick(8) === 0 && known && seed % 3 === 0;
    const answer: Value = failed
      ? three && pick(2) === 0
        ? { type: 'bulk error', bytes: latin(failed.text) }
        : { type: 'error', text: failed.text }
      : value(pick, three, streamed);
    return {
      request: inline ? latin(`${name}  "a b" 'c'${pick(2) === 0 ? '\r' : ''}\n`) : request(name, ...words),
      answer: encode(answer),
      before,
      command: known ? name.toUpperCase() : '_OTHER',
      status: failed?.status ?? 'OK',
      database: now,
      rare: streamed || inline,
    };
  });
}
