// Servers and clients that people really run, in six languages, unchanged: each client asks each server, and both ends
// of every pair are counted under their names, with method, status and route.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { endAll, h2load } from '../kernel/http/harness.ts';
import { PEERS, type Peer, type PeerServer } from '../peers/http/servers.ts';
import { killLeftovers } from './cli_process.ts';
import { HttpAgent, METHOD_STATUS_ROUTE, type Scrape, type Side } from './http/agent.ts';
import { wrk } from './http/load.ts';

const REPEAT = 10;
const EXPECTED = {
  'GET 200 /large': 1,
  'GET 200 /ping/{id}': REPEAT,
  'GET 404 /missing': REPEAT,
  'GET 503 /broken': REPEAT,
  'HEAD 200 /ping/{id}': REPEAT,
  'POST 201 /echo': REPEAT,
};
const H2LOAD = 600;

const servers = PEERS.filter(({ serve }) => serve !== undefined);
const clients = PEERS.filter(({ ask }) => ask !== undefined);
const why = new Map(PEERS.map((peer) => [peer.name, peer.missing?.()]));
const running = new Map<string, PeerServer>();
const wrkDone = new Map<string, number>();
let agent: HttpAgent;
let scrape: Scrape;
let stopped: { code: number | null; log: string };

const ports = () => [...running.values()].map(({ port }) => port);

beforeAll(async () => {
  for (const { name, build } of PEERS) if (why.get(name) === undefined) await build?.();
  agent = await HttpAgent.start();
  for (const { name, serve } of servers)
    if (serve !== undefined && why.get(name) === undefined) running.set(name, await serve());
  const bases = ports().map((port) => `http://127.0.0.1:${port}`);
  const able = clients.filter(({ name }) => why.get(name) === undefined);
  await Promise.all(able.map(({ ask }) => ask?.(REPEAT, bases)));
  for (const [name, { port }] of running) {
    await h2load(`http://127.0.0.1:${port}/ping/9`, H2LOAD, 3);
    wrkDone.set(name, await wrk(`http://127.0.0.1:${port}/ping/10`, 1, 4));
  }
  scrape = await agent.settled((now) =>
    ports().map((port) => now.requests('server', { server_port: port }, METHOD_STATUS_ROUTE)),
  );
  stopped = await agent.stop();
  await endAll(); // logs are complete only now
});
afterAll(async () => {
  await endAll();
  killLeftovers();
  for (const { remove } of running.values()) remove?.();
});

/** Rows of one pair; the name that the other end goes by must be the peer's. */
function pair(side: Side, server: Peer, client: RegExp): Record<string, number> {
  const port = running.get(server.name)?.port ?? 0;
  const names = [
    ...new Set(
      scrape
        .find(`http_${side}_request_duration_seconds_count`, { server_port: port })
        .map(({ labels }) => labels.client_workload ?? ''),
    ),
  ].filter((name) => client.test(name));
  expect(names).toHaveLength(1);
  const labels = { server_port: port, client_workload: names[0] ?? '' };
  for (const { labels: own } of scrape.find(`http_${side}_request_duration_seconds_count`, labels))
    expect(own).toMatchObject({ server_workload: expect.stringMatching(server.workload), reporter: side });
  return scrape.requests(side, labels, METHOD_STATUS_ROUTE);
}

describe.each(servers)('server $name', (server) => {
  it.for(clients)('client $name', (client, { skip }) => {
    const reason = why.get(server.name) ?? why.get(client.name);
    if (reason !== undefined) skip(reason);
    expect(pair('server', server, client.workload)).toEqual(EXPECTED);
    expect(pair('client', server, client.workload)).toEqual(EXPECTED);
  });

  it('client h2load', ({ skip }) => {
    if (!running.has(server.name)) skip(why.get(server.name));
    const expected = { 'GET 200 /ping/{id}': H2LOAD };
    expect(pair('server', server, /^h2load$/)).toEqual(expected);
    expect(pair('client', server, /^h2load$/)).toEqual(expected);
  });

  it('client wrk, which leaves at most one request per connection behind', ({ skip }) => {
    if (!running.has(server.name)) skip(why.get(server.name));
    const done = wrkDone.get(server.name) ?? 0;
    for (const side of ['server', 'client'] as const) {
      const counted = pair(side, server, /^wrk$/);
      expect(counted['GET 200 /ping/{id}'] ?? 0).toBeGreaterThanOrEqual(done);
      expect(Object.values(counted).reduce((a, b) => a + b, 0) - done).toBeLessThanOrEqual(4);
    }
  });
});

it.for(servers.filter(({ logs }) => logs))('the log of $name says the same', ({ name }, { skip }) => {
  const { log, port } = running.get(name) ?? {};
  if (log === undefined || port === undefined) return skip(why.get(name));
  const table: Record<string, number> = {};
  for (const line of log()) {
    const row = line.replace(/\?.*/, '').replace(/\d+$/, '{id}');
    table[row] = (table[row] ?? 0) + 1;
  }
  const counted = scrape.requests('server', { server_port: port }, METHOD_STATUS_ROUTE);
  // It has a status also where wrk was gone before anything could be sent.
  const { 'GET - /ping/{id}': unanswered = 0, ...answered } = counted;
  expect(unanswered).toBeLessThanOrEqual(4);
  answered['GET 200 /ping/{id}'] = (answered['GET 200 /ping/{id}'] ?? 0) + unanswered;
  expect(table).toEqual(answered);
});

it('sizes of bodies are those that were sent', () => {
  for (const { name } of servers.filter((server) => running.has(server.name))) {
    const port = running.get(name)?.port ?? 0;
    const asked = clients.filter((client) => why.get(client.name) === undefined).length;
    const large = { server_port: port, http_route: '/large' };
    const echo = { server_port: port, http_route: '/echo' };
    for (const side of ['server', 'client'] as const) {
      expect([name, side, scrape.sum(`http_${side}_response_body_size_bytes_sum`, large)]).toEqual([
        name,
        side,
        asked * 300_000,
      ]);
      expect([name, side, scrape.sum(`http_${side}_request_body_size_bytes_sum`, echo)]).toEqual([
        name,
        side,
        asked * REPEAT * 5000,
      ]);
    }
  }
});

it('nothing was lost, and query strings went nowhere', () => {
  const { http_malformed: _, ...losses } = scrape.losses();
  expect(losses).toEqual({});
  expect(stopped.code).toBe(0);
  expect(scrape.text).not.toContain('s3cret');
  expect(stopped.log).not.toContain('s3cret');
});
