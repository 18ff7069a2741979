// A small API server in this process: real HTTP, list and watch with versions, paging, bookmarks and a history that ends,
// and every fault that a test wants. It knows nothing of the agent; the protocol is the API concepts page's.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface FakeObject {
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    [field: string]: unknown;
  };
  // biome-ignore lint/suspicious/noExplicitAny: objects of every kind
  [field: string]: any;
}

export type Fault =
  /** This answer instead. */
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly body?: string;
      readonly headers?: Record<string, string>;
    }
  /** The connection ends after so many bytes of the body. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** 200 and rubbish. */
  | { readonly kind: 'garbage'; readonly body: string }
  /** A good body in small pieces. */
  | { readonly kind: 'slow'; readonly pieceBytes: number }
  /** No answer at all. */
  | { readonly kind: 'hang' }
  /** The connection is reset before the answer. */
  | { readonly kind: 'reset' };

export interface FakeRequest {
  readonly resource: string;
  readonly verb: 'list' | 'watch' | 'get';
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
}

interface HistoryEvent {
  readonly version: number;
  readonly resource: string;
  readonly before: FakeObject | undefined;
  readonly after: FakeObject | undefined;
}

interface Watcher {
  readonly resource: string;
  readonly matches: (object: FakeObject) => boolean;
  readonly write: (text: string) => void;
  readonly end: () => void;
}

const PATHS: Readonly<Record<string, string>> = {
  '/api/v1/pods': 'pods',
  '/api/v1/services': 'services',
  '/api/v1/nodes': 'nodes',
  '/apis/discovery.k8s.io/v1/endpointslices': 'endpointslices',
};

export function keyOf(object: FakeObject): string {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
}

function selector(query: URLSearchParams): (object: FakeObject) => boolean {
  const [field, value] = (query.get('fieldSelector') ?? '').split('=');
  if (!field) return () => true;
  const path = field.split('.');
  // biome-ignore lint/suspicious/noExplicitAny: any field
  return (object) => path.reduce<any>((current, part) => current?.[part], object) === value;
}

function statusBody(code: number, reason: string, message: string): string {
  return JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message });
}

export class FakeApiServer {
  readonly requests: FakeRequest[] = [];
  /** Decides about every request; undefined lets it pass. */
  fault: (request: FakeRequest) => Fault | undefined = () => undefined;
  /** Only requests with this token are let in, when set. */
  token: string | undefined;
  bytesSent = 0;
  #version = 100;
  #objects = new Map<string, Map<string, FakeObject>>();
  #history: HistoryEvent[] = [];
  /** Versions up to this one are forgotten. */
  #forgotten = 100;
  #snapshots = new Map<number, Map<string, FakeObject[]>>();
  #watchers = new Set<Watcher>();
  #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;

  async start(): Promise<string> {
    const server = createServer((request, response) => this.#handle(request, response));
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => {});
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Goes away; {@link start} brings it back on the same port with the same objects. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#watchers.clear();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
  }

  get port(): number {
    return this.#port;
  }

