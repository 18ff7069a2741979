// The agent's HTTP endpoint: /metrics, /healthz, /readyz and an index page. Started by the CLI. It is open to the
// network, so every resource a client can hold (connections, header bytes, time, queued requests) has a bound.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Collector } from '../telemetry/collector.ts';
import { type Log, SILENT } from '../telemetry/log.ts';
import type { SeriesStore } from '../telemetry/store.ts';
import { ListenError } from './errors.ts';
import { INDEX_PAGE } from './index_page.ts';
import { Scrapes } from './scrape.ts';

/** What /readyz and /metrics ask. */
export interface Health {
  /** Why nothing can be measured yet (probes are still being attached); undefined once attaching has ended. */
  starting(): string | undefined;
  /** Probes that are not ready, with the reason; empty when each enabled one is attached and was read once. */
  unready(): readonly { readonly name: string; readonly reason: string }[];
}

/** Bounds on what clients can hold. Times in milliseconds. */
export interface ServerBounds {
  readonly maxConnections: number;
  readonly maxConcurrentScrapes: number;
  /** Requests waiting on one connection (pipelining). */
  readonly maxPipelined: number;
  readonly maxHeaderBytes: number;
  /** From the first byte (or the connection) to the end of the headers. */
  readonly headersMillis: number;
  /** An idle connection is kept this long between requests. */
  readonly keepAliveMillis: number;
  /** A scrape has to be read to its end in this time. */
  readonly scrapeMillis: number;
  /** `close` waits this long for scrapes under way. */
  readonly drainMillis: number;
}

export const DEFAULT_BOUNDS: ServerBounds = {
  maxConnections: 256,
  maxConcurrentScrapes: 128,
  maxPipelined: 8,
  maxHeaderBytes: 8192,
  headersMillis: 5000,
  // Longer than the usual scrape interval of 60 s, so that Prometheus keeps its connection.
  keepAliveMillis: 75_000,
  scrapeMillis: 30_000,
  drainMillis: 5000,
};

export interface ServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly collector: Collector;
  readonly store: SeriesStore;
  readonly health: Health;
  readonly log?: Log;
  readonly bounds?: Partial<ServerBounds>;
  /** Further paths, answered for GET and HEAD. A handler must not throw, and end the response itself. */
  readonly routes?: Readonly<Record<string, Route>>;
}

/** Answers one path that is not the server's own. */
export type Route = (request: IncomingMessage, response: ServerResponse) => void;

/** A listening server. */
export interface RunningServer {
  readonly host: string;
  readonly port: number;
  /** Base URL for people, such as http://localhost:9464. */
  readonly url: string;
  /** Takes no new connections, lets scrapes under way end, then closes. Idempotent, never rejects. */
  close(): Promise<void>;
}

