// The live view over HTTP: `GET /api/trace` streams sampled requests as JSON lines until either side ends it. Mounted
// by the server; read by the command `kubenetprobe trace`.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import type { FeedSubscription, SpanFeed, StatusFilter, TraceFilter } from './feed.ts';

/** Path under which the server mounts the handler. */
export const TRACE_PATH = '/api/trace';
/** A stream without lines says that it is alive this often: an empty line. */
const HEARTBEAT_MILLIS = 15_000;

/** Names of the query parameters, and what each takes. */
const PARAMETERS = ['workload', 'protocol', 'status', 'slower_than', 'errors'] as const;

/** `404`, `5xx`, `400-499`, or a word in upper case like `WRONGTYPE`; undefined for anything else. */
export function parseStatus(text: string): StatusFilter | undefined {
  if (/^[A-Z][A-Z0-9_]{0,63}$/.test(text)) return { is: text };
  const digit = /^([1-5])xx$/i.exec(text)?.[1];
  if (digit !== undefined) return { from: Number(digit) * 100, to: Number(digit) * 100 + 99 };
  const match = /^([1-9]\d\d)(?:-([1-9]\d\d))?$/.exec(text);
  if (match === null) return undefined;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  return from <= to ? { from, to } : undefined;
}

/** The filter that a query asks for, or one sentence about what is wrong with it. */
export function parseTraceQuery(query: URLSearchParams): TraceFilter | string {
  for (const name of query.keys())
    if (!PARAMETERS.some((known) => known === name))
      return `unknown parameter; known: ${PARAMETERS.join(', ')}`;
  const statusText = query.get('status');
  const status = statusText === null ? undefined : parseStatus(statusText);
  if (statusText !== null && status === undefined)
    return 'status must be like 404, 5xx, 400-499 or NOT_FOUND';
  const slowText = query.get('slower_than');
  const slowerThanSeconds = slowText === null ? undefined : Number(slowText);
  if (slowText !== null && (slowText.trim() === '' || !(Number(slowText) >= 0 && Number(slowText) <= 86_400)))
    return 'slower_than must be a number of seconds';
  const errors = query.get('errors');
  if (errors !== null && errors !== 'true' && errors !== 'false') return 'errors must be true or false';
  return {
    workload: query.get('workload') ?? undefined,
    protocol: query.get('protocol') ?? undefined,
    status,
    slowerThanSeconds,
    errors: errors === 'true',
  };
}

/** The host's own programs only, and no web page that a browser on this host was led to under another name. */
function isLocal(request: IncomingMessage): boolean {
  const address = request.socket.remoteAddress ?? '';
  const local = address === '::1' || /^(?:::ffff:)?127\./.test(address);
  const host = (request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return local && request.headers.origin === undefined && (host === 'localhost' || isIP(host) !== 0);
}

function refuse(response: ServerResponse, code: number, sentence: string): void {
  response.writeHead(code, {
    'content-type': 'text/plain; charset=utf-8',
    'x-content-type-options': 'nosniff',
  });
  response.end(`${sentence}\n`);
}

/** Resolves when the response takes more, or never will. */
function writable(response: ServerResponse): Promise<void> {
  if (response.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}

async function stream(subscription: FeedSubscription, response: ServerResponse): Promise<void> {
  response.writeHead(200, {
    'content-type': 'application/x-ndjson; charset=utf-8',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.flushHeaders();
  const heartbeat = setInterval(() => {
    if (!response.writableNeedDrain) response.write('\n');
  }, HEARTBEAT_MILLIS);
  heartbeat.unref();
  let told = 0;
  try {
    for (let line = await subscription.next(); line !== undefined; line = await subscription.next()) {
      let text = `${JSON.stringify(line)}\n`;
      if (subscription.missed > told) {
        told = subscription.missed;
        text = `${JSON.stringify({ missed: told })}\n${text}`;
      }
      if (!response.write(text)) await writable(response);
    }
  } finally {
    clearInterval(heartbeat);
    response.end();
  }
}

/**
 * Answers one request for the live view. Sampled requests hold paths and addresses, so that only programs on this host
 * may read them. Never throws; the promise resolves when the stream has ended.
 */
export async function serveTrace(
  feed: SpanFeed,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'GET') return refuse(response, 405, 'only GET');
  if (!isLocal(request)) return refuse(response, 403, 'live requests are shown to this host only');
  const filter = parseTraceQuery(new URL(request.url ?? '/', 'http://local').searchParams);
  if (typeof filter === 'string') return refuse(response, 400, filter);
  const subscription = feed.subscribe(filter);
  if (subscription === undefined) return refuse(response, 503, 'too many watch already');
  response.on('close', () => subscription.close());
  // A reader that resets the connection must not end the agent; 'close' follows.
  response.on('error', () => subscription.close());
  await stream(subscription, response);
}