  /** The truth. */
  objects(resource: string): FakeObject[] {
    return [...(this.#objects.get(resource)?.values() ?? [])];
  }

  count(resource: string, verb: FakeRequest['verb']): number {
    return this.requests.filter((request) => request.resource === resource && request.verb === verb).length;
  }

  /** Lists, not counting their further pages. */
  lists(resource: string): number {
    return this.requests.filter(
      (r) =>
        r.resource === resource &&
        r.verb === 'list' &&
        !r.query.has('continue') &&
        !r.query.get('fieldSelector')?.startsWith('status.'),
    ).length;
  }

  put(resource: string, object: FakeObject): FakeObject {
    const table = this.#table(resource);
    const before = table.get(keyOf(object));
    const after = structuredClone(object);
    after.metadata.resourceVersion = String(++this.#version);
    table.set(keyOf(object), after);
    this.#record({ version: this.#version, resource, before, after });
    return after;
  }

  remove(resource: string, key: string): void {
    const before = this.#table(resource).get(key);
    if (before === undefined) return;
    this.#table(resource).delete(key);
    this.#record({ version: ++this.#version, resource, before, after: undefined });
  }

  /** Forgets history, so that older versions are Gone. Watches that stand stay. */
  compact(): void {
    this.#forgotten = this.#version;
    this.#history = [];
    this.#snapshots.clear();
  }

  bookmark(): void {
    for (const watcher of this.#watchers) watcher.write(`${this.#bookmarkLine()}\n`);
  }

  /** Ends all watches as the server does when their time is over. */
  endWatches(): void {
    for (const watcher of [...this.#watchers]) watcher.end();
    this.#watchers.clear();
  }

  /** Cuts all connections. */
  cutConnections(): void {
    this.#watchers.clear();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Writes raw text into all standing watches. */
  writeToWatches(text: string): void {
    for (const watcher of this.#watchers) watcher.write(text);
  }

  get watching(): number {
    return this.#watchers.size;
  }

  #table(resource: string): Map<string, FakeObject> {
    let table = this.#objects.get(resource);
    if (table === undefined) {
      table = new Map();
      this.#objects.set(resource, table);
    }
    return table;
  }

  #bookmarkLine(): string {
    return JSON.stringify({
      type: 'BOOKMARK',
      object: { kind: 'Any', metadata: { resourceVersion: String(this.#version), creationTimestamp: null } },
    });
  }

  #record(event: HistoryEvent): void {
    this.#history.push(event);
    for (const watcher of this.#watchers) {
      const line = eventLine(event, watcher);
      if (line !== undefined) watcher.write(line);
    }
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const single = /^\/api\/v1\/namespaces\/([^/]+)\/pods\/([^/]+)$/.exec(url.pathname);
    const resource = single === null ? PATHS[url.pathname] : 'pods';
    if (resource === undefined) {
      this.#send(
        response,
        404,
        statusBody(404, 'NotFound', 'the server could not find the requested resource'),
      );
      return;
    }
    const verb = single !== null ? 'get' : url.searchParams.has('watch') ? 'watch' : 'list';
    const seen: FakeRequest = { resource, verb, query: url.searchParams, headers: request.headers };
    this.requests.push(seen);
    if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`) {
      this.#send(response, 401, statusBody(401, 'Unauthorized', 'Unauthorized'));
      return;
    }
    const fault = this.fault(seen);
    switch (fault?.kind) {
      case 'status': {
        this.#send(
          response,
          fault.status,
          fault.body ?? statusBody(fault.status, 'Injected', 'injected'),
          fault.headers,
        );
        return;
      }
      case 'garbage': {
        this.#send(response, 200, fault.body);
        return;
      }
      case 'hang':
        return;
      case 'reset':
        response.socket?.resetAndDestroy();
        return;
    }
    if (verb === 'watch') this.#watch(seen, response, fault);
    else if (single !== null) {
      const object = this.#table('pods').get(`${single[1]}/${single[2]}`);
      if (object === undefined) this.#send(response, 404, statusBody(404, 'NotFound', 'not found'));
      else this.#sendBody(response, JSON.stringify(object), fault);
    } else this.#list(seen, response, fault);
  }

  #send(response: ServerResponse, status: number, body: string, headers: Record<string, string> = {}): void {
    this.bytesSent += body.length;
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body);
  }

  #sendBody(response: ServerResponse, body: string, fault: Fault | undefined): void {
    response.writeHead(200, { 'content-type': 'application/json' });
    this.bytesSent += body.length;
    if (fault?.kind === 'cut') {
      response.write(body.slice(0, fault.afterBytes), () => response.destroy());
    } else if (fault?.kind === 'slow') {
      let start = 0;
      const next = (): void => {
        if (start >= body.length) response.end();
        else {
          response.write(body.slice(start, start + fault.pieceBytes));
          start += fault.pieceBytes;
          setImmediate(next);
        }
      };
      next();
    } else response.end(body);
  }

  #list({ resource, query }: FakeRequest, response: ServerResponse, fault: Fault | undefined): void {
    const limit = Number(query.get('limit') ?? 0) || Number.POSITIVE_INFINITY;
    const token = query.get('continue');
    let version = this.#version;
    let start = 0;
    if (token !== null) {
      [version = 0, start = 0] = token.split(':').map(Number);
      if (!this.#snapshots.has(version)) {
        this.#send(response, 410, statusBody(410, 'Expired', 'The provided continue parameter is too old'));
        return;
      }
    }
    let snapshot = this.#snapshots.get(version);
    if (snapshot === undefined) {
      snapshot = new Map();
      this.#snapshots.set(version, snapshot);
    }
    let all = snapshot.get(resource);
    if (all === undefined) {
      all = this.objects(resource).sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
      snapshot.set(resource, all);
    }
    const matching = all.filter(selector(query));
    const items = matching.slice(start, start + limit);
    const end = start + items.length;
    const more =
      end < matching.length
        ? { continue: `${version}:${end}`, remainingItemCount: matching.length - end }
        : {};
    const list = {
      kind: 'List',
      apiVersion: 'v1',
      metadata: { resourceVersion: String(version), ...more },
      items,
    };
    this.#sendBody(response, JSON.stringify(list), fault);
  }

  #watch({ resource, query }: FakeRequest, response: ServerResponse, fault: Fault | undefined): void {
    const since = Number(query.get('resourceVersion'));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (since < this.#forgotten) {
      const object = {
        kind: 'Status',
        code: 410,
        reason: 'Expired',
        message: `too old resource version: ${since}`,
      };
      response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
      return;
    }
    let left = fault?.kind === 'cut' ? fault.afterBytes : Number.POSITIVE_INFINITY;
    const watcher: Watcher = {
      resource,
      matches: selector(query),
      write: (text) => {
        if (left <= 0) return;
        this.bytesSent += text.length;
        response.write(text.slice(0, left));
        left -= text.length;
        if (left <= 0) setImmediate(() => response.destroy());
      },
      end: () => response.end(),
    };
    this.#watchers.add(watcher);
    response.on('close', () => this.#watchers.delete(watcher));
    for (const event of this.#history) {
      if (event.version <= since) continue;
      const line = eventLine(event, watcher);
      if (line !== undefined) watcher.write(line);
    }
  }
}

/** What a watcher with a selector sees of a change. */
function eventLine(event: HistoryEvent, watcher: Watcher): string | undefined {
  if (event.resource !== watcher.resource) return undefined;
  const before = event.before !== undefined && watcher.matches(event.before);
  const after = event.after !== undefined && watcher.matches(event.after);
  if (!before && !after) return undefined;
  const type = !before ? 'ADDED' : after ? 'MODIFIED' : 'DELETED';
  // A deletion carries the last state under the version of the deletion.
  const object = after
    ? event.after
    : { ...event.before, metadata: { ...event.before?.metadata, resourceVersion: String(event.version) } };
  return `${JSON.stringify({ type, object })}\n`;
}