/** Listens. Rejects with a {@link ListenError} when it cannot. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const endpoint = new Endpoint(options);
  await endpoint.listen();
  return endpoint;
}

class Endpoint implements RunningServer {
  readonly host: string;
  port: number;
  private readonly collector: Collector;
  private readonly health: Health;
  private readonly log: Log;
  private readonly bounds: ServerBounds;
  private readonly server: Server;
  private readonly scrapes: Scrapes;
  private readonly routes: ReadonlyMap<string, Route>;
  private readonly sockets = new Set<Socket>();
  private readonly queued = new WeakMap<Socket, number>();
  private closing: Promise<void> | undefined;

  constructor({ host, port, collector, store, health, log = SILENT, bounds, routes = {} }: ServerOptions) {
    this.host = host;
    this.port = port;
    this.collector = collector;
    this.health = health;
    this.log = log;
    this.routes = new Map(Object.entries(routes));
    this.bounds = { ...DEFAULT_BOUNDS, ...bounds };
    const { scrapeMillis, maxConcurrentScrapes } = this.bounds;
    this.scrapes = new Scrapes({
      collector,
      store,
      notReady: () => this.health.starting(),
      deadlineMillis: scrapeMillis,
      maxConcurrent: maxConcurrentScrapes,
    });
    this.server = this.create();
  }

  get url(): string {
    const anywhere = this.host === '0.0.0.0' || this.host === '::' || this.host === '';
    const host = this.host.includes(':') ? `[${this.host}]` : this.host;
    return `http://${anywhere ? 'localhost' : host}:${this.port}`;
  }

  listen(): Promise<void> {
    const { server } = this;
    return new Promise((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException) => reject(new ListenError(this.host, this.port, error));
      server.once('error', failed);
      server.listen({ host: this.host, port: this.port, backlog: 128 }, () => {
        server.off('error', failed);
        server.on('error', (error) => this.log.error({ reason: error.message }, 'endpoint failed'));
        this.port = (server.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  close(): Promise<void> {
    this.closing ??= new Promise((resolve) => {
      const timer = setTimeout(() => this.server.closeAllConnections(), this.bounds.drainMillis);
      this.server.close(() => {
        clearTimeout(timer);
        resolve();
      });
      this.server.closeIdleConnections();
      // Connections that never sent a request count as busy for Node: they have nothing to lose.
      for (const socket of this.sockets) if (!this.queued.get(socket)) socket.destroy();
    });
    return this.closing;
  }

  private create(): Server {
    const { maxConnections, maxHeaderBytes, headersMillis, keepAliveMillis } = this.bounds;
    const server = createServer({
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: headersMillis,
      requestTimeout: headersMillis,
      keepAliveTimeout: keepAliveMillis,
      connectionsCheckingInterval: Math.min(1000, headersMillis),
      noDelay: true,
    });
    server.maxConnections = maxConnections;
    server.maxHeadersCount = 64;
    server.maxRequestsPerSocket = 10_000;
    server.on('connection', (socket: Socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
    server.on('clientError', rejectMalformed);
    // Without these, Node answers 100 and 417 by itself, or keeps an upgraded socket open.
    server.on('checkContinue', (request, response) => this.accept(request, response));
    server.on('checkExpectation', (request, response) => this.accept(request, response));
    server.on('upgrade', (_request, socket: Duplex) => socket.destroy());
    server.on('connect', (_request, socket: Duplex) => socket.destroy());
    server.on('request', (request, response) => this.accept(request, response));
    return server;
  }

  private accept(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const queued = (this.queued.get(socket) ?? 0) + 1;
    if (queued > this.bounds.maxPipelined) {
      socket.destroy();
      return;
    }
    this.queued.set(socket, queued);
    response.once('close', () => {
      this.queued.set(socket, (this.queued.get(socket) ?? 1) - 1);
      if (this.closing) socket.destroySoon();
    });
    // A reset while the answer is written: nothing to do, 'close' follows.
    response.on('error', () => {});
    if (this.closing) response.setHeader('Connection', 'close');
    const hasBody =
      request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length']) > 0;
    if (hasBody) {
      // No resource here takes a body: it is not read, and the connection cannot be used again.
      response.setHeader('Connection', 'close');
      response.once('finish', () => socket.destroySoon());
    }
    this.route(request, response);
  }

  private route(request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      reply(response, 405, 'only GET and HEAD\n');
      return;
    }
    const path = (request.url ?? '').split('?', 1)[0];
    switch (path) {
      case '/metrics':
        // `answer` never rejects.
        void this.scrapes.answer(request, response);
        return;
      case '/healthz':
        reply(response, 200, 'ok\n');
        return;
      case '/readyz':
        // `answerReady` never rejects.
        void this.answerReady(response);
        return;
      case '/':
        reply(response, 200, INDEX_PAGE, 'text/html; charset=utf-8');
        return;
      default: {
        const route = this.routes.get(path ?? '');
        if (route) route(request, response);
        else reply(response, 404, 'not found; try /metrics, /healthz or /readyz\n');
      }
    }
  }

  /** Readiness needs one reading of every probe: without a scrape so far this is the first. */
  private async answerReady(response: ServerResponse): Promise<void> {
    const starting = this.health.starting();
    if (starting !== undefined) {
      reply(response, 503, `${starting}\n`);
      return;
    }
    let unready = this.health.unready();
    if (unready.length > 0) {
      await this.collector.collect();
      unready = this.health.unready();
    }
    if (unready.length === 0) reply(response, 200, 'ready\n');
    else reply(response, 503, unready.map(({ name, reason }) => `${name}: ${reason}\n`).join(''));
  }
}

function reply(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  if (response.destroyed) return;
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'",
  });
  response.end(body);
}

const STATUS_OF: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** Answers what is no HTTP, or too slow or too large, with a bare status, and hangs up. */
function rejectMalformed(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = STATUS_OF[error.code ?? ''] ?? '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}
