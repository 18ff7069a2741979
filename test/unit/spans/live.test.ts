// The live view: feed, HTTP endpoint and what `kubenetprobe trace` prints, over a real HTTP connection.

import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CliError } from '../../../exporter/cli/exit.ts';
import { textWidth } from '../../../exporter/cli/text.ts';
import { printTrace, traceHeader, traceRow } from '../../../exporter/cli/trace_stream.ts';
import {
  createSpanFeed,
  matches,
  type SpanFeed,
  type TraceFilter,
  traceLine,
} from '../../../exporter/telemetry/spans/feed.ts';
import { parseStatus, parseTraceQuery, serveTrace } from '../../../exporter/telemetry/spans/live_endpoint.ts';
import { createTraceOutput } from '../../../exporter/telemetry/spans/sink.ts';
import { NGINX, record, SHOP } from './records.ts';

const ID = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' };

describe('filters', () => {
  it.each<[TraceFilter, boolean]>([
    [{}, true],
    [{ workload: 'shop' }, true],
    [{ workload: 'cart' }, true],
    [{ workload: 'prod/cart' }, true],
    [{ workload: 'test/cart' }, false],
    [{ workload: 'car' }, false],
    [{ status: { from: 200, to: 299 } }, true],
    [{ status: { from: 500, to: 599 } }, false],
    [{ slowerThanSeconds: 0.25 }, true],
    [{ slowerThanSeconds: 0.250000001 }, false],
    [{ errors: true }, false],
    [{ errors: false }, true],
    [{ workload: 'cart', status: { from: 404, to: 404 } }, false],
  ])('%o: %s', (filter, expected) => {
    expect(matches(record(), filter)).toBe(expected);
  });

  it('errors are 5xx at the server, 4xx and 5xx at the client, broken exchanges at both', () => {
    const errors = { errors: true };
    expect(matches(record({ status: 404 }), errors)).toBe(false);
    expect(matches(record({ status: 404, kind: 'client' }), errors)).toBe(true);
    expect(matches(record({ status: 500 }), errors)).toBe(true);
    expect(matches(record({ status: undefined, broken: 'timeout' }), errors)).toBe(true);
    expect(matches(record({ status: undefined }), { status: { from: 100, to: 599 } })).toBe(false);
  });

  it.each([
    ['404', { from: 404, to: 404 }],
    ['5xx', { from: 500, to: 599 }],
    ['4XX', { from: 400, to: 499 }],
    ['400-451', { from: 400, to: 451 }],
    ['500-400', undefined],
    ['6xx', undefined],
    ['40', undefined],
    ['', undefined],
    ['404;', undefined],
  ])('status %j', (text, expected) => {
    expect(parseStatus(text)).toEqual(expected);
  });

  it.each([
    [
      'workload=prod/cart&status=5xx&slower_than=0.5&errors=true',
      {
        workload: 'prod/cart',
        protocol: undefined,
        status: { from: 500, to: 599 },
        slowerThanSeconds: 0.5,
        errors: true,
      },
    ],
    [
      '',
      {
        workload: undefined,
        protocol: undefined,
        status: undefined,
        slowerThanSeconds: undefined,
        errors: false,
      },
    ],
    ['status=abc', 'status must be like 404, 5xx, 400-499 or NOT_FOUND'],
    ['slower_than=-1', 'slower_than must be a number of seconds'],
    ['slower_than=', 'slower_than must be a number of seconds'],
    ['slower_than=NaN', 'slower_than must be a number of seconds'],
    ['errors=1', 'errors must be true or false'],
    ['x=1', 'unknown parameter; known: workload, protocol, status, slower_than, errors'],
  ])('query %j', (query, expected) => {
    expect(parseTraceQuery(new URLSearchParams(query))).toEqual(expected);
  });
});

