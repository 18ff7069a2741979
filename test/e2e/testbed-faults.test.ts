// The fault proxy in front of the testbed's API server: does each fault look to a client as it should?
import type { ClientRequest, IncomingMessage } from 'node:http';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { ApiClient } from '../testbed/api-client.ts';
import { buildAll } from '../testbed/build.ts';
import { type ControlPlane, controlPlaneUnavailable, startControlPlane } from '../testbed/control-plane.ts';
import { type FaultProxy, startFaultProxy } from '../testbed/fault-proxy.ts';

const reason = controlPlaneUnavailable();
const PODS = '/api/v1/namespaces';
const WATCH = '/api/v1/namespaces?watch=1&timeoutSeconds=60';

interface Received {
  readonly status: number;
  text: string;
  /** 'whole': the body ended properly. */
  readonly end: Promise<'whole' | 'broken'>;
  close(): void;
}

describe.skipIf(reason)(`fault proxy${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let plane: ControlPlane;
  let proxy: FaultProxy;
  let client: ApiClient;

  beforeAll(async () => {
    await buildAll();
    plane = await startControlPlane();
    proxy = await startFaultProxy(plane);
    client = new ApiClient({ url: proxy.url, ca: plane.ca, token: plane.adminToken });
  }, 60 * 60_000);
  afterEach(() => proxy?.clear());
  afterAll(async () => {
    client?.close();
    await proxy?.stop();
    await plane?.stop();
  });

  /** One request on a connection of its own; resolves when the header is there. */
  function ask(path: string): Promise<Received> {
    return new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${plane.adminToken}`, connection: 'close' };
      const request: ClientRequest = https.get(
        new URL(path, proxy.url),
        { ca: plane.ca, headers },
        (response) => {
          resolve(receive(request, response));
        },
      );
      request.on('error', reject);
    });
  }

  function receive(request: ClientRequest, response: IncomingMessage): Received {
    const end = new Promise<'whole' | 'broken'>((resolve) => {
      response.on('end', () => resolve('whole')).on('error', () => resolve('broken'));
    });
    const received: Received = {
      status: response.statusCode ?? 0,
      text: '',
      end,
      close: () => request.destroy(),
    };
    response.on('data', (chunk) => {
      received.text += chunk;
    });
    return received;
  }

  test('without a rule it passes everything on, and counts it', async () => {
    const [direct, through] = [await plane.admin.get(PODS), await client.get(PODS)];
    expect(through.items).toEqual(direct.items);
    const record = proxy.requests.at(-1);
    while (record && !record.ended) await sleep(5);
    expect(record).toMatchObject({ method: 'GET', path: PODS, watch: false, status: 200, ended: true });
    expect(record?.bytes).toBe(JSON.stringify(through).length + 1);
  });

  test('a watch comes through event by event', async () => {
    const watch = await ask(WATCH);
    await plane.createNamespace('seen');
    while (!watch.text.includes('"name":"seen"')) await sleep(10);
    watch.close();
    while (!proxy.requests.at(-1)?.ended) await sleep(10);
  });

  test('answers with a status as often as asked, then lets through', async () => {
    const rule = proxy.add({
      fault: { kind: 'status', status: 410 },
      times: 2,
      path: /^\/api\/v1\/namespaces/,
    });
    const other = await client.raw('GET', '/version');
    const answers = [
      await client.raw('GET', PODS),
      await client.raw('GET', PODS),
      await client.raw('GET', PODS),
    ];
    expect(other.status).toBe(200);
    expect(answers.map(({ status }) => status)).toEqual([410, 410, 200]);
    expect(answers[0]?.body).toMatchObject({ kind: 'Status', reason: 'Expired', code: 410 });
    expect(rule.hits).toBe(2);
  });

  test('cuts a body in mid-object', async () => {
    proxy.add({ fault: { kind: 'cut', afterBytes: 100 } });
    const answer = await ask(PODS);
    expect(await answer.end).toBe('broken');
    expect(answer.text).toHaveLength(100);
    expect(() => JSON.parse(answer.text)).toThrow();
  });

  test('puts garbage into a watch', async () => {
    proxy.add({ fault: { kind: 'garbage', afterBytes: 300 }, watch: true });
    const watch = await ask(WATCH);
    expect(await watch.end).toBe('whole');
    expect(watch.text.slice(300)).toContain('not JSON');
    const direct = await ask(PODS);
    expect(await direct.end).toBe('whole');
    JSON.parse(direct.text);
  });

  test('tells a watch that its resource version has expired', async () => {
    proxy.add({ fault: { kind: 'gone', afterBytes: 0 }, watch: true });
    const watch = await ask(WATCH);
    expect(await watch.end).toBe('whole');
    const event = JSON.parse(watch.text);
    expect([event.type, event.object.code, event.object.reason]).toEqual(['ERROR', 410, 'Expired']);
  });

  test('falls silent and keeps the connection', async () => {
    proxy.add({ fault: { kind: 'hang', afterBytes: 50 } });
    const answer = await ask(PODS);
    while (answer.text.length < 50) await sleep(5);
    const ended = await Promise.race([answer.end, sleep(500).then(() => 'still open')]);
    expect([ended, answer.text.length]).toEqual(['still open', 50]);
    answer.close();
  });

  test('is slow: no byte is lost', async () => {
    const direct = await ask(PODS);
    await direct.end;
    proxy.add({ fault: { kind: 'slow', bytesPerSecond: direct.text.length * 5 } });
    const started = performance.now();
    const answer = await ask(PODS);
    expect(await answer.end).toBe('whole');
    expect(performance.now() - started).toBeGreaterThan(150);
    expect(JSON.parse(answer.text).items).toEqual(JSON.parse(direct.text).items);
  });

  test('refuses, delays and drops connections', async () => {
    proxy.add({ fault: { kind: 'refuse' }, times: 1 });
    await expect(ask(PODS)).rejects.toThrow();
    proxy.add({ fault: { kind: 'delay', millis: 200 }, times: 1 });
    const started = performance.now();
    expect((await ask(PODS)).status).toBe(200);
    expect(performance.now() - started).toBeGreaterThanOrEqual(199);
    const watch = await ask(WATCH);
    proxy.dropConnections();
    expect(await watch.end).toBe('broken');
  });

  test('a server that goes away takes its watches along', async () => {
    const watch = await ask(WATCH);
    await plane.stopApiServer('SIGKILL');
    expect(await watch.end).toBe('broken');
    await expect(ask(PODS)).rejects.toThrow();
    await plane.startApiServer();
    expect((await ask(PODS)).status).toBe(200);
  });
});
