// Hostile paths: random, very long, not UTF-8, percent-encoded, with secrets in them. Memory and series stay bounded,
// every request is counted all the same, and no secret leaves the kernel's side of things.
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { endAll, Nginx } from '../kernel/http/harness.ts';
import { Receiver } from '../unit/spans/receiver.ts';
import { killLeftovers } from './cli_process.ts';
import { HttpAgent, type Scrape } from './http/agent.ts';

const MAX_ROUTES = 50;
const SECRET = 'hunter2-5ecret';
const EMAIL = 'alice.doe@example.com';

let receiver: Receiver;
let agent: HttpAgent;
let nginx: Nginx;

beforeEach(async () => {
  receiver = await new Receiver().start();
  agent = await HttpAgent.start(
    JSON.stringify({
      probes: {
        http: { routes: { max_routes: MAX_ROUTES }, sampling: { ratio: 0.05, spans_per_second: 10_000 } },
      },
      otlp: { traces: { enabled: true, endpoint: receiver.endpoint, delay_millis: 50 } },
    }),
  );
  nginx = await Nginx.start('location / { return 200 "hello\\n"; } large_client_header_buffers 4 64k;');
});
afterEach(async () => {
  await agent.stop();
  receiver.stop();
  await endAll();
  killLeftovers();
  nginx.remove();
});

/** A generator of the test's own (mulberry32), so that a failure comes again. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Requests without an answer at once; nginx answers in order. */
const IN_FLIGHT = 8;

/** Sends one GET per path over one connection and counts the answers. Paths are bytes, one per character. */
async function send(paths: readonly string[]): Promise<number> {
  const socket = connect(nginx.port, '127.0.0.1').setNoDelay();
  let sent = 0;
  const sendTo = (end: number) => {
    const some = paths.slice(sent, end);
    sent += some.length;
    socket.write(some.map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''), 'latin1');
  };
  sendTo(IN_FLIGHT);
  let answered = 0;
  let text = '';
  for await (const data of socket) {
    text += (data as Buffer).toString('latin1');
    const answers = text.split('HTTP/1.1 ');
    answered += answers.length - 1;
    text = (answers.at(-1) ?? '').slice(-8); // where the next one may begin
    if (answered === paths.length) break;
    if (answered === sent) sendTo(sent + IN_FLIGHT);
  }
  return answered;
}

function hostilePaths(count: number): string[] {
  const next = random(1);
  const pick = (alphabet: string, length: number) =>
    Array.from({ length }, () => alphabet[Math.floor(next() * alphabet.length)]).join('');
  const letters = 'abcdefghijklmnopqrstuvwxyz';
  const high = Array.from({ length: 128 }, (_, i) => String.fromCharCode(128 + i)).join('');
  const makers: (() => string)[] = [
    () => `/${pick(letters, 6)}`, // random words: nothing tells them from names
    () => `/${pick(letters, 5)}/${pick(letters, 5)}/${pick(letters, 5)}`,
    () => `/users/${Math.floor(next() * 1e9)}/orders/${pick('0123456789abcdef', 32)}`,
    () => `/${pick(`${letters}${letters.toUpperCase()}0123456789`, 40)}`,
    () => `/${pick(letters, 3000)}`,
    () => `/${Array.from({ length: 300 }, () => pick(letters, 3)).join('/')}`,
    () => `/bytes/${pick(high, 12)}`,
    () =>
      `/percent/%${pick('23456789', 1)}${pick('0123456789ABCDEF', 1)}${pick(letters, 5)}%2e%2e%2f${pick(letters, 4)}`,
    () => `/mail/${EMAIL}/${pick('0123456789', 8)}`,
    () => `/login/${SECRET}-${pick('0123456789', 12)}?password=${SECRET}`,
    () => `/ok?${pick(letters, 20)}=${SECRET}&next=%2f${SECRET}`,
    () => `/"},{le="${pick(letters, 6)}\\n\\\\`,
  ];
  return Array.from({ length: count }, (_, i) => (makers[i % makers.length] as () => string)());
}

