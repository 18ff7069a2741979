// Corners of HTTP/1 as real programs and hand-made sockets produce them: each is counted right at both ends.
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { endAll, freePort, listen, METHOD_STATUS, Nginx, Probe, run, start } from './harness.ts';

let probe: Probe;
let nginx: Nginx;

beforeAll(async () => {
  nginx = await Nginx.start(`
    location / { return 200 "hello\\n"; }
    location /nothing { return 204; }
    location /file { }
    location /upload { client_body_buffer_size 64k; proxy_pass http://127.0.0.1:1/; proxy_intercept_errors on; error_page 502 =201 /hello; }
  `);
  probe = new Probe();
});

afterAll(async () => {
  probe?.close();
  await endAll();
  nginx?.remove();
});

const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis));

/** A TCP server that does what it is told with each connection. */
async function server(
  onConnection: (socket: net.Socket) => void,
): Promise<{ port: number; each: (act: (socket: net.Socket) => void) => void; close: () => Promise<void> }> {
  const sockets = new Set<net.Socket>();
  const listener = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  const port = await listen(listener);
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => listener.close(resolve));
  };
  return { port, each: (act) => sockets.forEach(act), close };
}

/** Connects, hands the socket to `drive`, resolves when it is closed. */
async function client(port: number, drive: (socket: net.Socket) => void | Promise<void>): Promise<Buffer> {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => {});
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await new Promise((resolve) => socket.once('connect', resolve));
  await drive(socket);
  await closed;
  return Buffer.concat(chunks);
}

/** Counts the answers that a socket has received; `until` waits for so many. */
function answers(socket: net.Socket): { until: (count: number) => Promise<void> } {
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  return {
    until: async (count) => {
      while (text.split('HTTP/1.1 ').length - 1 < count && !socket.destroyed) await sleep(2);
    },
  };
}

/** Both ends counted the same, and this. */
async function bothCounted(
  port: number,
  expected: Record<string, number>,
  by: readonly string[] = METHOD_STATUS,
): Promise<void> {
  expect({
    server: await probe.table('server', { server_port: port }, by),
    client: await probe.table('client', { server_port: port }, by),
  }).toEqual({
    server: expected,
    client: expected,
  });
}

const BY_ERROR = [...METHOD_STATUS, 'error_type'] as const;
const GET = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n';
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

/** Answers each request with what `answer` gives; requests are told apart by their empty line. */
const answering = (answer: (head: string, socket: net.Socket) => void) => (socket: net.Socket) => {
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
    for (let at = text.indexOf('\r\n\r\n'); at >= 0; at = text.indexOf('\r\n\r\n')) {
      const head = text.slice(0, at + 4);
      text = text.slice(at + 4);
      answer(head, socket);
    }
  });
};

