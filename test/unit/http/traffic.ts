// Generated HTTP/1 conversations for the differential test, from a seed.

export interface Message {
  readonly request: Buffer;
  readonly response: Buffer;
  readonly method: string;
}

/** A small deterministic generator (mulberry32). */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

type Pick = (below: number) => number;
const of = <T>(pick: Pick, values: readonly T[]): T => values[pick(values.length)] as T;

const METHODS = [
  'GET',
  'GET',
  'GET',
  'POST',
  'PUT',
  'DELETE',
  'PATCH',
  'HEAD',
  'OPTIONS',
  'PROPFIND',
  'TRACE',
];
const SEGMENTS = [
  'users',
  '42',
  'a',
  '550e8400-e29b-41d4-a716-446655440000',
  'v1',
  'd41d8cd98f00b204e9800998ecf8427e',
  'deadbeefdeadbeefcafe',
  'x%20y',
  'file.txt',
  '',
  '007',
  'A-B_c~d',
  'long'.repeat(30),
];
const NEUTRAL = [
  'Host: example',
  'Accept: */*',
  'Connection: keep-alive',
  'Content-Type: text/plain',
  'Cookie: a=b; HTTP/1.1=x',
  'X-Empty:',
  'Content-Language: de',
  'Transfer-Mode: x',
  'Trace: 1',
  'c: d',
  `X-Long: ${'l'.repeat(700)}`,
  'X-Fake: GET / HTTP/1.1',
  'Content-Lengths: 77',
  'tracepart: no',
  'Expect: nothing',
];

function path(pick: Pick): string {
  let text = '';
  for (let i = pick(4); i >= 0; i--) text += `/${of(pick, SEGMENTS)}`;
  return text;
}

function target(pick: Pick, method: string): string {
  if (method === 'OPTIONS' && pick(2)) return '*';
  const query = of(pick, ['', '', '?a=b', '?q=/x/1', `?${'long'.repeat(pick(200))}`, '?']);
  const prefix =
    method === 'PROPFIND' ? '' : of(pick, ['', '', '', 'http://example:8080', 'https://u.example']);
  return prefix && pick(3) === 0 ? `${prefix}${query}` : `${prefix}${path(pick)}${query}`;
}

function neutral(pick: Pick): string[] {
  return Array.from({ length: pick(7) }, () => of(pick, NEUTRAL));
}

function bodyBytes(pick: Pick): Buffer {
  const size = of(pick, [1, 2, 10, 300, 511, 512, 513, 2000]);
  const words = ['GET / HTTP/1.1\r\n\r\n', 'HTTP/1.1 200 OK\r\n', '0\r\n\r\n', 'abc\n', '\0\x01\r'];
  let text = '';
  while (text.length < size) text += of(pick, words);
  return Buffer.from(text.slice(0, size), 'latin1');
}

function chunked(pick: Pick): Buffer {
  let text = '';
  for (let i = pick(4); i > 0; i--) {
    const chunk = bodyBytes(pick).toString('latin1');
    const size = chunk.length.toString(16);
    text += `${of(pick, [size, size.toUpperCase(), `00${size}`, `${size};a=b`])}\r\n${chunk}\r\n`;
  }
  return Buffer.from(`${text}0\r\n${of(pick, ['', '', 'Trailer: x\r\n'])}\r\n`, 'latin1');
}

function withBody(pick: Pick, line: string, choice: 'none' | 'length' | 'chunked' | 'empty'): Buffer {
  const fields = neutral(pick);
  let body: Buffer = Buffer.alloc(0);
  if (choice === 'length') {
    body = bodyBytes(pick);
    fields.push(
      `${of(pick, ['Content-Length: ', 'content-length:', 'CONTENT-LENGTH:   '])}${body.length}${of(pick, ['', ' '])}`,
    );
  } else if (choice === 'empty') fields.push('Content-Length: 0');
  else if (choice === 'chunked') {
    body = chunked(pick);
    fields.push(
      of(pick, [
        'Transfer-Encoding: chunked',
        'transfer-encoding:chunked',
        'Transfer-Encoding: gzip, Chunked',
      ]),
    );
  }
  fields.push(...neutral(pick));
  return Buffer.concat([
    Buffer.from(`${line}\r\n${fields.map((f) => `${f}\r\n`).join('')}\r\n`, 'latin1'),
    body,
  ]);
}

/** Requests and their answers, all of declared length, so that any number may follow one another. */
export function conversation(seed: number, exchanges: number): Message[] {
  const pick = random(seed);
  return Array.from({ length: exchanges }, () => {
    const method = of(pick, METHODS);
    const version = pick(8) === 0 ? '1.0' : '1.1';
    const bodies =
      method === 'GET' || method === 'HEAD' || method === 'TRACE'
        ? (['none'] as const)
        : (['none', 'length', 'chunked', 'empty'] as const);
    const request = withBody(pick, `${method} ${target(pick, method)} HTTP/${version}`, of(pick, bodies));
    const status = of(pick, [200, 200, 200, 201, 204, 302, 304, 404, 500, 503]);
    const line = `HTTP/${version} ${status}${of(pick, [' Text', ' ', ' Some longer text here'])}`;
    const bodyless = status === 204 || status === 304;
    const interim =
      pick(10) === 0
        ? of(pick, ['HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n'])
        : '';
    const final =
      method === 'HEAD'
        ? Buffer.from(`${line}\r\nContent-Length: ${pick(2000)}\r\n\r\n`)
        : withBody(
            pick,
            line,
            bodyless ? 'none' : of(pick, ['length', 'length', 'chunked', 'empty'] as const),
          );
    return { method, request, response: Buffer.concat([Buffer.from(interim), final]) };
  });
}
