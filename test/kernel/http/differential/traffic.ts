// Random but legal HTTP/1: exchanges, what of them goes together, and how connections end. script.ts makes bytes and calls
// of it.
import { Random } from './random.ts';

/**
 * Kinds of traffic that are not in the mix, because what they show is known: they come back, one by one, as what they
 * show is mended. KNPTEST_KINDS=halfClosed,splice turns them on.
 */
export const KINDS = {
  /** Bodies sent by splice(), which no hook shows. */
  splice: 'bytes inside a body that are not observed',
  /**
   * A client that has nothing more to ask says so by shutdown(). The server's FIN is the end of its connection then; where
   * it comes while the last answer is being read, that request counts as closed without an answer, or incomplete.
   */
  halfClosed: 'the end of a connection inside of the call that reads the last answer',
  /** More than 16 requests without an answer. */
  deepPipelines: 'pipelines deeper than what is kept',
} as const;

export type Kinds = ReadonlySet<keyof typeof KINDS>;

export type Framing = 'none' | 'length' | 'chunked' | 'close';

export interface Body {
  readonly framing: Framing;
  readonly bytes: number;
  /** Of `chunked`; they add up to `bytes`. */
  readonly chunks: readonly number[];
  readonly trailers: boolean;
}

export interface Exchange {
  readonly method: string;
  readonly route: string;
  readonly version: '1.0' | '1.1';
  readonly query: number;
  readonly request: Body;
  /** Header fields besides those of the framing: lengths of their values. */
  readonly requestFields: readonly number[];
  readonly interim: readonly number[];
  readonly status: number;
  readonly answer: Body;
  /** Says how long a body would be where there is none (HEAD, 304). */
  readonly saysLength: boolean;
  readonly answerFields: readonly number[];
}

/** What is sent before anything of the answers is waited for. */
export interface Batch {
  readonly exchanges: readonly Exchange[];
  /**
   * `each`: an answer as soon as its request was read; `all`: behind the last; `continue`: the body only behind 100
   * Continue; `early`: the answer before all of the body was read. The last two are of a single exchange with a body.
   */
  readonly order: 'each' | 'all' | 'continue' | 'early';
}

/** The end of a connection before all was answered. */
export interface Abort {
  readonly by: 'client' | 'server';
  readonly how: 'close' | 'reset';
  /** So many of the last batch are answered. */
  readonly answered: number;
  /** And this share of the next answer; 0: nothing. */
  readonly part: number;
  /** The share of the last request that is sent. */
  readonly asked: number;
}

export interface Connection {
  /** Of how it is cut into calls. */
  readonly seed: number;
  readonly batches: readonly Batch[];
  /** Who closes first, where nothing is aborted. `shut`: the client has nothing more to ask, and says so before it reads the last answers. */
  readonly end: 'client' | 'server' | 'both' | 'shut';
  readonly abort?: Abort;
  /** Every message in one call. */
  readonly plain?: boolean;
}