describe('messages', () => {
  it('keep-alive: many requests over one connection', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const own = await Nginx.start('location / { return 200 "hello\\n"; }');
    for (let i = 0; i < 50; i++)
      await new Promise<void>((resolve, reject) =>
        http
          .get({ port: own.port, host: '127.0.0.1', agent, path: `/a/${i}` }, (res) =>
            res.resume().on('end', resolve),
          )
          .on('error', reject),
      );
    agent.destroy();
    await bothCounted(own.port, { 'GET 200': 50 });
    await own.stop();
    own.remove();
  });

  it('HEAD, 204 and 304 have no body', async () => {
    const own = await server(
      answering((head, socket) => {
        if (head.startsWith('HEAD')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n');
        else if (head.includes('/304'))
          socket.write('HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\n\r\n');
        else if (head.includes('/204')) socket.write('HTTP/1.1 204 No Content\r\n\r\n');
        else socket.end(OK);
      }),
    );
    await client(own.port, async (socket) => {
      const { until } = answers(socket);
      for (const [i, line] of ['HEAD /a', 'GET /304', 'HEAD /b', 'GET /204', 'GET /last'].entries()) {
        socket.write(`${line} HTTP/1.1\r\nHost: a\r\n\r\n`);
        await until(i + 1);
      }
      socket.end();
    });
    await bothCounted(own.port, { 'HEAD 200': 2, 'GET 304': 1, 'GET 204': 1, 'GET 200': 1 });
    await own.close();
  });

  it('pipelined: sixteen requests in one write, their answers in one write', async () => {
    let seen = 0;
    const own = await server(
      answering((_, socket) => {
        if (++seen % 16 === 0) socket.write(OK.repeat(16));
      }),
    );
    await client(own.port, async (socket) => {
      let received = 0;
      socket.on('data', (chunk) => {
        received += chunk.length;
      });
      for (let i = 0; i < 20; i++) {
        socket.write(GET.repeat(16));
        while (received < (i + 1) * 16 * OK.length) await sleep(2);
      }
      socket.end();
      socket.destroySoon();
    });
    await bothCounted(own.port, { 'GET 200': 320 });
    await own.close();
  });

  it('a request line cut into single bytes, and a status line as well', async () => {
    const own = await server(
      answering((_, socket) => {
        socket.setNoDelay(true);
        void (async () => {
          for (const byte of OK) {
            socket.write(byte);
            await sleep(1);
          }
          socket.end();
        })();
      }),
    );
    await client(own.port, async (socket) => {
      for (const byte of GET) {
        socket.write(byte);
        await sleep(1);
      }
    });
    await bothCounted(own.port, { 'GET 200': 1 });
    await own.close();
  });

  it('a request line of 16 KiB', async () => {
    const own = await server(answering((_, socket) => socket.end(OK)));
    await client(
      own.port,
      (socket) => void socket.write(`GET /long?${'q'.repeat(16_000)} HTTP/1.1\r\nHost: a\r\n\r\n`),
    );
    await bothCounted(own.port, { 'GET 200 /long': 1 }, [...METHOD_STATUS, 'http_route']);
    await own.close();
  });

  it('interim answers come before the final one', async () => {
    const own = await server(
      answering((_, socket) => {
        socket.write('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n');
        setTimeout(() => socket.end(OK), 50);
      }),
    );
    await client(
      own.port,
      (socket) =>
        void socket.write('POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc'),
    );
    await bothCounted(own.port, { 'POST 200': 1 });
    await own.close();
  });

  it('HTTP/1.0: the answer ends with the connection', async () => {
    const own = await server(
      answering((_, socket) => {
        socket.write('HTTP/1.0 200 OK\r\n\r\nabc');
        setTimeout(() => socket.end('def'), 30);
      }),
    );
    await client(own.port, (socket) => void socket.write('GET /old HTTP/1.0\r\n\r\n'));
    await bothCounted(own.port, { 'GET 200 1.0 -': 1 }, [
      ...METHOD_STATUS,
      'network_protocol_version',
      'error_type',
    ]);
    for (const side of ['client', 'server'] as const) {
      const [point] = probe.points(`http.${side}.response.body.size`, { server_port: own.port });
      expect(point?.sum).toBe(6);
    }
    await own.close();
  });

  it('bodies of any size, by length and chunked, are counted to the byte and never taken for messages', async () => {
    const own = await Nginx.start('location / { dav_methods PUT; } location = /get { }');
    const trap = Buffer.from('GET /trap HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n');
    const body = Buffer.concat([trap, randomBytes(3_000_000), trap]);
    own.file('get', body);
    for (let i = 0; i < 5; i++) await run('curl', ['-sS', '-o', '/dev/null', own.url('/get')]);
    const echo = http.createServer((request, response) => {
      response.writeHead(200, {});
      request.pipe(response); // chunked, as there is no length
    });
    const port = await listen(echo);
    await new Promise<void>((resolve, reject) => {
      const request = http.request({ port, host: '127.0.0.1', method: 'POST', path: '/echo' }, (res) =>
        res.resume().on('end', resolve),
      );
      request.on('error', reject);
      for (let at = 0; at < body.length; at += 70_001) request.write(body.subarray(at, at + 70_001));
      request.end();
    });
    await bothCounted(own.port, { 'GET 200': 5 });
    await bothCounted(port, { 'POST 200': 1 });
    const sum = (metric: 'http.client.request.body.size', port: number) =>
      probe.points(metric, { server_port: port }).reduce((a, p) => a + p.sum, 0);
    for (const side of ['client', 'server'] as const) {
      expect(sum(`http.${side}.response.body.size` as never, own.port)).toBe(5 * body.length);
      expect(sum(`http.${side}.request.body.size` as never, port)).toBe(body.length);
      expect(sum(`http.${side}.response.body.size` as never, port)).toBe(body.length);
    }
    echo.closeAllConnections();
    await new Promise((resolve) => echo.close(resolve));
    await own.stop();
    own.remove();
  });

  it('an early answer to an upload that goes on', async () => {
    const own = await server((socket) => {
      let answered = false;
      socket.on('data', () => {
        if (!answered) socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n');
        answered = true;
      });
      socket.on('end', () => socket.end());
    });
    await client(own.port, async (socket) => {
      socket.write('POST /big HTTP/1.1\r\nContent-Length: 20\r\n\r\n0123456789');
      await sleep(50);
      socket.end('0123456789');
    });
    await bothCounted(own.port, { 'POST 413': 1 });
    await own.close();
  });
});

