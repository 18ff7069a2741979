// Keeps a copy of one kind of object in step with the API server: list once, then watch; after any fault go on from where
// it was, and list again only when the server has forgotten that place. Called by kubernetes_identity.ts, one per kind.
// The protocol: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
import type { IncomingMessage } from 'node:http';
import type { Connection } from './connection.ts';
import { LineSplitter, ListSplitter, MalformedResponse } from './json_stream.ts';

/** Where a reflector puts what it sees. Calls are synchronous and in order. */
export interface Sink<T> {
  /** @param initial part of the first list: it was there before the watch */
  set(object: T, initial: boolean): void;
  delete(key: string): void;
  /** A list is complete: nothing but these is there. */
  retain(keys: ReadonlySet<string>): void;
}

export interface Backoff {
  readonly minMillis: number;
  readonly maxMillis: number;
  /** After 403 and 404, which do not pass by themselves. */
  readonly refusedMillis: number;
}

export interface ReflectorOptions<T extends { readonly key: string }> {
  /** Plural, as in the API: `pods`. */
  readonly resource: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly connection: Connection;
  readonly project: (object: unknown) => T | undefined;
  readonly sink: Sink<T>;
  /** One sentence about what is wrong now, or undefined when all is well again. Called on changes only. */
  readonly onProblem: (problem: string | undefined) => void;
  /** The first list is complete. */
  readonly onSynced?: () => void;
  readonly backoff?: Partial<Backoff>;
  readonly pageSize?: number;
  /** A watch is renewed after about this long. */
  readonly watchSeconds?: number;
  readonly random?: () => number;
}

export interface ReflectorCounters {
  lists: number;
  pages: number;
  watches: number;
  events: number;
  bookmarks: number;
  bytes: number;
  expired: number;
  failures: number;
}

const DEFAULT_BACKOFF: Backoff = { minMillis: 500, maxMillis: 30_000, refusedMillis: 60_000 };
/** As kubectl and client-go; a page of pods is some megabytes on the server. */
const DEFAULT_PAGE_SIZE = 500;
const DEFAULT_WATCH_SECONDS = 300;
/** After this many malformed answers in a row at one place, that place itself is in doubt. */
const MALFORMED_LIMIT = 3;
/** Reading gives way to everything else after so long. */
const MAX_HOLD_MILLIS = 4;
const MAX_ERROR_BYTES = 64 << 10;
/** A watch that ends sooner, with nothing on it, is a fault and not the server's usual renewal. */
const SHORT_WATCH_MILLIS = 1000;

/** The server answered, but not with what was asked for. */
export class ApiFailure extends Error {
  override readonly name = 'ApiFailure';
  readonly status: number;
  readonly retryAfterMillis: number;
  constructor(status: number, message: string, retryAfterMillis = 0) {
    super(message);
    this.status = status;
    this.retryAfterMillis = retryAfterMillis;
  }
}

/** The place to go on from is gone: list again. */
class Expired extends Error {}

function member(value: unknown, ...path: string[]): unknown {
  let current = value;
  for (const key of path) {
    if (typeof current !== 'object' || current === null) return undefined;
    current = (current as Record<string, unknown>)[key];
  }
  return current;
}

