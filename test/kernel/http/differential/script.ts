// What both ends do, step by step (the head of test/kernel/peers/differential_peer.c says how), and the ledger: what has to
// be counted for it.
import { Random } from './random.ts';
import type { Batch, Connection, Exchange, Kinds } from './traffic.ts';
import { answerOf, interimOf, type Message, requestOf } from './wire.ts';

type Side = 'client' | 'server';
const SIDES = ['client', 'server'] as const;

export type Table = Record<string, number>;

/** One direction: who sends it, and what. */
interface Stream {
  readonly from: Side;
  readonly to: Side;
  readonly bytes: Buffer[];
  length: number;
}

const KNOWN = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']);
/** What both ends do, and what comes of it. */
export interface Play {
  readonly steps: Readonly<Record<Side, readonly string[]>>;
  /** All that clients send, and servers. */
  readonly requests: Buffer;
  readonly answers: Buffer;
  /** By method, status, route, version and error. */
  readonly ledger: Readonly<Record<Side, Table>>;
  /** Bytes of bodies; undefined: it depends on where something was given up. */
  readonly bodies: { readonly request: number; readonly response: number } | undefined;
}

/** Pieces of one call. */
const PIECES = 6;

export class Script implements Play {
  readonly steps: Readonly<Record<Side, string[]>> = { client: [], server: [] };
  readonly ledger: Readonly<Record<Side, Table>> = { client: {}, server: {} };
  bodies: { request: number; response: number } | undefined = { request: 0, response: 0 };
  exchanges = 0;
  readonly #kinds: Kinds;
  readonly #requests: Stream = { from: 'client', to: 'server', bytes: [], length: 0 };
  readonly #answers: Stream = { from: 'server', to: 'client', bytes: [], length: 0 };
  #random = new Random(0);
  #plain = false;

  constructor(kinds: Kinds) {
    this.#kinds = kinds;
  }

  get requests(): Buffer {
    return Buffer.concat(this.#requests.bytes);
  }

  get answers(): Buffer {
    return Buffer.concat(this.#answers.bytes);
  }

  add(connection: Connection): void {
    this.#random = new Random(connection.seed);
    this.#plain = connection.plain ?? false;
    this.#both('open');
    for (const [i, batch] of connection.batches.entries()) {
      const last = i === connection.batches.length - 1;
      if (last && connection.abort !== undefined) this.#abort(batch, connection.abort);
      else this.#batch(batch, last && connection.end === 'shut');
    }
    if (connection.abort === undefined) this.#end(connection.end);
  }

  #both(step: string): void {
    for (const side of SIDES) this.steps[side].push(step);
  }

  /** Cuts what is sent into calls. `files`: what may be sent out of a file. */
  #send(stream: Stream, bytes: Buffer, files: readonly (readonly [number, number])[]): void {
    const random = this.#random;
    const steps = this.steps[stream.from];
    stream.bytes.push(bytes);
    stream.length += bytes.length;
    const least = Math.ceil(bytes.length / 25);
    for (let at = 0; at < bytes.length; ) {
      const left = bytes.length - at;
      let take = this.#plain || random.chance(0.3) ? left : Math.min(left, random.size(1, left) + least - 1);
      const file = files.find(([start, end]) => start <= at && at < end);
      if (this.#plain) {
        steps.push(`send write ${take}`);
      } else if (file !== undefined && random.chance(0.4)) {
        take = Math.min(take, file[1] - at);
        const ways = this.#kinds.has('splice') ? ['sendfile', 'splice'] : ['sendfile'];
        steps.push(`send ${random.pick(ways)} ${take}`);
      } else {
        steps.push(`send ${this.#wayToSend(take, take === left)}`);
      }
      at += take;
    }
  }