const METHODS = ['GET', 'GET', 'GET', 'POST', 'POST', 'PUT', 'HEAD', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'];
const TOKENS = ['RPC_IN_DATA', 'M-SEARCH', 'X', 'VERSION-CONTROL', "!#$%&'*+-.^_`|~09az"];
const STATUSES = [
  200, 200, 200, 200, 201, 202, 204, 206, 301, 302, 304, 400, 404, 404, 409, 429, 500, 502, 503,
];
const ROUTES = ['/', '/alpha', '/beta', '/gamma/delta', '/items/new'];
const NO_BODY: Body = { framing: 'none', bytes: 0, chunks: [], trailers: false };
const BATCH_CHUNKS = 30;

/** Makes the traffic of one connection. */
class Maker {
  readonly #random: Random;
  readonly #kinds: Kinds;
  /** Chunks that the current batch may still have. */
  #chunks = 0;

  constructor(seed: number, kinds: Kinds) {
    this.#random = new Random(seed);
    this.#kinds = kinds;
  }

  body(framing: Framing, limit: number): Body {
    const random = this.#random;
    if (framing === 'none') return NO_BODY;
    const bytes = random.chance(0.15) ? 0 : random.size(1, limit);
    if (framing !== 'chunked') return { framing, bytes, chunks: [], trailers: false };
    const many = random.chance(0.05);
    const most = many ? 2000 : Math.min(12, this.#chunks);
    const chunks: number[] = [];
    for (let left = bytes; left > 0; ) {
      const size = chunks.length + 1 >= most ? left : random.size(1, many ? Math.min(left, 60) : left);
      chunks.push(size);
      left -= size;
    }
    this.#chunks -= chunks.length;
    return { framing, bytes, chunks, trailers: random.chance(0.3) };
  }

  fields(): number[] {
    const random = this.#random;
    const count = random.chance(0.1) ? random.int(8, 20) : random.int(0, 4);
    return Array.from({ length: count }, () => random.size(0, random.chance(0.05) ? 4000 : 60));
  }

  exchange(last: boolean, limit: number): Exchange {
    const random = this.#random;
    const version = random.chance(0.1) ? '1.0' : '1.1';
    const method = random.chance(0.1) ? random.pick(TOKENS) : random.pick(METHODS);
    const sends = ['POST', 'PUT', 'PATCH'].includes(method) || (method !== 'TRACE' && random.chance(0.05));
    const status = random.pick(STATUSES);
    const without = method === 'HEAD' || status === 204 || status === 304;
    const framings: Framing[] = [
      'length',
      'length',
      ...(version === '1.1' ? (['chunked'] as const) : []),
      ...(last ? (['close'] as const) : []),
    ];
    return {
      method,
      version,
      status,
      route: random.pick(ROUTES),
      query: random.chance(0.3) ? random.size(1, random.chance(0.1) ? 2000 : 40) : 0,
      request: sends
        ? this.body(random.pick(version === '1.1' ? ['length', 'chunked'] : ['length']), limit)
        : NO_BODY,
      requestFields: this.fields(),
      interim:
        version === '1.1' && random.chance(0.08)
          ? Array.from({ length: random.int(1, 2) }, () => random.pick([100, 102, 103]))
          : [],
      answer: without ? NO_BODY : this.body(random.pick(framings), limit),
      saysLength: without && status !== 204 && random.chance(0.6),
      answerFields: this.fields(),
    };
  }

  batch(last: boolean): Batch {
    const random = this.#random;
    const deep = this.#kinds.has('deepPipelines') && random.chance(0.2);
    const count = random.chance(0.6) ? 1 : random.size(1, deep ? 100 : 16);
    this.#chunks = BATCH_CHUNKS;
    // What is under way has to fit into the sockets' buffers, as neither end reads while it sends.
    const limit = Math.floor((count === 1 && random.chance(0.05) ? 200_000 : 20_000) / count);
    const exchanges = Array.from({ length: count }, (_, i) => this.exchange(last && i === count - 1, limit));
    const [first] = exchanges;
    const uploads = count === 1 && first?.version === '1.1' && first.request.bytes > 1;
    const order =
      uploads && random.chance(0.3)
        ? random.pick(['continue', 'early'] as const)
        : random.pick(['each', 'all'] as const);
    return { exchanges, order };
  }

  connection(seed: number, aborts: boolean): Connection {
    const random = this.#random;
    const count = random.size(1, 6);
    const batches = Array.from({ length: count }, (_, i) => this.batch(i === count - 1));
    const lastBatch = batches.at(-1);
    const closing = lastBatch?.exchanges.at(-1)?.answer.framing === 'close';
    const shut = this.#kinds.has('halfClosed') ? (['shut'] as const) : [];
    const ends = closing ? (['server', ...shut] as const) : (['client', 'server', 'both', ...shut] as const);
    const end = random.pick(ends);
    const plain = random.chance(0.1);
    const simple = lastBatch !== undefined && (lastBatch.order === 'each' || lastBatch.order === 'all');
    if (!aborts || !simple || closing || !random.chance(0.4)) return { seed, batches, end, plain };
    const answered = random.int(0, lastBatch.exchanges.length);
    return {
      seed,
      batches,
      end,
      plain,
      abort: {
        by: random.pick(['client', 'server']),
        how: random.pick(['close', 'reset']),
        answered,
        part: random.chance(0.5) ? random.next() : 0,
        asked: answered < lastBatch.exchanges.length && random.chance(0.3) ? random.next() : 1,
      },
    };
  }
}

/** The connection that a seed stands for. */
export function makeConnection(seed: number, aborts: boolean, kinds: Kinds): Connection {
  return new Maker(seed, kinds).connection(seed, aborts);
}

function without<T>(values: readonly T[], index: number): T[] {
  return values.filter((_, i) => i !== index);
}

/** What is less than this connection by one step: if it shows the same, go on with it. */
export function* smaller(connection: Connection): Generator<Connection> {
  const { batches, abort } = connection;
  const removable = abort === undefined ? batches.length : batches.length - 1; // an abort is about the last one
  if (batches.length > 1)
    for (let i = 0; i < removable; i++) yield { ...connection, batches: without(batches, i) };
  if (!connection.plain) yield { ...connection, plain: true };
  if (abort === undefined && connection.end !== 'server') yield { ...connection, end: 'server' };
  for (const [i, batch] of batches.entries()) {
    const put = (exchanges: readonly Exchange[]): Connection => ({
      ...connection,
      batches: batches.map((other, j) => (i === j ? { ...batch, exchanges } : other)),
    });
    const last = abort !== undefined && i === batches.length - 1;
    if (batch.exchanges.length > 1 && !last)
      for (const [j] of batch.exchanges.entries()) yield put(without(batch.exchanges, j));
    for (const [j, exchange] of batch.exchanges.entries())
      for (const less of simpler(exchange))
        yield put(batch.exchanges.map((other, k) => (j === k ? less : other)));
  }
}

function* simpler(exchange: Exchange): Generator<Exchange> {
  if (exchange.requestFields.length > 0) yield { ...exchange, requestFields: [] };
  if (exchange.answerFields.length > 0) yield { ...exchange, answerFields: [] };
  if (exchange.interim.length > 0) yield { ...exchange, interim: [] };
  if (exchange.query > 0) yield { ...exchange, query: 0 };
  for (const part of ['request', 'answer'] as const) {
    const body = exchange[part];
    if (body.trailers) yield { ...exchange, [part]: { ...body, trailers: false } };
    if (body.chunks.length > 1)
      yield {
        ...exchange,
        [part]: { ...body, bytes: body.bytes - (body.chunks[0] ?? 0), chunks: body.chunks.slice(1) },
      };
    if (body.framing === 'length' && body.bytes > 2)
      yield { ...exchange, [part]: { ...body, bytes: Math.floor(body.bytes / 2) } };
  }
}
