// What an exchange looks like in bytes: legal, in many spellings.
import type { Random } from './random.ts';
import type { Body, Exchange } from './traffic.ts';

/** A message, and where in it is what. */
export interface Message {
  readonly bytes: Buffer;
  /** End of the start line, its line end included. */
  readonly lineEnd: number;
  readonly headEnd: number;
  /** Bytes of the body alone, in one piece: the only place for what sends files. */
  readonly body: readonly [start: number, end: number];
}

/** What bodies are made of looks like anything but a body. */
const TRAPS = Buffer.from(
  'GET /trap HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n0\r\n\r\nPOST /trap HTTP/1.1\r\nContent-Length: 9\r\n\r\n\r\n\0',
);
const NAMES = [
  'X-Long',
  'Cookie',
  'accept',
  'User-Agent',
  'x-content-length',
  'Content-Lengths',
  'Transfer',
  'Via',
  'TE',
  'Trace',
  'traceparents',
];
const REASONS = ['OK', 'Whatever It Is', 'HTTP/1.1 404', ''];
const END = '\r\n';

function letters(random: Random, length: number): string {
  const start = random.int(0, 25);
  return 'abcdefghijklmnopqrstuvwxyz =;/'
    .repeat(Math.ceil((length + start) / 30))
    .slice(start, start + length);
}

function spelled(random: Random, name: string): string {
  return random.pick([name, name, name.toLowerCase(), name.toUpperCase()]);
}

function field(random: Random, name: string, value: string | number): string {
  return `${spelled(random, name)}:${random.pick([' ', ' ', ' ', '', '  ', '\t'])}${value}${random.pick(['', '', '', ' ', '\t'])}${END}`;
}

function framing(random: Random, body: Body): string {
  if (body.framing === 'length') return field(random, 'Content-Length', body.bytes);
  if (body.framing === 'chunked')
    return field(random, 'Transfer-Encoding', random.pick(['chunked', 'Chunked', 'gzip, chunked']));
  return '';
}

function head(random: Random, lengths: readonly number[], frame: string): string {
  const fields = lengths.map((length) => field(random, random.pick(NAMES), letters(random, length).trim()));
  fields.splice(random.int(0, fields.length), 0, frame);
  return fields.join('') + END;
}

function content(random: Random, length: number): Buffer {
  const start = random.int(0, TRAPS.length - 1);
  return Buffer.alloc(length + start, TRAPS).subarray(start);
}

function bodyBytes(random: Random, body: Body): Buffer {
  if (body.framing !== 'chunked') return content(random, body.bytes);
  const parts = body.chunks.map((size) => {
    const hex = size.toString(16);
    const line = `${random.pick(['', '', '0', '000'])}${random.pick([hex, hex.toUpperCase()])}${random.pick(['', '', '', ';name=value', '; a="b"'])}`;
    return Buffer.concat([Buffer.from(line + END), content(random, size), Buffer.from(END)]);
  });
  const trailers = body.trailers
    ? field(random, 'X-Checksum', letters(random, random.size(1, 60)).trim())
    : '';
  return Buffer.concat([...parts, Buffer.from(`0${END}${trailers}${END}`)]);
}

function message(random: Random, line: string, rest: string, body: Body): Message {
  const bytes = Buffer.concat([Buffer.from(line + rest), bodyBytes(random, body)]);
  const headEnd = line.length + rest.length;
  return {
    bytes,
    lineEnd: line.length,
    headEnd,
    body: [headEnd, body.framing === 'chunked' ? headEnd : bytes.length],
  };
}

export function requestOf(random: Random, exchange: Exchange): Message {
  const query = exchange.query === 0 ? '' : `?${'q=1&'.repeat(exchange.query).slice(0, exchange.query)}`;
  const target = `${random.chance(0.05) ? 'http://host.example:80' : ''}${exchange.route}${query}`;
  const line = `${exchange.method} ${target} HTTP/${exchange.version}${END}`;
  const fields = head(random, exchange.requestFields, framing(random, exchange.request));
  return message(random, line, `${field(random, 'Host', 'host.example')}${fields}`, exchange.request);
}

export function answerOf(random: Random, exchange: Exchange): Message {
  const version = exchange.version === '1.0' ? random.pick(['1.0', '1.1']) : '1.1';
  const line = `HTTP/${version} ${exchange.status} ${random.pick(REASONS)}${END}`;
  const said = exchange.saysLength
    ? field(random, 'Content-Length', random.size(1, 1_000_000))
    : framing(random, exchange.answer);
  return message(random, line, head(random, exchange.answerFields, said), exchange.answer);
}

export function interimOf(random: Random, status: number): Buffer {
  return Buffer.from(
    `HTTP/1.1 ${status} Interim${END}${random.chance(0.5) ? field(random, 'Link', '</a>') : ''}${END}`,
  );
}