  #wayToSend(length: number, last: boolean): string {
    const random = this.#random;
    const how = random.pick(['write', 'send', 'writev', 'sendmsg', 'sendmmsg', ...(last ? [] : ['more'])]);
    if (!['writev', 'sendmsg', 'sendmmsg'].includes(how)) return `${how} ${length}`;
    const sizes: number[] = [];
    let left = length;
    for (let i = random.int(0, PIECES - 1); i > 0 && left > 1; i--) {
      const size = how !== 'sendmmsg' && random.chance(0.1) ? 0 : random.size(1, left - 1);
      sizes.push(size);
      left -= size;
    }
    return `${how} ${[...sizes, left].join(' ')}`;
  }

  /** Receives all that the other end has sent, or all but the last `without` bytes. */
  #receive(stream: Stream, without = 0): void {
    const random = this.#random;
    const steps = this.steps[stream.to];
    const until = stream.length - without;
    if (this.#plain) {
      steps.push(`receive read ${until} 65536`);
      return;
    }
    const least = Math.ceil((stream.bytes.at(-1)?.length ?? 0) / 25);
    for (let i = random.size(1, 3); i > 0; i--) {
      const how = random.pick(['read', 'readv', 'recv', 'recvmsg', 'recvmmsg', 'waitall', 'peek']);
      const pieces = ['readv', 'recvmsg', 'recvmmsg', 'peek'].includes(how) ? random.int(1, PIECES) : 1;
      const sizes = Array.from({ length: pieces }, () => random.size(1, 65_536) + least);
      const part = i === 1 ? 0 : Math.floor(random.next() * (stream.bytes.at(-1)?.length ?? 0));
      steps.push(`receive ${how} ${Math.max(0, until - part)} ${sizes.join(' ')}`);
    }
  }

  #sendMessages(stream: Stream, messages: readonly Message[]): void {
    const files: [number, number][] = [];
    let at = 0;
    for (const { bytes, body } of messages) {
      files.push([at + body[0], at + body[1]]);
      at += bytes.length;
    }
    this.#send(stream, Buffer.concat(messages.map(({ bytes }) => bytes)), files);
  }

  #answer(exchange: Exchange): void {
    const random = this.#random;
    for (const status of exchange.interim) this.#send(this.#answers, interimOf(random, status), []);
    this.#sendMessages(this.#answers, [answerOf(random, exchange)]);
  }

  #batch({ exchanges, order }: Batch, shut: boolean): void {
    const random = this.#random;
    const messages = exchanges.map((exchange) => requestOf(random, exchange));
    const [first] = messages;
    const [only] = exchanges;
    if ((order === 'continue' || order === 'early') && first !== undefined && only !== undefined) {
      this.#upload(first, only, order);
      if (shut) this.#shut();
      this.#receive(this.#answers);
    } else {
      this.#sendMessages(this.#requests, messages);
      if (shut) this.#shut();
      let behind = messages.reduce((total, { bytes }) => total + bytes.length, 0);
      for (const [i, exchange] of exchanges.entries()) {
        behind -= messages[i]?.bytes.length ?? 0;
        this.#receive(this.#requests, order === 'each' ? behind : 0);
        this.#answer(exchange);
      }
      this.#receive(this.#answers);
    }
    for (const exchange of exchanges) this.#count(exchange);
  }

  /** The body of a request in two parts: the second one when the other end has said something. */
  #upload({ bytes, headEnd }: Message, exchange: Exchange, order: 'continue' | 'early'): void {
    const random = this.#random;
    const cut = order === 'continue' ? headEnd : random.int(headEnd, bytes.length - 1);
    this.#send(this.#requests, bytes.subarray(0, cut), []);
    this.#receive(this.#requests);
    if (order === 'early') this.#answer(exchange);
    else this.#send(this.#answers, interimOf(random, 100), []);
    this.#receive(this.#answers);
    this.#send(this.#requests, bytes.subarray(cut), []);
    this.#receive(this.#requests);
    if (order === 'continue') this.#answer(exchange);
  }

  #shut(): void {
    this.steps.client.push('shut');
  }

  #end(end: Connection['end']): void {
    if (end === 'both') {
      this.#both('close');
      return;
    }
    const [one, other] = end === 'client' ? SIDES : ([SIDES[1], SIDES[0]] as const);
    if (end === 'shut') this.steps.server.push('end');
    this.steps[one].push('close');
    this.steps[other].push('end', 'close');
  }

  #abort({ exchanges }: Batch, abort: NonNullable<Connection['abort']>): void {
    const random = this.#random;
    const messages = exchanges.map((exchange) => requestOf(random, exchange));
    const whole = Buffer.concat(messages.map(({ bytes }) => bytes));
    const last = messages.at(-1);
    const left =
      last === undefined || abort.asked === 1 ? 0 : Math.ceil(last.bytes.length * (1 - abort.asked));
    const asked =
      last !== undefined && left > last.bytes.length - last.headEnd ? exchanges.length - 1 : exchanges.length;
    const answered = Math.min(abort.answered, left > 0 ? exchanges.length - 1 : exchanges.length);
    this.#send(this.#requests, whole.subarray(0, whole.length - left), []);
    this.#receive(this.#requests);
    for (const exchange of exchanges.slice(0, answered)) this.#answer(exchange);
    const next = exchanges.slice(0, asked)[answered];
    const begun = next !== undefined && abort.part > 0 && this.#beginAnswer(next, abort.part);
    this.#receive(this.#answers);
    this.#breakUp(abort);
    for (const [i, exchange] of exchanges.slice(0, asked).entries())
      if (i < answered) this.#count(exchange);
      else this.#countAborted(exchange, abort, begun && i === answered);
    if (answered < asked) this.bodies = undefined;
  }

  /** Sends a share of an answer. Says whether its status is out. */
  #beginAnswer(exchange: Exchange, part: number): boolean {
    const { bytes, lineEnd } = answerOf(this.#random, exchange);
    let length = Math.max(1, Math.floor(bytes.length * part));
    if (length === lineEnd - 1) length--; // all of the status line but its end
    this.#send(this.#answers, bytes.subarray(0, length), []);
    return length >= lineEnd;
  }

  /** When the other end has all that was sent, one end closes or resets. */
  #breakUp({ by, how }: NonNullable<Connection['abort']>): void {
    const other = by === 'client' ? 'server' : 'client';
    this.steps[other].push('tell');
    this.steps[by].push('await', how);
    this.steps[other].push(how === 'close' ? 'end' : 'broken', 'close');
  }

  #countAborted(exchange: Exchange, { by, how }: NonNullable<Connection['abort']>, begun: boolean): void {
    for (const side of SIDES) {
      const closed = begun ? 'response_incomplete' : 'connection_closed';
      this.#row(
        side,
        exchange,
        begun ? exchange.status : undefined,
        how === 'close' || side === by ? closed : 'connection_reset',
      );
    }
  }

  #count(exchange: Exchange): void {
    this.exchanges++;
    for (const side of SIDES) {
      const failed = exchange.status >= (side === 'server' ? 500 : 400);
      this.#row(side, exchange, exchange.status, failed ? String(exchange.status) : '-');
    }
    if (this.bodies === undefined) return;
    this.bodies.request += exchange.request.bytes;
    this.bodies.response += exchange.answer.bytes;
  }

  #row(side: Side, { method, route, version }: Exchange, status: number | undefined, error: string): void {
    const row = `${KNOWN.has(method) ? method : '_OTHER'} ${status ?? '-'} ${route} ${version} ${error}`;
    this.ledger[side][row] = (this.ledger[side][row] ?? 0) + 1;
  }
}
