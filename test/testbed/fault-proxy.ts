// A proxy in front of the API server that does, when told, what the real one will not do on demand: 410 Gone, errors,
// cuts in mid-object, slowness, garbage, silence. It also counts what was asked and answered.
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Agent, createServer, request as httpsRequest, type Server } from 'node:https';
import { join } from 'node:path';
import { type Duplex, Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ControlPlane } from './control-plane.ts';

export type Fault =
  /** Answers in the server's place with a Status object. */
  | { kind: 'status'; status: number; reason?: string; retryAfterSeconds?: number }
  /** Lets this many bytes of the body through, then ends the connection without an end of the body. */
  | { kind: 'cut'; afterBytes: number }
  /** Lets this many bytes through, then says nothing more and keeps the connection. */
  | { kind: 'hang'; afterBytes: number }
  /** Lets this many bytes through, then sends what is no JSON, and ends the body properly. */
  | { kind: 'garbage'; afterBytes: number }
  /** A watch event of type ERROR with code 410 after this many bytes, and the end: an expired resource version. */
  | { kind: 'gone'; afterBytes: number }
  | { kind: 'slow'; bytesPerSecond: number }
  /** Waits before the request is passed on. */
  | { kind: 'delay'; millis: number }
  /** Closes the connection at once. */
  | { kind: 'refuse' };

export interface FaultRule {
  readonly fault: Fault;
  /** Of the whole path with its query; every request by default. */
  readonly path?: RegExp;
  /** Watches only, or all but watches. */
  readonly watch?: boolean;
  /** Requests it acts on before it goes; without end by default. */
  readonly times?: number;
}

export interface RequestRecord {
  readonly method: string;
  readonly path: string;
  readonly watch: boolean;
  /** User-Agent. */
  readonly agent: string;
  status: number;
  /** Of the body, as it went over the wire. */
  bytes: number;
  fault?: Fault['kind'];
  ended: boolean;
}

export interface ActiveRule {
  /** Requests it has acted on. */
  readonly hits: number;
  remove(): void;
}

export interface FaultProxy {
  readonly url: string;
  /** Every request since the start, in order. */
  readonly requests: RequestRecord[];
  add(rule: FaultRule): ActiveRule;
  clear(): void;
  /** Ends every connection, as a load balancer that restarts. */
  dropConnections(): void;
  stop(): Promise<void>;
}

interface MutableRule extends FaultRule {
  hits: number;
}

export async function startFaultProxy(controlPlane: ControlPlane): Promise<FaultProxy> {
  const upstream = new URL(controlPlane.url);
  const pki = join(controlPlane.caPath, '..');
  const agent = new Agent({ ca: controlPlane.ca, keepAlive: true });
  const rules: MutableRule[] = [];
  const requests: RequestRecord[] = [];
  const sockets = new Set<Duplex>();

  const take = (path: string, watch: boolean): Fault | undefined => {
    const rule = rules.find(
      (each) =>
        each.hits < (each.times ?? Number.POSITIVE_INFINITY) &&
        (each.watch === undefined || each.watch === watch) &&
        (each.path === undefined || each.path.test(path)),
    );
    if (rule) rule.hits++;
    return rule?.fault;
  };

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = request.url ?? '/';
    const watch = /[?&]watch=(true|1)/.test(path);
    const fault = take(path, watch);
    const record: RequestRecord = {
      method: request.method ?? '',
      path,
      watch,
      agent: request.headers['user-agent'] ?? '',
      status: 0,
      bytes: 0,
      ended: false,
      ...(fault && { fault: fault.kind }),
    };
    requests.push(record);
    response.on('close', () => {
      record.ended = true;
    });
    if (fault?.kind === 'refuse') return void request.socket.destroy();
    if (fault?.kind === 'status') return answerStatus(response, record, fault);
    if (fault?.kind === 'delay') await sleep(fault.millis);
    forward(request, response, record, fault, upstream, agent);
  };

  const server = createServer(
    { key: readFileSync(join(pki, 'apiserver.key')), cert: readFileSync(join(pki, 'apiserver.crt')) },
    (request, response) => {
      handle(request, response).catch(() => response.destroy());
    },
  );
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => socket.destroy());
  });
  server.on('tlsClientError', () => {});
  const port = await listen(server, upstream.hostname);
  const dropConnections = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `https://${upstream.hostname}:${port}`,
    requests,
    add: (given) => {
      const rule: MutableRule = { ...given, hits: 0 };
      rules.push(rule);
      return {
        get hits() {
          return rule.hits;
        },
        remove: () => void rules.splice(rules.indexOf(rule) >>> 0, 1),
      };
    },
    clear: () => void rules.splice(0),
    dropConnections,
    stop: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      dropConnections();
      agent.destroy();
      await closed;
    },
  };
}

