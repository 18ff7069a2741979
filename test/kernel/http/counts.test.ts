// Counts are exact at full speed: what h2load and wrk say they did, what nginx's log says, and what the kernel counted
// at both ends are the same numbers.
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { scaled } from '../../guests/scale.ts';
import { apart, endAll, h2load, METHOD_STATUS, METHOD_STATUS_ROUTE, Nginx, Probe, run } from './harness.ts';

/** Requests of each load. */
const REQUESTS = scaled(200_000);

const LOCATIONS = `
  location / { return 200 "hello\\n"; }
  location /missing { return 404; }
  location /broken { return 503; }
  location /moved { return 302 /; }
`;

let nginx: Nginx;
let probe: Probe;

beforeEach(async () => {
  nginx = await Nginx.start(LOCATIONS);
  probe = new Probe();
});

afterEach(async () => {
  probe.close();
  await endAll();
  nginx.remove();
});

function logTable(): Record<string, number> {
  const table: Record<string, number> = {};
  for (const { method, status } of nginx.log())
    table[`${method} ${status}`] = (table[`${method} ${status}`] ?? 0) + 1;
  return table;
}

/**
 * Runs the load until it has lost nothing, at most three times; answers how often. Losses are counted for the whole
 * host, and others may send what nobody can follow; were it this load, no attempt would be without.
 */
async function withoutLoss(load: () => Promise<void>): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const before = await probe.lost();
    await load();
    const lost = await probe.lost();
    if (attempt === 3) expect(lost).toEqual(before);
    if (isDeepStrictEqual(lost, before)) return attempt;
  }
}

describe.each([1, 16, 256])('over %i connections', (connections) => {
  it('counts every request at both ends, as h2load and nginx do', async () => {
    const port = { server_port: nginx.port };
    const times = await withoutLoss(async () => {
      const done = await h2load(nginx.url('/hello/1'), REQUESTS, connections);
      expect(done).toMatchObject({ '2xx': REQUESTS, done: REQUESTS });
    });
    await nginx.stop();
    const expected = { 'GET 200': times * REQUESTS };
    expect(logTable()).toEqual(expected);
    expect(await probe.table('server', port, METHOD_STATUS)).toEqual(expected);
    expect(await probe.table('client', port, METHOD_STATUS)).toEqual(expected);
    const byRoute = { 'GET 200 /hello/{id}': times * REQUESTS };
    expect(await probe.table('server', port, METHOD_STATUS_ROUTE)).toEqual(byRoute);
    expect(await probe.table('client', port, METHOD_STATUS_ROUTE)).toEqual(byRoute);
  }, 600_000);
});

it('counts once where each hook has a backup program, as on Linux 7', async () => {
  const { release } = new KernelFeatures();
  const features = new KernelFeatures({ release: () => (release.startsWith('7.') ? release : '7.0.0') });
  const doubled = new Probe({ features });
  try {
    const programs = doubled.http.loaded.choices.flatMap((choice) => choice.programs);
    expect(programs).toContainEqual(expect.stringMatching(/^stream_sent.*_backup$/));
    await h2load(nginx.url('/hello/1'), REQUESTS / 10, 16);
    const port = { server_port: nginx.port };
    const expected = { 'GET 200': REQUESTS / 10 };
    expect(await doubled.table('server', port, METHOD_STATUS)).toEqual(expected);
    expect(await doubled.table('client', port, METHOD_STATUS)).toEqual(expected);
    expect(await probe.table('server', port, METHOD_STATUS)).toEqual(expected);
  } finally {
    doubled.close();
  }
}, 300_000);

it('sends no message to userspace in the steady state', async () => {
  await h2load(nginx.url('/hello/1'), 1000, 4);
  await probe.collect();
  const before = probe.http.source.counters;
  await h2load(nginx.url('/hello/2'), REQUESTS / 4, 16);
  expect(await probe.requests('server', { server_port: nginx.port })).toBe(1000 + REQUESTS / 4);
  const after = probe.http.source.counters;
  expect(after.span_events).toBe(before.span_events);
  // other programs of this machine may ask for paths of their own
  expect((after.name_events ?? 0) - (before.name_events ?? 0)).toBeLessThan(50);
}, 300_000);

it('counts mixed methods, statuses and routes, and wrk as it stops in the middle', async () => {
  const paths = ['/a', '/b/7', '/missing/x', '/broken', '/moved'];
  const each = REQUESTS / 20;
  const times = await withoutLoss(async () => {
    for (const path of paths) {
      await h2load(nginx.url(path), each, 8);
      await h2load(nginx.url(path), each, 8, '-H', ':method: POST', '-d', '/etc/hostname');
    }
  });
  const { stdout } = await run('wrk', ['-d', '2s', '-c', '32', '-t', '1', nginx.url('/wrk')]);
  const wrk = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  await nginx.stop();
  const log: Record<string, number> = {};
  for (const { method, status, uri } of nginx.log()) {
    const row = `${method} ${status} ${uri.replace(/\d+/, '{id}')}`;
    log[row] = (log[row] ?? 0) + 1;
  }
  const port = { server_port: nginx.port };
  const server = apart(await probe.table('server', port, METHOD_STATUS_ROUTE), ' /wrk');
  const client = apart(await probe.table('client', port, METHOD_STATUS_ROUTE), ' /wrk');
  const logged = apart(log, ' /wrk');
  expect(Object.values(logged.others).reduce((sum, count) => sum + count, 0)).toBe(times * 10 * each);
  // Where wrk stopped, each of its connections may have had one request under way: one that nginx answered and nobody
  // read, or one whose answer nginx could not write any more, though it logs the status that it would have had.
  expect(server.others).toEqual(logged.others);
  expect(client.others).toEqual(logged.others);
  expect(server.all).toBe(logged.all);
  for (const { all, answered } of [server, client]) {
    expect(answered).toBeGreaterThanOrEqual(wrk);
    expect(all - wrk).toBeLessThanOrEqual(32);
  }
}, 300_000);
