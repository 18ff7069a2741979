// Exact under full load, through the real agent: what h2load says it did, what nginx logged, and what /metrics counts at
// both ends are the same numbers, by method, status and route. `make test-full` makes it a million each.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { apart, endAll, h2load, Nginx } from '../kernel/http/harness.ts';
import { sized } from '../volume.ts';
import { killLeftovers } from './cli_process.ts';
import { HttpAgent, METHOD_STATUS_ROUTE, type Scrape } from './http/agent.ts';
import { wrk } from './http/load.ts';

const REQUESTS = sized(1_000_000, 0.06);

const LOCATIONS = `
  location / { return 200 "hello\\n"; }
  location /missing { return 404; }
  location /broken { return 503; }
  location /moved { return 302 /; }
`;
/** Spans off, so that nothing but new paths may cross from the kernel. */
const UNSAMPLED = 'probes: {http: {sampling: {ratio: 0, errors: false, slow_millis: 0}}}';

let agent: HttpAgent;
let nginx: Nginx;

beforeEach(async () => {
  agent = await HttpAgent.start(UNSAMPLED);
  nginx = await Nginx.start(LOCATIONS);
});
afterEach(async () => {
  await agent.stop();
  await endAll();
  killLeftovers();
  nginx.remove();
});

const settled = () => agent.settled((scrape) => requests(scrape));

function requests(scrape: Scrape) {
  const port = { server_port: nginx.port };
  return {
    server: scrape.requests('server', port, METHOD_STATUS_ROUTE),
    client: scrape.requests('client', port, METHOD_STATUS_ROUTE),
  };
}

/** nginx's own count by method, status and path; numbers in a path are what the route leaves out. */
async function logged(): Promise<Record<string, number>> {
  await nginx.stop(); // it writes its log to the end
  const table: Record<string, number> = {};
  for (const { method, status, uri } of nginx.log()) {
    const row = `${method} ${status} ${uri.replace(/\?.*/, '').replace(/\d+/, '{id}')}`;
    table[row] = (table[row] ?? 0) + 1;
  }
  return Object.fromEntries(Object.entries(table).sort());
}

/** What grew between two readings. */
function grown(before: Record<string, number>, after: Record<string, number>): Record<string, number> {
  const grew = Object.entries(after).map(([stage, count]) => [stage, count - (before[stage] ?? 0)] as const);
  return Object.fromEntries(grew.filter(([, count]) => count > 0));
}

describe.each([1, 16, 256])('over %i connections at full speed', (connections) => {
  it(`${REQUESTS} requests are counted at both ends, none more, none less`, async () => {
    let total = 0;
    let lost: Record<string, number> = {};
    // Losses are counted for the whole host, and others may send what nobody can follow. Were it this load, no attempt
    // would be without.
    for (let attempt = 0; attempt < 3; attempt++) {
      const before = (await settled()).losses();
      const done = await h2load(nginx.url('/items/7?token=abc'), REQUESTS, connections);
      expect(done).toMatchObject({ '2xx': REQUESTS, done: REQUESTS });
      total += REQUESTS;
      lost = grown(before, (await settled()).losses());
      if (Object.keys(lost).length === 0) break;
    }
    expect(lost).toEqual({});
    const scrape = await settled();
    const expected = { 'GET 200 /items/{id}': total };
    expect(await logged()).toEqual(expected);
    expect(requests(scrape)).toEqual({ server: expected, client: expected });
    const port = { server_port: nginx.port };
    for (const side of ['server', 'client'] as const) {
      // A histogram that is consistent in itself, and sizes that are nginx's: 6 bytes each.
      expect(scrape.buckets(side, port).get(Number.POSITIVE_INFINITY)).toBe(total);
      expect(scrape.sum(`http_${side}_response_body_size_bytes_sum`, port)).toBe(6 * total);
    }
    const graph = scrape.find('traces_service_graph_request_total', { client: 'h2load', server: 'nginx' });
    // Other nginx and h2load of this host may be among them.
    expect(graph[0]?.value).toBeGreaterThanOrEqual(total);
  });
});

it('mixed methods, statuses and routes, and wrk, which stops in the middle', async () => {
  const each = sized(50_000, 0.06);
  const paths = ['/a', '/b/7', '/missing/x', '/broken', '/moved'];
  for (const path of paths) {
    await h2load(nginx.url(path), each, 16);
    await h2load(nginx.url(path), each, 16, '-H', ':method: POST', '-d', '/etc/hostname');
  }
  const wrkDone = await wrk(nginx.url('/wrk'), 1, 32);
  const { server, client } = requests(await settled());
  const log = await logged();
  // Where wrk stopped, each of its connections may have had one request under way: one that nginx answered and nobody
  // read, or one whose answer nginx could not write any more, though it logs the status that it would have had.
  const [byServer, byClient, byLog] = [server, client, log].map((table) => apart(table, ' /wrk'));
  expect(byServer?.others).toEqual(byLog?.others);
  expect(byClient?.others).toEqual(byLog?.others);
  expect(byServer?.all).toBe(byLog?.all);
  for (const { all = 0, answered = 0 } of [byServer ?? {}, byClient ?? {}]) {
    expect(answered).toBeGreaterThanOrEqual(wrkDone);
    expect(all - wrkDone).toBeLessThanOrEqual(32);
  }
});

it('in the steady state no message goes from the kernel to the agent', async () => {
  await h2load(nginx.url('/items/7'), 1000, 4);
  await settled();
  const growth: Record<string, number>[] = [];
  // Other programs of this host may ask for paths of their own meanwhile. Were it this load that sends messages, no
  // attempt would be without.
  for (let attempt = 0; attempt < 8; attempt++) {
    const before = (await settled()).table('knp_http_events_total', {}, ['kind']);
    await h2load(nginx.url('/items/8'), sized(200_000, 0.05), 16);
    const after = (await settled()).table('knp_http_events_total', {}, ['kind']);
    growth.push({
      path: (after.path ?? 0) - (before.path ?? 0),
      span: (after.span ?? 0) - (before.span ?? 0),
    });
    if (growth.at(-1)?.path === 0) break;
  }
  expect(growth.map(({ span }) => span)).toEqual(growth.map(() => 0));
  expect(growth.at(-1)).toEqual({ path: 0, span: 0 });
});