function string(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** Status objects of answers and ERROR events: 410, or a version that the server has not reached (its etcd was restored). */
function isExpired(code: unknown, status: unknown): boolean {
  const reason = string(member(status, 'reason'));
  if (code === 410 || reason === 'Expired' || reason === 'Gone') return true;
  return code === 504 && JSON.stringify(status ?? '').includes('oo large resource version');
}

/** Reads the answer of a failed request. @throws always: Expired or ApiFailure */
export async function failure(response: IncomingMessage): Promise<never> {
  let body = '';
  response.setEncoding('utf8');
  try {
    for await (const chunk of response) {
      body += chunk;
      if (body.length > MAX_ERROR_BYTES) break;
    }
  } catch {
    // Cut: the status line is enough.
  }
  response.destroy();
  let status: unknown;
  try {
    status = JSON.parse(body);
  } catch {
    // A proxy's HTML page.
  }
  const code = response.statusCode ?? 0;
  if (isExpired(code, status)) throw new Expired();
  const retryAfter = Number(response.headers['retry-after'] ?? 0) * 1000;
  throw new ApiFailure(
    code,
    string(member(status, 'message')).slice(0, 300) || `status ${code}`,
    retryAfter || 0,
  );
}

export class Reflector<T extends { readonly key: string }> {
  readonly counters: ReflectorCounters = {
    lists: 0,
    pages: 0,
    watches: 0,
    events: 0,
    bookmarks: 0,
    bytes: 0,
    expired: 0,
    failures: 0,
  };
  /** True once the first list is complete. */
  synced = false;
  readonly #options: ReflectorOptions<T>;
  readonly #backoff: Backoff;
  readonly #abort = new AbortController();
  #version: string | undefined;
  #failures = 0;
  #malformed = 0;
  /** 410s since a watch last brought something. */
  #expiries = 0;
  #problem: string | undefined;
  #done: Promise<void> | undefined;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#backoff = { ...DEFAULT_BACKOFF, ...options.backoff };
  }

  get resource(): string {
    return this.#options.resource;
  }

  start(): void {
    this.#done ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      let pause = 0;
      try {
        if (this.#version === undefined) await this.#list();
        await this.#watch();
      } catch (error) {
        if (signal.aborted) return;
        pause = this.#failed(error);
      }
      if (pause > 0) await this.#sleep(pause);
    }
  }

  /** Bookkeeping after a fault; returns how long to wait. */
  #failed(error: unknown): number {
    const { random = Math.random, resource, connection } = this.#options;
    if (error instanceof Expired) {
      this.counters.expired++;
      this.#expiries++;
      this.#version = undefined;
      // The first time it is the usual course of things; a server that says so again and again must not be stormed.
      return this.#expiries === 1 ? 0 : this.#delay(this.#expiries - 1);
    }
    this.#failures++;
    const pause = this.#delay(this.#failures);
    this.counters.failures++;
    if (error instanceof MalformedResponse) {
      if (++this.#malformed % MALFORMED_LIMIT === 0) this.#version = undefined;
      this.#report(
        `the API server's answer about ${resource} cannot be read (${error.message}); trying again`,
      );
      return pause;
    }
    if (error instanceof ApiFailure) {
      this.#report(refusal(error, resource, this.#version === undefined ? 'list' : 'watch'));
      if (error.status === 403 || error.status === 404)
        return Math.max(pause, this.#backoff.refusedMillis * (0.5 + random() / 2));
      return Math.max(pause, Math.min(error.retryAfterMillis, this.#backoff.maxMillis));
    }
    const { code, message } = error as NodeJS.ErrnoException;
    // One cut connection is everyday life; only when the next attempt fails, too, it is worth a word.
    if (this.#failures > 1 || !this.synced) {
      this.#report(
        `cannot reach the API server at ${connection.server} (${code ?? message}); names may be missing or old until it answers`,
      );
    }
    return pause;
  }

  /** Exponential, with jitter over its upper half. */
  #delay(attempts: number): number {
    const { random = Math.random } = this.#options;
    const limit = Math.min(
      this.#backoff.maxMillis,
      this.#backoff.minMillis * 2 ** Math.min(attempts - 1, 20),
    );
    return limit * (0.5 + random() / 2);
  }

  #report(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#options.onProblem(problem);
  }

  /** An exchange went well. */
  #succeeded(): void {
    this.#failures = 0;
    this.#malformed = 0;
    this.#report(undefined);
  }

  /** A watch stands. */
  #watched(): void {
    this.#expiries = 0;
    this.#succeeded();
  }

  #sleep(millis: number): Promise<void> {
    const { signal } = this.#abort;
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, millis);
      signal.addEventListener('abort', done);
    });
  }

  async #open(query: Readonly<Record<string, string>>): Promise<IncomingMessage> {
    const { connection, path, query: fixed } = this.#options;
    const search = new URLSearchParams({ ...fixed, ...query });
    const response = await connection.get(`${path}?${search}`, this.#abort.signal);
    return response.statusCode === 200 ? response : failure(response);
  }

  async #consume(response: IncomingMessage, write: (chunk: Buffer) => void): Promise<void> {
    let since = performance.now();
    try {
      for await (const chunk of response) {
        this.counters.bytes += (chunk as Buffer).length;
        write(chunk as Buffer);
        // A fast server fills the socket quicker than it is read, and the loop would never let go.
        if (performance.now() - since < MAX_HOLD_MILLIS) continue;
        await new Promise(setImmediate);
        since = performance.now();
      }
    } finally {
      response.destroy();
    }
  }

  #project(value: unknown): T {
    const object = this.#options.project(value);
    if (object === undefined) throw new MalformedResponse('an object without a name');
    return object;
  }

  async #list(): Promise<void> {
    // At the start any version from the server's cache will do, and spares etcd; the watch catches up. Later it must not
    // be older than what is known already, so the newest is asked for.
    const first = this.synced ? {} : { resourceVersion: '0' };
    const { sink } = this.#options;
    const limit = String(this.#options.pageSize ?? DEFAULT_PAGE_SIZE);
    const initial = !this.synced;
    const keys = new Set<string>();
    this.counters.lists++;
    let version = '';
    let next = '';
    do {
      const response = await this.#open({ limit, ...(next === '' ? first : { continue: next }) });
      this.counters.pages++;
      const splitter = new ListSplitter((item) => {
        // Taken at once, not when the list is complete: a list is never older than what is there, and if it fails midway
        // the next one mends it. So the work is spread out and nothing is held twice.
        const object = this.#project(item);
        keys.add(object.key);
        sink.set(object, initial);
      });
      await this.#consume(response, (chunk) => splitter.write(chunk));
      const envelope = splitter.end();
      version = string(member(envelope, 'metadata', 'resourceVersion'));
      if (version === '') throw new MalformedResponse('a list without a resourceVersion');
      next = string(member(envelope, 'metadata', 'continue'));
    } while (next !== '');
    this.#version = version;
    this.synced = true;
    sink.retain(keys);
    this.#succeeded();
    if (initial) this.#options.onSynced?.();
  }

  async #watch(): Promise<void> {
    const { random = Math.random, watchSeconds = DEFAULT_WATCH_SECONDS } = this.#options;
    const started = performance.now();
    const response = await this.#open({
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: this.#version as string,
      // Spread out, so that the agents of a cluster do not all come at once.
      timeoutSeconds: String(Math.ceil(watchSeconds * (1 + random()))),
    });
    this.counters.watches++;
    // A server that opens watches and cuts them at once has not recovered: only what arrives counts as success.
    let seen = 0;
    const splitter = new LineSplitter((value) => {
      this.#event(value);
      if (seen++ === 0) this.#watched();
    });
    const settled = setTimeout(() => this.#watched(), SHORT_WATCH_MILLIS);
    try {
      await this.#consume(response, (chunk) => splitter.write(chunk));
    } finally {
      clearTimeout(settled);
    }
    if (seen === 0 && performance.now() - started < SHORT_WATCH_MILLIS)
      throw new Error('the watch was closed at once');
  }

  #event(event: unknown): void {
    const type = member(event, 'type');
    const value = member(event, 'object');
    if (type === 'ERROR') {
      const code = member(value, 'code');
      if (isExpired(code, value)) throw new Expired();
      throw new ApiFailure(
        typeof code === 'number' ? code : 500,
        string(member(value, 'message')) || 'the watch failed',
      );
    }
    const version = string(member(value, 'metadata', 'resourceVersion'));
    if (version === '') throw new MalformedResponse('an event without a resourceVersion');
    if (type === 'BOOKMARK') this.counters.bookmarks++;
    else if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') {
      const object = this.#project(value);
      this.counters.events++;
      if (type === 'DELETED') this.#options.sink.delete(object.key);
      else this.#options.sink.set(object, false);
    } else throw new MalformedResponse('an event of an unknown type');
    this.#version = version;
  }
}

function refusal({ status, message }: ApiFailure, resource: string, verb: string): string {
  switch (status) {
    case 401:
      return `the API server does not accept the agent's token (401); check the service account or kubeconfig`;
    case 403:
      return `not allowed to ${verb} ${resource} (403): grant the verb ${verb} on ${resource} in the agent's ClusterRole; names that need it are missing`;
    case 404:
      return `the API server has no ${resource} (404); names that need them are missing`;
    default:
      return `the API server failed to ${verb} ${resource} (${status}: ${message}); trying again`;
  }
}