describe('ends', () => {
  it('the server closes without an answer', async () => {
    const own = await server((socket) => socket.once('data', () => socket.end()));
    await client(own.port, (socket) => void socket.write(GET));
    await bothCounted(own.port, { 'GET - connection_closed': 1 }, BY_ERROR);
    await own.close();
  });

  it('the server resets without an answer', async () => {
    const own = await server((socket) => socket.once('data', () => socket.resetAndDestroy()));
    await client(own.port, (socket) => void socket.write(GET));
    expect(await probe.table('client', { server_port: own.port }, BY_ERROR)).toEqual({
      'GET - connection_reset': 1,
    });
    expect(await probe.table('server', { server_port: own.port }, BY_ERROR)).toEqual({
      'GET - connection_closed': 1,
    });
    await own.close();
  });

  it('the connection closes in the middle of an answer', async () => {
    const own = await server(
      answering((_, socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this')),
    );
    await client(own.port, (socket) => void socket.write(GET));
    await bothCounted(own.port, { 'GET 200 response_incomplete': 1 }, BY_ERROR);
    await own.close();
  });

  it('the client gives up before the answer', async () => {
    const own = await server(() => {});
    await client(own.port, async (socket) => {
      socket.write(GET);
      await sleep(50);
      socket.destroy();
    });
    await sleep(50);
    expect(await probe.table('client', { server_port: own.port }, BY_ERROR)).toEqual({
      'GET - connection_closed': 1,
    });
    await own.close();
    expect(await probe.table('server', { server_port: own.port }, BY_ERROR)).toEqual({
      'GET - connection_closed': 1,
    });
  });

  it('a client that has nothing more to ask reads the answer after the connection is over', async () => {
    const own = await server(answering((_, socket) => void setTimeout(() => socket.end(OK), 50)));
    await client(own.port, async (socket) => {
      socket.pause();
      socket.end(GET);
      await sleep(300);
      socket.resume();
    });
    await bothCounted(own.port, { 'GET 200 -': 1 }, BY_ERROR);
    await own.close();
  });

  it('WebSocket: 101 ends parsing', async () => {
    const own = await server((socket) => {
      socket.once('data', () =>
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello', 'latin1'),
      );
      socket.on('end', () => socket.end());
    });
    await client(own.port, async (socket) => {
      socket.write('GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
      await sleep(30);
      socket.write(GET.repeat(3)); // frames may hold anything
      await sleep(30);
      socket.end();
    });
    await bothCounted(own.port, { 'GET 101': 1 });
    await own.close();
  });

  it('CONNECT ends parsing', async () => {
    const own = await server((socket) => {
      socket.once('data', () => socket.write('HTTP/1.1 200 Connection established\r\n\r\n'));
      socket.on('end', () => socket.end());
    });
    await client(own.port, async (socket) => {
      socket.write('CONNECT example:443 HTTP/1.1\r\n\r\n');
      await sleep(30);
      socket.end(`\x16\x03\x01${GET}`);
    });
    await bothCounted(own.port, { 'CONNECT 200': 1 });
    await own.close();
  });
});

it('a request that waits for too long counts as unanswered once, and its late answer does not count again', async () => {
  const own = await server(
    answering((head, socket) => void setTimeout(() => socket.write(OK), head.includes('/late') ? 2500 : 0)),
  );
  const impatient = new Probe({ http: { idle_seconds: 1 } });
  await client(own.port, async (socket) => {
    socket.write('GET /late HTTP/1.1\r\n\r\n');
    await sleep(1500);
    await impatient.collect();
    await sleep(1500);
    socket.write(GET);
    await sleep(300);
    socket.end();
    socket.destroySoon();
  });
  const labels = { server_port: own.port };
  const expected = { 'GET - no_response': 1, 'GET 200 -': 1 };
  expect(await impatient.table('client', labels, BY_ERROR)).toEqual(expected);
  expect(await impatient.table('server', labels, BY_ERROR)).toEqual(expected);
  impatient.close();
  await bothCounted(own.port, { 'GET 200': 2 });
  await own.close();
});

it.each([17, 100])(
  'of %i requests at once those that find a place are counted, the others are lost one by one',
  async (depth) => {
    const together = await server(
      answering(
        (head, socket) => void socket.write(`HTTP/1.1 ${/\d+/.exec(head)} R\r\nContent-Length: 2\r\n\r\nok`),
      ),
    );
    const own = new Probe();
    const before = (await own.lost()).lost_pipeline ?? 0;
    await client(together.port, async (socket) => {
      const { until } = answers(socket);
      socket.write(Array.from({ length: depth }, (_, i) => `GET /${500 + i} HTTP/1.1\r\n\r\n`).join(''));
      await until(depth);
      socket.write('GET /200 HTTP/1.1\r\n\r\n');
      await until(depth + 1);
      socket.end();
      socket.destroySoon();
    });
    const labels = { server_port: together.port };
    const [asked, answered] = [
      await own.table('client', labels, METHOD_STATUS),
      await own.table('server', labels, METHOD_STATUS),
    ];
    const first = Array.from({ length: 16 }, (_, i) => [`GET ${500 + i}`, 1]);
    expect(asked).toMatchObject(Object.fromEntries([...first, ['GET 200', 1]]));
    expect(answered).toMatchObject(Object.fromEntries([...first, ['GET 200', 1]]));
    const counted = [asked, answered].flatMap((table) => Object.values(table));
    expect(counted.every((count) => count === 1)).toBe(true);
    expect(counted.length + ((await own.lost()).lost_pipeline ?? 0) - before).toBe(2 * (depth + 1));
    own.close();
    await together.close();
  },
);

it('17 requests behind an answer that stalled for too long have their own status, not its', async () => {
  const own = await server(
    answering((head, socket) => {
      if (!head.includes('/stream')) socket.write('HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok');
      else {
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n');
        socket.once('resumed', () => socket.write('4\r\nmore\r\n0\r\n\r\n'));
      }
    }),
  );
  const impatient = new Probe({ http: { idle_seconds: 1 } });
  const before = await impatient.lost();
  await client(own.port, async (socket) => {
    const { until } = answers(socket);
    socket.write('GET /stream HTTP/1.1\r\n\r\n');
    await until(1);
    while ((await impatient.requests('client', { server_port: own.port })) < 1) await sleep(100);
    own.each((accepted) => accepted.emit('resumed'));
    for (let i = 0; i < 17; i++) {
      socket.write(GET);
      await until(i + 2);
    }
    socket.end();
    socket.destroySoon();
  });
  const labels = { server_port: own.port };
  const expected = { 'GET 200 no_response': 1, 'GET 201 -': 17 };
  expect(await impatient.table('client', labels, BY_ERROR)).toEqual(expected);
  expect(await impatient.table('server', labels, BY_ERROR)).toEqual(expected);
  expect(await impatient.lost()).toEqual(before);
  impatient.close();
  await own.close();
});

describe('connections', () => {
  it('that are no HTTP cost one look and are ignored', async () => {
    const own = await server((socket) => {
      socket.write('220 mail.example ESMTP\r\n');
      socket.on('data', (chunk) => socket.write(chunk));
      socket.on('end', () => socket.end());
    });
    const before = probe.http.source.counters.ignored ?? 0;
    await client(own.port, async (socket) => {
      for (const line of ['EHLO a\r\n', GET, 'QUIT\r\n']) {
        socket.write(line);
        await sleep(20);
      }
      socket.end();
    });
    await bothCounted(own.port, {});
    expect(probe.http.source.counters.ignored).toBeGreaterThanOrEqual(before + 2);
    await own.close();
  });

  it('that were open before are followed from their next request on', async () => {
    const own = await server(answering((_, socket) => socket.write(OK)));
    let late: Probe | undefined;
    await client(own.port, async (socket) => {
      const { until } = answers(socket);
      socket.write(GET);
      await until(1);
      late = new Probe();
      for (let i = 0; i < 5; i++) {
        socket.write(GET);
        await until(i + 2);
      }
      socket.end();
      socket.destroySoon();
    });
    const labels = { server_port: own.port };
    expect(await late?.table('server', labels, METHOD_STATUS)).toEqual({ 'GET 200': 5 });
    expect(await late?.table('client', labels, METHOD_STATUS)).toEqual({ 'GET 200': 5 });
    await bothCounted(own.port, { 'GET 200': 6 });
    late?.close();
    await own.close();
  });

  it('joined while an answer is outstanding: no request gets that of another', async () => {
    const waiting: (() => void)[] = [];
    const statuses: Record<string, number> = { a: 500, b: 201, c: 202, d: 203 };
    const own = await server(
      answering((head, socket) => {
        const status = statuses[head.slice(5, 6)];
        const reply = () => void socket.write(`HTTP/1.1 ${status} R\r\nContent-Length: 2\r\n\r\nok`);
        if (status === 500 || status === 201) waiting.push(reply);
        else reply();
      }),
    );
    let late: Probe | undefined;
    await client(own.port, async (socket) => {
      const { until } = answers(socket);
      socket.write('GET /a HTTP/1.1\r\n\r\n');
      while (waiting.length < 1) await sleep(2);
      late = new Probe();
      socket.write('GET /b HTTP/1.1\r\n\r\n');
      while (waiting.length < 2) await sleep(2);
      for (const [i, reply] of waiting.entries()) {
        reply();
        await until(i + 1);
      }
      for (const [i, path] of ['c', 'd'].entries()) {
        socket.write(`GET /${path} HTTP/1.1\r\n\r\n`);
        await until(i + 3);
      }
      socket.end();
      socket.destroySoon();
    });
    const labels = { server_port: own.port };
    const expected = { 'GET 202': 1, 'GET 203': 1 };
    expect(await late?.table('client', labels, METHOD_STATUS)).toEqual(expected);
    expect(await late?.table('server', labels, METHOD_STATUS)).toEqual(expected);
    expect((await late?.lost())?.lost_unmatched).toBe(2); // of each end's /b it is not known which answer was its own
    late?.close();
    await own.close();
  });

  it('hold requests in flight, which are gone after their answers', async () => {
    const waiting: net.Socket[] = [];
    const own = await server(answering((_, socket) => void waiting.push(socket)));
    const active = async () => {
      await probe.collect();
      return (['client', 'server'] as const).map((side) =>
        probe
          .points(`http.${side}.active_requests`, { server_port: own.port })
          .reduce((a, p) => a + p.value, 0),
      );
    };
    const clients = Array.from({ length: 7 }, () => client(own.port, (socket) => void socket.write(GET)));
    await sleep(200);
    expect(await active()).toEqual([7, 7]);
    for (const socket of waiting) socket.end(OK);
    await Promise.all(clients);
    expect(await active()).toEqual([0, 0]);
    await bothCounted(own.port, { 'GET 200': 7 });
    await own.close();
  });
});

describe('real programs', () => {
  it('curl: uploads, ranges of methods, HTTP/1.0', async () => {
    const own = http.createServer((request, response) =>
      request.resume().on('end', () => response.end('ok')),
    );
    const port = await listen(own);
    const url = `http://127.0.0.1:${port}/c`;
    for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'])
      await run('curl', ['-sS', '-X', method, ...(method === 'PUT' ? ['-d', '@/etc/services'] : []), url]);
    await run('curl', ['-sS', '-I', url]);
    await run('curl', ['-sS', '--http1.0', url]);
    await run('curl', ['-sS', '-X', 'PROPFIND', url]);
    await bothCounted(port, {
      'GET 200': 2,
      'POST 200': 1,
      'PUT 200': 1,
      'DELETE 200': 1,
      'PATCH 200': 1,
      'OPTIONS 200': 1,
      'TRACE 200': 1,
      'HEAD 200': 1,
      '_OTHER 200': 1,
    });
    own.closeAllConnections();
    await new Promise((resolve) => own.close(resolve));
  });

  it('Python: its server and its client, threads and keep-alive', async () => {
    const port = await freePort();
    const script = `
import http.server, socketserver, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = b'x' * 2000
        self.send_response(404 if 'missing' in self.path else 200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('127.0.0.1', ${port}), H).serve_forever()`;
    const child = await start('python3', ['-c', script], port);
    const clientScript = `
import http.client, threading
def go():
    c = http.client.HTTPConnection('127.0.0.1', ${port})
    for i in range(100):
        c.request('GET', '/missing' if i % 10 == 0 else '/found'); c.getresponse().read()
    c.close()
ts = [threading.Thread(target=go) for _ in range(4)]
[t.start() for t in ts]; [t.join() for t in ts]`;
    await run('python3', ['-c', clientScript]);
    await bothCounted(port, { 'GET 200': 360, 'GET 404': 40 });
    child.kill();
  });
});
