// The HTTP endpoint as clients see it: honest ones over fetch and http, hostile ones over raw sockets.
import { get, type IncomingMessage, request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ListenError } from '../../../exporter/server/errors.ts';
import { type RunningServer, type ServerOptions, startServer } from '../../../exporter/server/server.ts';
import { Collector, type Source } from '../../../exporter/telemetry/collector.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { parseExposition } from '../telemetry/exposition_parser.ts';
import { edge } from '../telemetry/helpers.ts';

/** Milliseconds that a condition may take on a busy machine; the default is one second. */
const PATIENCE = 20_000;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Setup {
  readonly store: SeriesStore;
  readonly collector: Collector;
  readonly server: RunningServer;
  readonly health: { starting: () => string | undefined; unready: () => { name: string; reason: string }[] };
}

async function setup(
  options: Partial<ServerOptions> = {},
  sources: readonly Source[] = [],
  series = 0,
): Promise<Setup> {
  const store = new SeriesStore({ seriesPerMetric: 1_000_000 });
  for (let i = 0; i < series; i++) store.counter('knp.tcp.sent_bytes', edge(i)).add(i + 1);
  const collector = new Collector({ store, sources });
  const health = {
    starting: (): string | undefined => undefined,
    unready: (): { name: string; reason: string }[] => [],
  };
  const server = await startServer({ host: '127.0.0.1', port: 0, collector, store, health, ...options });
  cleanups.push(() => server.close());
  return { store, collector, server, health };
}

/** A raw connection; `received` resolves when the server has closed it. */
async function raw(
  port: number,
  text = '',
): Promise<{ socket: Socket; received: Promise<string>; soFar: () => string }> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  cleanups.push(() => socket.destroy());
  let data = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk) => {
    data += chunk;
  });
  socket.on('error', () => {});
  const received = new Promise<string>((resolve) => {
    socket.once('end', () => resolve(data));
    socket.once('close', () => resolve(data));
  });
  await new Promise((resolve) => socket.once('connect', resolve));
  if (text !== '') socket.write(text);
  return { socket, received, soFar: () => data };
}

const outcomes = (store: SeriesStore) => {
  store.settleNow();
  return Object.fromEntries(
    store.family('knp.agent.scrapes').points.map((p) => [/"(\w+)"/.exec(p.labels)?.[1], p.value]),
  );
};

