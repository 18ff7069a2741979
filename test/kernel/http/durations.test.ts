// Durations: handlers that take a known time, bodies at a known pace, and nginx's own measure of ten thousand requests.
import http from 'node:http';
import { afterEach, expect, it } from 'vitest';
import { scaled } from '../../guests/scale.ts';
import { endAll, h2load, type Labels, listen, Nginx, Probe, run } from './harness.ts';

let probe: Probe | undefined;

afterEach(async () => {
  probe?.close();
  await endAll();
});

const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis));

/** Index of the bucket of a duration. */
const bucketOf = (bounds: readonly number[], seconds: number) =>
  bounds.filter((bound) => seconds > bound).length;

type Timed =
  | 'http.server.request.duration'
  | 'knp.http.server.time_to_first_byte'
  | 'http.client.request.duration';

/** Seconds of all requests together. */
const sumOf = (metric: Timed, labels: Labels) =>
  (probe as Probe).points(metric, labels).reduce((total, point) => total + point.sum, 0);

it('a handler that takes a known time falls into the bucket of that time, or of the scheduler’s delay above it', async () => {
  probe = new Probe();
  const delays = [20, 60, 300, 1200];
  const server = http.createServer((request, response) => {
    setTimeout(() => response.end('x'), Number(request.url?.slice(2)));
  });
  const port = await listen(server);
  // from before the request to after its answer by our own clock: whatever the scheduler does lies within
  const measured = new Map<number, number>();
  for (const delay of delays) {
    const before = performance.now();
    await run('curl', ['-sS', '-o', '/dev/null', `http://127.0.0.1:${port}/d${delay}`]);
    measured.set(delay, (performance.now() - before) / 1000);
  }
  await probe.collect();
  const bounds = probe.store.bounds('http.client.request.duration');
  for (const side of ['client', 'server'] as const) {
    const points = probe.points(`http.${side}.request.duration`, { server_port: port });
    const counts = bounds.map((_, i) => points.reduce((total, p) => total + (p.counts?.[i] ?? 0), 0));
    const seconds = points.reduce((total, p) => total + p.sum, 0);
    expect(seconds).toBeGreaterThanOrEqual((delays.reduce((a, b) => a + b, 0) - 2 * delays.length) / 1000);
    expect(seconds).toBeLessThanOrEqual([...measured.values()].reduce((a, b) => a + b, 0));
    for (const [delay, wall] of measured) {
      const low = bucketOf(bounds, (delay - 2) / 1000);
      const high = bucketOf(bounds, wall);
      expect(
        counts.slice(low, high + 1).some((count) => count > 0),
        `${side} ${delay} ms`,
      ).toBe(true);
    }
    expect(counts.reduce((a, b) => a + b, 0)).toBe(delays.length);
  }
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

it('a body at a known pace: time to first byte is short, duration is the whole', async () => {
  probe = new Probe();
  const server = http.createServer(async (_, response) => {
    response.writeHead(200, { 'content-length': 50 });
    for (let i = 0; i < 5; i++) {
      response.write('0123456789');
      if (i < 4) await sleep(80);
    }
    response.end();
  });
  const port = await listen(server);
  await run('curl', ['-sS', '-o', '/dev/null', `http://127.0.0.1:${port}/pace`]);
  await probe.collect();
  const sum = (metric: Timed) => sumOf(metric, { server_port: port });
  expect(sum('http.server.request.duration')).toBeGreaterThanOrEqual(0.319);
  expect(sum('http.client.request.duration')).toBeGreaterThanOrEqual(0.319);
  expect(sum('knp.http.server.time_to_first_byte')).toBeLessThan(sum('http.server.request.duration') - 0.3);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

// Blocking sockets with small buffers: a call that sends lasts until the other end has read nearly all of it.
const BLOCKING = `
import socket, threading, time
SIZE, WAIT = 4 << 20, 0.3
def small(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    return s
def read(s, head):
    data = b''
    while b'\\r\\n\\r\\n' not in data: data += s.recv(65536)
    left = head(data) + data.index(b'\\r\\n\\r\\n') + 4 - len(data)
    while left > 0: left -= len(s.recv(min(left, 65536)))
def serve(l):
    s, _ = l.accept()
    for i in range(2): # the upload: nothing is read for a while
        time.sleep(WAIT)
        read(s, lambda _: SIZE)
        s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')
    for i in range(2): # the download: in one call
        read(s, lambda _: 0)
        s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % SIZE + b'x' * SIZE)
    s.close()
l = small(socket.socket()); l.bind(('127.0.0.1', 0)); l.listen()
threading.Thread(target=serve, args=(l,)).start()
c = small(socket.socket()); c.connect(l.getsockname())
for i in range(2):
    c.sendall(b'POST /up HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n' % SIZE + b'x' * SIZE)
    read(c, lambda _: 2)
for i in range(2):
    c.sendall(b'GET /down HTTP/1.1\\r\\n\\r\\n')
    time.sleep(WAIT)
    read(c, lambda _: SIZE)
c.close()
print(l.getsockname()[1])
`;

it('a call that sends for long began when it began, also the first of a connection', async () => {
  probe = new Probe();
  const port = Number((await run('python3', ['-c', BLOCKING])).stdout);
  await probe.collect();
  const sum = (metric: Timed, method: string) =>
    sumOf(metric, { server_port: port, http_request_method: method });
  // two of 0.3 s each
  expect(sum('http.client.request.duration', 'POST')).toBeGreaterThanOrEqual(0.6);
  expect(sum('http.server.request.duration', 'GET')).toBeGreaterThanOrEqual(0.599);
  expect(sum('knp.http.server.time_to_first_byte', 'GET')).toBeLessThan(0.5);
});

it('agrees with nginx on every one of ten thousand requests', async () => {
  // nginx measures in milliseconds from the first byte that it read to the moment that it writes its log; bounds lie
  // half a millisecond aside, so that a request is in the same bucket unless the two clocks differ by more.
  const bounds = [0.0025, 0.0055, 0.0105, 0.0205, 0.0505, 0.1005, 0.2005, 0.5005, 1.0005];
  probe = new Probe({ http: { duration_buckets_seconds: bounds } });
  const nginx = await Nginx.start('location / { limit_rate 400k; } location /fast { return 200 "x"; }');
  nginx.file('slow', Buffer.alloc(6000));
  const many = scaled(9000);
  const few = scaled(1000);
  await h2load(nginx.url('/fast'), many, 8);
  await h2load(nginx.url('/slow'), few, 64);
  await nginx.stop();
  const log = nginx.log();
  expect(log).toHaveLength(many + few);
  await probe.collect();
  const points = probe.points('http.server.request.duration', { server_port: nginx.port });
  const counted = [...bounds, Number.POSITIVE_INFINITY].map((_, i) =>
    points.reduce((total, p) => total + (p.counts?.[i] ?? 0), 0),
  );
  expect(counted.reduce((a, b) => a + b, 0)).toBe(many + few);
  // A request is within 2 ms of what nginx says of it, so the cumulative counts interleave when shifted by that.
  const upTo = (seconds: number) => log.filter((line) => line.seconds <= seconds).length;
  let cumulative = 0;
  for (const [i, bound] of bounds.entries()) {
    cumulative += counted[i] ?? 0;
    expect(cumulative, `up to ${bound} s`).toBeGreaterThanOrEqual(upTo(bound - 0.002) - (many + few) * 0.002);
    expect(cumulative, `up to ${bound} s`).toBeLessThanOrEqual(upTo(bound + 0.002) + (many + few) * 0.002);
  }
  const seconds = points.reduce((total, p) => total + p.sum, 0);
  const said = log.reduce((total, line) => total + line.seconds, 0);
  expect(Math.abs(seconds - said)).toBeLessThan((many + few) * 0.0015);
  nginx.remove();
});