describe('feed', () => {
  it('gives each subscriber what it asked for, in order', async () => {
    const feed = createSpanFeed();
    const all = feed.subscribe();
    const errors = feed.subscribe({ errors: true });
    feed.publish(record({ target: '/a' }), ID);
    feed.publish(record({ target: '/b', status: 500 }), ID);
    expect([(await all?.next())?.target, (await all?.next())?.target]).toEqual(['/a', '/b']);
    expect((await errors?.next())?.target).toBe('/b');
    const waiting = all?.next();
    feed.close();
    expect(await waiting).toBeUndefined();
    expect(await errors?.next()).toBeUndefined();
    expect(feed.subscribers).toBe(0);
  });

  it('a slow subscriber loses the oldest lines, counted; subscribers are limited', async () => {
    const feed = createSpanFeed({ maxSubscribers: 2, bufferLines: 10 });
    const slow = feed.subscribe();
    for (let i = 0; i < 25; i++) feed.publish(record({ target: `/${i}` }), ID);
    expect(slow?.missed).toBe(15);
    expect((await slow?.next())?.target).toBe('/15');
    const second = feed.subscribe();
    expect(feed.subscribe()).toBeUndefined();
    second?.close();
    second?.close();
    expect(feed.subscribe()).toBeDefined();
  });

  it('makes the sink active while somebody watches, without an export', async () => {
    const feed = createSpanFeed();
    const output = createTraceOutput({ resource: { host: 'h', agentVersion: '0' }, feed });
    expect(output.active).toBe(false);
    const subscription = feed.subscribe();
    expect(output.active).toBe(true);
    expect(output.accept(record())).toBeUndefined();
    expect(await subscription?.next()).toMatchObject({
      protocol: 'http',
      operation: 'GET',
      status: 200,
      duration_seconds: 0.250000001,
    });
    subscription?.close();
    expect(output.active).toBe(false);
  });

  it('a line holds what is known and nothing else', () => {
    expect(traceLine(record({ exactTarget: '/users/42?q=secret' }), ID)).toEqual({
      time: '2026-11-23T14:00:00.123Z',
      reporter: 'server',
      client: 'shop',
      client_namespace: 'prod',
      server: 'cart',
      server_namespace: 'prod',
      server_port: 8080,
      protocol: 'http',
      operation: 'GET',
      target: '/users/{id}',
      exact_target: '/users/42',
      status: 200,
      duration_seconds: 0.250000001,
      request_bytes: 0,
      response_bytes: 1234,
      trace_id: ID.traceId,
      span_id: ID.spanId,
      sampling_reason: 'share',
    });
  });
});