describe('resources', () => {
  test('/metrics in both formats, with and without gzip', async () => {
    const { server } = await setup({}, [], 500);
    for (const [accept, format, type] of [
      ['*/*', 'text', 'text/plain; version=0.0.4; charset=utf-8'],
      [
        'application/openmetrics-text',
        'openmetrics',
        'application/openmetrics-text; version=1.0.0; charset=utf-8',
      ],
    ] as const) {
      for (const encoding of ['identity', 'gzip']) {
        const { headers, body } = await new Promise<{ headers: IncomingMessage['headers']; body: Buffer }>(
          (resolve) => {
            get(
              `${server.url}/metrics?x=1`,
              { headers: { accept, 'accept-encoding': encoding } },
              (response) => {
                const chunks: Buffer[] = [];
                response.on('data', (chunk) => chunks.push(chunk));
                response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks) }));
              },
            );
          },
        );
        expect(headers['content-type']).toBe(type);
        expect(headers['content-encoding']).toBe(encoding === 'gzip' ? 'gzip' : undefined);
        const text = (encoding === 'gzip' ? gunzipSync(body) : body).toString();
        const name = format === 'text' ? 'knp_tcp_sent_bytes_total' : 'knp_tcp_sent_bytes';
        const samples = parseExposition(text, format).get(name)?.samples ?? [];
        expect(samples).toHaveLength(500);
        expect(samples.reduce((sum, { value }) => sum + value, 0)).toBe((500 * 501) / 2);
      }
    }
  });

  test('/healthz, /, 404, 405, HEAD', async () => {
    const { server } = await setup();
    const answer = async (path: string, method = 'GET') => {
      const response = await fetch(server.url + path, { method });
      return [response.status, await response.text(), response.headers.get('allow')];
    };
    expect(await answer('/healthz')).toEqual([200, 'ok\n', null]);
    expect((await answer('/'))[1]).toContain('<a href="/metrics">');
    expect((await answer('/nothing'))[0]).toBe(404);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
      expect(await answer('/metrics', method)).toEqual([405, 'only GET and HEAD\n', 'GET, HEAD']);
    }
    expect(await answer('/metrics', 'HEAD')).toEqual([200, '', null]);
    expect(await answer('/healthz', 'HEAD')).toEqual([200, '', null]);
  });

  test('/readyz: attaching, attached but never read, ready; the first question makes the first reading', async () => {
    let reads = 0;
    const { server, health, collector } = await setup({}, [{ name: 'tcp', collect: () => void reads++ }]);
    const ready = async () => {
      const response = await fetch(`${server.url}/readyz`);
      return [response.status, await response.text()];
    };
    health.starting = () => 'probes are being attached';
    expect(await ready()).toEqual([503, 'probes are being attached\n']);
    expect((await fetch(`${server.url}/metrics`)).status).toBe(503);
    expect(reads).toBe(0);
    health.starting = () => undefined;
    health.unready = () => (collector.wasRead('tcp') ? [] : [{ name: 'tcp', reason: 'was not read yet' }]);
    expect(await ready()).toEqual([200, 'ready\n']);
    expect(reads).toBe(1);
    health.unready = () => [{ name: 'http', reason: 'no hook could be attached' }];
    expect(await ready()).toEqual([503, 'http: no hook could be attached\n']);
    expect((await fetch(`${server.url}/metrics`)).status).toBe(200);
  });

  test('a collection in which everything failed answers 503 with the reason, and the next one may work', async () => {
    let broken = true;
    const source: Source = {
      name: 'tcp',
      owns: ['tcp'],
      collect() {
        if (broken) throw new Error('the map is gone');
      },
    };
    const { server, store } = await setup({}, [source], 3);
    const first = await fetch(`${server.url}/metrics`);
    expect([first.status, await first.text()]).toEqual([
      503,
      'nothing could be read (tcp: the map is gone)\n',
    ]);
    broken = false;
    const second = await fetch(`${server.url}/metrics`);
    expect(second.status).toBe(200);
    expect(await second.text()).toContain('knp_tcp_sent_bytes_total{');
    expect(outcomes(store)).toMatchObject({ success: 1, unavailable: 1 });
  });

  test('100 concurrent scrapes share one collection and all get the whole', async () => {
    let collections = 0;
    const source: Source = {
      name: 'slow',
      async collect() {
        collections++;
        await new Promise((resolve) => setTimeout(resolve, 300));
      },
    };
    const { server } = await setup({}, [source], 2000);
    const bodies = await Promise.all(
      Array.from({ length: 100 }, async () => (await fetch(`${server.url}/metrics`)).text()),
    );
    expect(collections).toBeLessThanOrEqual(3);
    for (const body of bodies) expect(body.match(/^knp_tcp_sent_bytes_total\{/gm)).toHaveLength(2000);
  });
});

