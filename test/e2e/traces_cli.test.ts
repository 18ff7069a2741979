// `kubenetprobe trace` as a process of its own, watching a live endpoint.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { HTTP_REQUESTS } from '../../exporter/probes/http/requests.ts';
import { createSpanFeed, type SpanFeed } from '../../exporter/telemetry/spans/feed.ts';
import { serveTrace, TRACE_PATH } from '../../exporter/telemetry/spans/live_endpoint.ts';
import type { SpanRecord } from '../../exporter/telemetry/spans/types.ts';

const MAIN = fileURLToPath(new URL('../../exporter/cli/main.ts', import.meta.url));
const IDENTITY = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' };
const START = 1_795_442_400_123_000_000n;

function request(changes: Partial<SpanRecord> = {}): SpanRecord {
  return {
    kind: 'server',
    startUnixNano: START,
    endUnixNano: START + 250_000_000n,
    client: { name: 'shop', namespace: 'prod', kind: 'Deployment' },
    server: { name: 'cart', namespace: 'prod', kind: 'StatefulSet' },
    serverAddress: '10.0.0.7',
    serverPort: 8080,
    protocol: HTTP_REQUESTS,
    operation: 'GET',
    target: '/users/{id}',
    status: 200,
    reason: 'share',
    detail: {},
    ...changes,
  };
}

let feed: SpanFeed;
let server: Server;
let address = '';
const children: ChildProcess[] = [];

beforeEach(async () => {
  feed = createSpanFeed();
  server = createServer((incoming, response) => {
    if (incoming.url?.split('?')[0] === TRACE_PATH) void serveTrace(feed, incoming, response);
    else response.writeHead(404).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  feed.close();
  server.closeAllConnections();
  server.close();
});

function run(...args: string[]) {
  const child = spawn(process.execPath, [MAIN, 'trace', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (text) => {
      output[name] += text;
    });
  return { child, output, done: once(child, 'close').then(([code]) => code as number) };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}

it('prints the requests that the filters let through, as JSON lines, and ends at the limit', async () => {
  const { output, done } = run(
    '--from',
    address,
    '--json',
    '--status',
    '5xx',
    '--slower-than',
    '200ms',
    '--limit',
    '1',
  );
  await until(() => feed.subscribers === 1);
  feed.publish(request(), IDENTITY);
  feed.publish(request({ status: 503, endUnixNano: START + 1n }), IDENTITY);
  feed.publish(request({ status: 503, target: '/pay' }), IDENTITY);
  expect(await done).toBe(0);
  expect(output.stderr).toBe('');
  expect(
    output.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toMatchObject([
    {
      target: '/pay',
      status: 503,
      duration_seconds: 0.25,
      client: 'shop',
      server: 'cart',
      trace_id: IDENTITY.traceId,
    },
  ]);
});

it('prints a table until it is interrupted', async () => {
  const { child, output, done } = run('--listen', address, '--workload', 'prod/cart');
  await until(() => feed.subscribers === 1);
  feed.publish(request(), IDENTITY);
  await until(() => output.stdout.includes('/users/{id}'));
  child.kill('SIGINT');
  expect(await done).toBe(0);
  expect(output.stdout).toMatch(
    /^TIME .* CLIENT → SERVER .* TARGET\n14:00:00\.123 {2}server {2}http {3}GET {6}200 {8}250ms {2}prod\/shop → prod\/cart:8080 +\/users\/\{id\}\n$/,
  );
});

it('says in one sentence what is wrong', async () => {
  const ended = run('--from', address);
  await until(() => feed.subscribers === 1);
  feed.close();
  expect([await ended.done, ended.output.stderr]).toEqual([
    1,
    `kubenetprobe: cannot read http://${address}/api/trace: the agent ended; is the agent running (kubenetprobe run)?\n`,
  ]);
  const wrong = run('--status', '99');
  expect(await wrong.done).toBe(2);
  expect(wrong.output.stderr).toContain('it must be like 404, 5xx, 400-499 or NOT_FOUND');
});
