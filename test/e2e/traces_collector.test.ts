// Spans arrive at a real OpenTelemetry Collector with exact ids, times, parents, attributes and resources.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { HTTP_REQUESTS } from '../../exporter/probes/http/requests.ts';
import { createTraceOutput, type TraceOutput } from '../../exporter/telemetry/spans/sink.ts';
import type { SpanRecord, SpanWorkload } from '../../exporter/telemetry/spans/types.ts';
import { buildCollector, CollectorProcess, cannotBuildCollector } from '../peers/collector/collector.ts';

const missing = cannotBuildCollector();
if (missing !== undefined) process.stderr.write(`skipped: spans at a real Collector: ${missing}\n`);

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';
const SHOP: SpanWorkload = { name: 'shop', namespace: 'prod', kind: 'Deployment', pod: 'shop-7d9f-x2x' };
const CART: SpanWorkload = { name: 'cart', namespace: 'prod', kind: 'StatefulSet', pod: 'cart-0' };
const NGINX: SpanWorkload = { name: 'nginx.service', namespace: '', kind: 'Unit' };
const START = 1_795_442_400_123_456_789n;

function request(changes: Partial<SpanRecord> = {}): SpanRecord {
  return {
    kind: 'server',
    startUnixNano: START,
    endUnixNano: START + 250_000_001n,
    client: SHOP,
    server: CART,
    serverAddress: '10.0.0.7',
    serverPort: 8080,
    clientAddress: '10.0.0.3',
    protocol: HTTP_REQUESTS,
    operation: 'GET',
    target: '/users/{id}',
    exactTarget: '/users/42?token=secret',
    status: 200,
    reason: 'share',
    detail: { version: '1.1' },
    ...changes,
  };
}

describe.skipIf(missing !== undefined)('a real Collector', () => {
  let collector: CollectorProcess | undefined;
  let output: TraceOutput | undefined;
  const open = (endpoint: string) => {
    output = createTraceOutput({
      resource: { host: 'node-1', agentVersion: '1.2.3' },
      settings: {
        endpoint,
        insecure: false,
        headers: {},
        timeout_seconds: 10,
        queue_spans: 10_000,
        batch_spans: 100,
        delay_millis: 20,
        concurrency: 4,
        retry_seconds: 120,
      },
    });
    return output;
  };

  beforeAll(async () => {
    await buildCollector();
  }, 900_000);
  afterEach(async () => {
    await output?.shutdown(0);
    await collector?.stop();
  });

  it('reads every field as it was meant', async () => {
    collector = await CollectorProcess.start();
    const target = open(collector.endpoint);
    const context = { traceId: TRACE, parentSpanId: PARENT, flags: 1, tracestate: 'rojo=1,congo=2' };
    const server = target.accept(request({ context }));
    const child = target.accept(
      request({
        kind: 'client',
        client: CART,
        server: NGINX,
        status: undefined,
        broken: 'connection_reset',
        startUnixNano: START + 1n,
        endUnixNano: START + 1_000_000_000n,
        parent: { traceId: TRACE, spanId: server?.spanId ?? '' },
      }),
    );
    const linked = target.accept(
      request({
        kind: 'client',
        status: 404,
        context,
        parent: { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) },
      }),
    );
    await target.flush();
    await collector.stop();

    const spans = new Map(collector.spans().map((span) => [span.id, span]));
    expect(spans.size).toBe(3);
    expect(spans.get(server?.spanId ?? '')).toEqual({
      traceId: TRACE,
      parentId: PARENT,
      id: server?.spanId,
      name: 'GET /users/{id}',
      kind: 'Server',
      traceState: 'rojo=1,congo=2',
      start: START,
      end: START + 250_000_001n,
      statusCode: 'Unset',
      statusMessage: '',
      links: [],
      scope: 'kubenetprobe 1.2.3',
      attributes: {
        'http.request.method': 'Str(GET)',
        'http.route': 'Str(/users/{id})',
        'http.response.status_code': 'Int(200)',
        'url.scheme': 'Str(http)',
        'url.path': 'Str(/users/42)',
        'server.address': 'Str(10.0.0.7)',
        'server.port': 'Int(8080)',
        'client.address': 'Str(10.0.0.3)',
        'network.protocol.name': 'Str(http)',
        'network.protocol.version': 'Str(1.1)',
        'knp.sampling.reason': 'Str(share)',
      },
      resource: {
        'service.name': 'Str(cart)',
        'service.namespace': 'Str(prod)',
        'service.instance.id': 'Str(prod.cart-0)',
        'host.name': 'Str(node-1)',
        'k8s.namespace.name': 'Str(prod)',
        'k8s.node.name': 'Str(node-1)',
        'k8s.statefulset.name': 'Str(cart)',
        'k8s.pod.name': 'Str(cart-0)',
        'knp.workload.kind': 'Str(StatefulSet)',
        'telemetry.distro.name': 'Str(kubenetprobe)',
        'telemetry.distro.version': 'Str(1.2.3)',
      },
    });
    expect(spans.get(child?.spanId ?? '')).toMatchObject({
      traceId: TRACE,
      parentId: server?.spanId,
      kind: 'Client',
      start: START + 1n,
      end: START + 1_000_000_000n,
      statusCode: 'Error',
      statusMessage: 'connection_reset',
      attributes: { 'error.type': 'Str(connection_reset)', 'peer.service': 'Str(nginx.service)' },
      resource: { 'service.name': 'Str(cart)' },
    });
    expect(spans.get(linked?.spanId ?? '')).toMatchObject({
      parentId: PARENT,
      statusCode: 'Error',
      links: [{ traceId: 'a'.repeat(32), id: 'b'.repeat(16) }],
      resource: { 'service.name': 'Str(shop)' },
    });
    expect(JSON.stringify([...spans.values()].map((span) => span.attributes))).not.toContain('secret');
  });

  it('5,000 spans of three workloads arrive once each, also over a restart of the Collector', async () => {
    collector = await CollectorProcess.start();
    const target = open(collector.endpoint);
    const sent: string[] = [];
    const send = (count: number) => {
      for (let i = 0; i < count; i++) {
        const server = [SHOP, CART, NGINX][i % 3] ?? SHOP;
        sent.push(target.accept(request({ server, startUnixNano: START + BigInt(i) }))?.spanId ?? 'refused');
      }
    };
    send(2500);
    await target.flush();
    const { port } = collector;
    await collector.stop();
    const before = collector.spans();
    send(2500);
    await sleep(500);
    expect(target.stats()).toMatchObject({ accepted: 5000, exported: 2500, queued: 2500 });
    collector = await CollectorProcess.start(port);
    await target.flush();
    await collector.stop();
    const after = collector.spans();
    expect(target.stats()).toMatchObject({ exported: 5000, queued: 0 });
    expect([...before, ...after].map((span) => span.id).sort()).toEqual(sent.sort());
    expect(after.filter((span) => span.resource['service.name'] === 'Str(cart)')).toHaveLength(833);
  });
});