describe('over HTTP', () => {
  let feed: SpanFeed;
  let server: Server;
  let base: URL;
  beforeEach(async () => {
    feed = createSpanFeed({ maxSubscribers: 2 });
    server = createServer((request, response) => {
      if (request.url?.startsWith('/api/trace')) void serveTrace(feed, request, response);
      else response.writeHead(404).end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    base = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  });
  afterEach(async () => {
    feed.close();
    server.closeAllConnections();
    server.close();
  });

  const print = (query: string, options: { json?: boolean; limit?: number; signal?: AbortSignal } = {}) => {
    const written: string[] = [];
    const done = printTrace(base, new URLSearchParams(query), {
      json: options.json ?? false,
      limit: options.limit ?? Number.POSITIVE_INFINITY,
      columns: 110,
      signal: options.signal ?? new AbortController().signal,
      write: (text) => written.push(text),
    });
    return { written, done };
  };
  const watched = async () => {
    while (feed.subscribers === 0) await sleep(5);
  };
  const gone = async () => {
    while (feed.subscribers > 0) await sleep(5);
  };
  const answer = (headers: Record<string, string>, path = 'api/trace', method = 'GET') =>
    new Promise<IncomingMessage>((resolve, reject) => {
      get(new URL(path, base), { headers, agent: false, method }, resolve).on('error', reject).end();
    });

  it('prints JSON lines that say what the probe said, and ends at the limit', async () => {
    const { written, done } = print('workload=cart', { json: true, limit: 2 });
    await watched();
    for (const target of ['/a', '/b', '/c']) feed.publish(record({ target }), ID);
    feed.publish(record({ client: NGINX, server: NGINX }), ID);
    await done;
    expect(written.map((text) => JSON.parse(text))).toEqual(
      ['/a', '/b'].map((target) => traceLine(record({ target }), ID)),
    );
    await gone();
  });

  it('prints rows for people', async () => {
    const { written, done } = print('', { limit: 2 });
    await watched();
    feed.publish(record(), ID);
    feed.publish(
      record({
        kind: 'client',
        client: NGINX,
        server: SHOP,
        status: undefined,
        broken: 'connection_reset',
        target: undefined,
      }),
      ID,
    );
    await done;
    expect(written.map((text) => text.trimEnd())).toEqual([
      'TIME          BY      PROTO  OP       STATUS  DURATION  CLIENT → SERVER                 TARGET',
      '14:00:00.123  server  http   GET      200        250ms  prod/shop → prod/cart:8080      /users/{id}',
      '14:00:00.123  client  http   GET      -          250ms  nginx.service → prod/shop:8080  /users/42 (connection…',
    ]);
  });

  it('ends on a signal without an error, and frees its place', async () => {
    const stop = new AbortController();
    const { done } = print('', { signal: stop.signal });
    await watched();
    stop.abort();
    await done;
    await gone();
  });

  it('says when the agent ends, is not there, or refuses', async () => {
    const { done } = print('');
    await watched();
    feed.close();
    await expect(done).rejects.toThrow('the agent ended');
    await expect(print('status=zzz').done).rejects.toThrow(
      'answered 400: status must be like 404, 5xx, 400-499 or NOT_FOUND',
    );
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
    const failure = await print('').done.catch((error) => error);
    expect(failure).toBeInstanceOf(CliError);
    expect(failure.message).toContain('nothing listens there');
  });

  it('refuses other hosts, web pages and other methods', async () => {
    expect((await answer({ host: 'evil.example' })).statusCode).toBe(403);
    expect((await answer({ origin: 'http://evil.example' })).statusCode).toBe(403);
    expect((await answer({}, 'api/trace', 'POST')).statusCode).toBe(405);
    expect(feed.subscribers).toBe(0);
  });

  it('refuses more readers than it has places for, and frees those of readers that vanish', async () => {
    const first = await answer({});
    const second = await answer({ host: 'localhost:1' });
    expect([first.statusCode, second.statusCode]).toEqual([200, 200]);
    expect((await answer({})).statusCode).toBe(503);
    first.destroy();
    second.destroy();
    await gone();
    expect((await answer({})).statusCode).toBe(200);
  });

  it('a reader that stands still costs a bounded buffer and is told what it missed', async () => {
    const response = await answer({});
    response.pause();
    for (let i = 0; i < 60_000; i++) {
      feed.publish(record({ exactTarget: `/${'p'.repeat(200)}`, target: `/${i}` }), ID);
      if (i % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    let text = '';
    response.setEncoding('utf8').resume();
    response.on('data', (part) => {
      text += part;
    });
    while (!text.includes('"/59999"')) await sleep(10);
    response.destroy();
    const lines = text
      .split('\n')
      .filter((line) => line !== '')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
    const missed = lines.filter((line) => 'missed' in line).at(-1)?.missed ?? 0;
    expect(missed).toBeGreaterThan(0);
    expect(lines.filter((line) => 'target' in line).length + missed).toBeGreaterThanOrEqual(59_999);
  });
});

describe('rows', () => {
  it('hostile names stay in their line and column', () => {
    const name = `\u001b[2J\r\n\u202e${'x'.repeat(300)}`;
    const line = traceLine(
      record({ server: { ...SHOP, name }, operation: `G\u0007\t${'E'.repeat(100)}`, target: '/ü漢字\u0000' }),
      ID,
    );
    for (const columns of [80, 100, 200]) {
      const text = traceRow(line, columns);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there
      expect(text.slice(0, -1)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
      expect(text.endsWith('\n')).toBe(true);
      expect(textWidth(text.trimEnd())).toBeLessThanOrEqual(columns);
      expect(textWidth(traceHeader(columns).trimEnd())).toBeLessThanOrEqual(columns);
    }
  });
});