const routesOf = (scrape: Scrape) =>
  new Set(
    scrape
      .find('http_server_request_duration_seconds_count', { server_port: nginx.port })
      .map(({ labels }) => labels.http_route ?? ''),
  );

it('ten thousand distinct paths: every request counted, routes and memory bounded, no secret anywhere', async () => {
  // Warm first, so that what grows is the paths' doing.
  await send(Array.from({ length: 500 }, (_, i) => `/warm/${i}`));
  await agent.settled((s) => s.requests('server', { server_port: nginx.port }, ['http_route']));
  const before = await agent.memory();

  const paths = hostilePaths(10_000);
  expect(new Set(paths).size).toBeGreaterThan(9_900);
  expect(await send(paths)).toBe(paths.length);
  const scrape = await agent.settled((s) =>
    s.requests('server', { server_port: nginx.port }, ['http_route']),
  );

  for (const side of ['server', 'client'] as const) {
    const counted = scrape.requests(side, { server_port: nginx.port }, ['http_route']);
    expect(Object.values(counted).reduce((a, b) => a + b, 0)).toBe(500 + paths.length);
    expect(counted['/*']).toBeGreaterThan(1000);
  }
  const routes = routesOf(scrape);
  expect(routes.size).toBeLessThanOrEqual(MAX_ROUTES + 1);
  expect(routes).toContain('/users/{id}/orders/{id}');
  expect(routes).toContain('/ok');
  for (const route of routes) {
    expect(route.length).toBeLessThanOrEqual(600);
    expect(route).toMatch(/^[\x20-\x7e]*$/);
  }
  // More new paths in a second than the agent wants to hear of: those requests count as `/*`, and that is said.
  const { http_name_event: _, ...losses } = scrape.losses();
  expect(losses).toEqual({});
  // A table of its own for every path would be twenty times this.
  expect((await agent.memory()) - before).toBeLessThan(40e6);

  // The same again: everything is known or has been given up, so nothing grows.
  const known = routes.size;
  expect(await send(hostilePaths(5_000))).toBe(5_000);
  const again = await agent.settled((s) => s.requests('server', { server_port: nginx.port }, ['http_route']));
  expect(routesOf(again).size).toBe(known);

  for (let i = 0; i < 100 && receiver.spans.length === 0; i++)
    await new Promise((done) => setTimeout(done, 50));
  const spans = JSON.stringify(receiver.spans, (_key, value) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  expect(receiver.spans.some((span) => span.attributes['server.port'] === nginx.port)).toBe(true);
  const { log } = await agent.stop();
  for (const [what, text] of Object.entries({ metrics: again.text, spans, log })) {
    for (const secret of [SECRET, EMAIL, 'password', '%2e'])
      expect(text.includes(secret), `${secret} in ${what}`).toBe(false);
  }
});

it('lines that only look like HTTP, and a path longer than nginx takes, harm nobody', async () => {
  const garbage = [
    'GET\r\n\r\n',
    `GET /${'a'.repeat(100_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
    'GET / HTTP/9.9\r\n\r\n',
    `${'A'.repeat(30)} / HTTP/1.1\r\n\r\n`,
    '\u0000\u0001\u0002\u0003'.repeat(1000),
    `POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: ${'9'.repeat(40)}\r\n\r\n`,
    'POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n',
  ];
  for (const bytes of garbage) {
    const socket = connect(nginx.port, '127.0.0.1');
    socket.on('error', () => {}); // nginx may reset it
    await once(socket, 'connect');
    socket.end(bytes, 'latin1');
    socket.resume();
    await once(socket, 'close');
  }
  expect(await send(['/fine', '/fine'])).toBe(2);
  const scrape = await agent.settled((s) =>
    s.requests('server', { server_port: nginx.port }, ['http_route']),
  );
  const labels = { server_port: nginx.port, http_route: '/fine', http_response_status_code: 200 };
  expect(scrape.sum('http_server_request_duration_seconds_count', labels)).toBe(2);
  for (const route of routesOf(scrape)) expect(route.length).toBeLessThanOrEqual(600);
  expect((await fetch(`${agent.url}/readyz`)).status).toBe(200);
});