function listen(server: Server, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(0, address, () => {
      const bound = server.address();
      resolve(typeof bound === 'object' && bound ? bound.port : 0);
    });
  });
}

function statusObject(code: number, reason: string): object {
  const message = `testbed: ${reason}`;
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
}

function answerStatus(
  response: ServerResponse,
  record: RequestRecord,
  fault: Extract<Fault, { kind: 'status' }>,
): void {
  const retry =
    fault.retryAfterSeconds === undefined ? {} : { 'retry-after': String(fault.retryAfterSeconds) };
  const reasons: Record<number, string> = { 410: 'Expired', 429: 'TooManyRequests', 403: 'Forbidden' };
  const body = JSON.stringify(
    statusObject(fault.status, fault.reason ?? reasons[fault.status] ?? 'InternalError'),
  );
  record.status = fault.status;
  record.bytes = body.length;
  response.writeHead(fault.status, { 'content-type': 'application/json', ...retry }).end(body);
}

function forward(
  request: IncomingMessage,
  response: ServerResponse,
  record: RequestRecord,
  fault: Fault | undefined,
  upstream: URL,
  agent: Agent,
): void {
  const { method, url: path } = request;
  const headers = { ...request.headers, host: upstream.host };
  // A fault in mid-body must fall between readable bytes.
  if (fault) headers['accept-encoding'] = 'identity';
  const { hostname, port } = upstream;
  const sent = httpsRequest({ hostname, port, method, path, headers, agent }, (answer) => {
    record.status = answer.statusCode ?? 0;
    // `connection` is for one hop. What is added to must not be announced with its length.
    const { connection: _, ...answerHeaders } = answer.headers;
    if (fault?.kind === 'garbage' || fault?.kind === 'gone') delete answerHeaders['content-length'];
    response.writeHead(record.status, answerHeaders);
    response.flushHeaders();
    const body = fault ? answer.pipe(withFault(fault, response)) : answer;
    body.on('data', (chunk: Buffer) => {
      record.bytes += chunk.length;
    });
    body.pipe(response);
    answer.on('error', () => response.destroy());
    // The server went away in mid-answer: so does the proxy.
    answer.on('close', () => answer.complete || response.destroy());
  });
  sent.on('error', () => response.destroy());
  response.on('close', () => sent.destroy());
  request.pipe(sent);
}

/** Ends the connection when what has been written so far is on its way. */
function destroyOnceSent(response: ServerResponse): void {
  setImmediate(() => {
    const waiting = response.writableLength + (response.socket?.writableLength ?? 0);
    if (waiting > 0) destroyOnceSent(response);
    else response.destroy();
  });
}

/** A stream that passes bytes on until the fault's moment. */
function withFault(fault: Fault, response: ServerResponse): Transform {
  let passed = 0;
  let done = false;
  const limit = 'afterBytes' in fault ? fault.afterBytes : Number.POSITIVE_INFINITY;
  const atLimit = (stream: Transform): void => {
    done = true;
    if (fault.kind === 'cut') destroyOnceSent(response);
    if (fault.kind === 'garbage') stream.push('}\u0000\u0001<html>not JSON\n{{{\n');
    if (fault.kind === 'gone') {
      const object = statusObject(410, 'Expired');
      stream.push(`\n${JSON.stringify({ type: 'ERROR', object })}\n`);
    }
    if (fault.kind === 'garbage' || fault.kind === 'gone') stream.push(null);
  };
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, callback) {
      if (done) return callback();
      const kept = chunk.subarray(0, limit - passed);
      passed += kept.length;
      this.push(kept);
      if (passed >= limit) atLimit(this);
      if (fault.kind === 'slow') setTimeout(callback, (kept.length / fault.bytesPerSecond) * 1000);
      else callback();
    },
    flush(callback) {
      // A body that hangs or is cut has no end; one shorter than the limit hangs, or is cut, after its last byte.
      if (fault.kind === 'cut' && !done) atLimit(this);
      if (fault.kind !== 'hang' && fault.kind !== 'cut') callback();
    },
  });
  // At byte 0 nothing must have come through: do not wait for a first chunk.
  if (limit === 0) atLimit(stream);
  return stream;
}