describe('hostile clients', () => {
  const quick = { headersMillis: 200, keepAliveMillis: 200, scrapeMillis: 500, drainMillis: 300 };

  test('a connection that says nothing, and headers that come byte by byte, are closed', async () => {
    const { server } = await setup({ bounds: quick });
    const silent = await raw(server.port);
    const slow = await raw(server.port, 'GET /metrics HTTP/1.1\r\n');
    const drip = setInterval(() => slow.socket.write('X: y\r\n'), 20);
    cleanups.push(() => clearInterval(drip));
    expect(await slow.received).toContain('408 Request Timeout');
    await silent.received;
  });

  test.each([
    ['no HTTP', '\u0016\u0003\u0001 TLS hello\r\n\r\n', '400 Bad Request'],
    ['headers too large', `GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}\r\n\r\n`, '431 '],
    ['no Host', 'GET / HTTP/1.1\r\n\r\n', '400 Bad Request'],
    ['two lengths', 'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', '400 '],
    [
      'length and chunked',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n',
      '400 ',
    ],
    [
      'Expect',
      'GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n',
      '200 OK',
    ],
    [
      'a body nobody wants',
      'POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc',
      '405 ',
    ],
    ['CONNECT', 'CONNECT evil:443 HTTP/1.1\r\nHost: evil\r\n\r\n', ''],
    ['Upgrade', 'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n', ''],
    ['HTTP/1.0', 'GET /healthz HTTP/1.0\r\n\r\n', '200 OK'],
    [
      'absolute path traversal',
      'GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      '404 ',
    ],
  ])('%s: answered or cut off, and the connection ends', async (_, text, status) => {
    const { server } = await setup({ bounds: quick });
    const { received } = await raw(server.port, text);
    const answer = await received;
    if (status === '') expect(answer).toBe('');
    else expect(answer.split('\r\n')[0]).toContain(status);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  test('a flood of pipelined requests on one connection is cut off', async () => {
    let collections = 0;
    const source: Source = { name: 's', collect: () => void collections++ };
    const { server } = await setup({ bounds: quick }, [source], 100);
    const flood = await raw(server.port, 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(5000));
    const answer = await flood.received;
    expect(answer.match(/HTTP\/1\.1 200/g)?.length ?? 0).toBeLessThanOrEqual(8);
    expect(collections).toBeLessThanOrEqual(8);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  test('a few pipelined requests are answered in order', async () => {
    const { server } = await setup();
    const paths = ['/healthz', '/nothing', '/metrics', '/healthz'];
    const head = (path: string, i: number) =>
      `GET ${path} HTTP/1.1\r\nHost: x\r\n${i === 3 ? 'Connection: close\r\n' : ''}\r\n`;
    const { received } = await raw(server.port, paths.map(head).join(''));
    expect((await received).match(/HTTP\/1\.1 \d+/g)).toEqual([
      'HTTP/1.1 200',
      'HTTP/1.1 404',
      'HTTP/1.1 200',
      'HTTP/1.1 200',
    ]);
  });

  test('more connections than allowed are refused; the others go on', async () => {
    const { server } = await setup({ bounds: { maxConnections: 10, headersMillis: 60_000 } });
    const kept = await Promise.all(Array.from({ length: 10 }, () => raw(server.port)));
    for (let i = 0; i < 20; i++) expect(await (await raw(server.port)).received).toBe('');
    kept[0]?.socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(await kept[0]?.received).toContain('200 OK');
  });

  test('a reader that stops reading is cut off, holds no one up, and its memory is let go', async () => {
    const { server, store } = await setup({ bounds: { ...quick, scrapeMillis: 4000 } }, [], 60_000);
    const stuck = await raw(server.port);
    stuck.socket.pause();
    stuck.socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n');
    const others = await Promise.all(
      [1, 2, 3].map(async () => (await fetch(`${server.url}/metrics`)).text()),
    );
    for (const body of others) expect(body.match(/^knp_tcp_sent_bytes_total\{/gm)).toHaveLength(60_000);
    await vi.waitFor(() => expect(outcomes(store)).toMatchObject({ success: 3, timeout: 1 }), 10_000);
  });

  test('a scrape aborted midway, by RST and by FIN, is counted and frees its place', async () => {
    const { server, store } = await setup({ bounds: { ...quick, maxConcurrentScrapes: 2 } }, [], 60_000);
    for (let i = 0; i < 5; i++) {
      const { socket, soFar } = await raw(server.port, 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n');
      await vi.waitFor(() => expect(soFar()).not.toBe(''), PATIENCE);
      if (i % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    }
    await vi.waitFor(async () => {
      const response = await fetch(`${server.url}/metrics`);
      expect(response.status).toBe(200);
      await response.text();
      const { aborted = 0, success = 0 } = outcomes(store);
      // One that was already written into the socket's buffer as a whole counts as a success.
      expect(aborted + success).toBeGreaterThanOrEqual(6);
      expect(aborted).toBeGreaterThanOrEqual(1);
    }, PATIENCE);
  });

  test('a client that half-closes after its request is answered or closed, never kept', async () => {
    const { server } = await setup({ bounds: quick }, [], 100);
    const { socket, received } = await raw(server.port, 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n');
    socket.end();
    await received;
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  test('more scrapes at once than allowed get 503 at once', async () => {
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { server, store } = await setup({ bounds: { maxConcurrentScrapes: 2 } }, [
      { name: 's', collect: () => gate },
    ]);
    const waiting = [1, 2].map(async () => (await fetch(`${server.url}/metrics`)).status);
    await vi.waitFor(async () => expect((await fetch(`${server.url}/metrics`)).status).toBe(503), PATIENCE);
    release();
    expect(await Promise.all(waiting)).toEqual([200, 200]);
    expect(outcomes(store).refused).toBeGreaterThanOrEqual(1);
  });
});

describe('start and stop', () => {
  test('a taken port gives one sentence that says what to do', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    cleanups.push(() => other.close());
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as { port: number };
    const error = await setup({ port }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ListenError);
    expect((error as ListenError).code).toBe('EADDRINUSE');
    expect((error as ListenError).message).toBe(
      `Cannot listen on 127.0.0.1:${port}: another program holds this port; stop it (\`ss -ltnp 'sport = :${port}'\` names it) or choose another address with --listen HOST:PORT.`,
    );
  });

  test('an address this host does not have', async () => {
    const error = await setup({ host: '192.0.2.1' }).catch((e: unknown) => e);
    expect((error as Error).message).toMatch(
      /^Cannot listen on 192\.0\.2\.1:0: this host does not have that address/,
    );
  });

  test('stopping lets a scrape under way end, refuses new ones and closes idle connections', async () => {
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let asked = false;
    const source: Source = {
      name: 's',
      collect() {
        asked = true;
        return gate;
      },
    };
    const { server } = await setup({}, [source], 3000);
    const idle = await raw(server.port);
    const scrape = fetch(`${server.url}/metrics`).then((response) => response.text());
    await vi.waitFor(() => expect(asked).toBe(true), PATIENCE);
    const closed = server.close();
    await idle.received;
    await expect(fetch(`${server.url}/healthz`)).rejects.toThrow();
    release();
    expect((await scrape).match(/^knp_tcp_sent_bytes_total\{/gm)).toHaveLength(3000);
    await closed;
    await server.close();
  });

  test('stopping does not wait for ever', async () => {
    const hangs: Source = { name: 'hangs', collect: () => new Promise(() => {}) };
    const { server } = await setup({ bounds: { drainMillis: 50 } }, [hangs]);
    const scrape = fetch(`${server.url}/metrics`);
    scrape.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 20));
    await server.close();
    await expect(scrape).rejects.toThrow();
  });

  test('IPv6 and the URL for people', async () => {
    const { server } = await setup({ host: '::1' });
    expect(server.url).toBe(`http://[::1]:${server.port}`);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    const any = await setup({ host: '0.0.0.0' });
    expect(any.server.url).toBe(`http://localhost:${any.server.port}`);
  });

  test('keep-alive: one connection serves many scrapes', async () => {
    const { server } = await setup();
    const { socket, soFar } = await raw(server.port);
    for (let i = 1; i <= 5; i++) {
      socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
      await vi.waitFor(() => expect(soFar().match(/HTTP\/1\.1 200/g)).toHaveLength(i), PATIENCE);
    }
  });

  test('a request body that never comes does not keep the connection', async () => {
    const { server } = await setup({ bounds: { headersMillis: 200 } });
    const status = await new Promise((resolve) => {
      const post = request(
        `${server.url}/metrics`,
        { method: 'POST', headers: { 'content-length': 10 } },
        (response) => {
          response.resume();
          response.on('end', () => resolve(response.statusCode));
        },
      );
      post.on('error', resolve);
      post.flushHeaders();
    });
    expect(status).toBe(405);
  });
});
