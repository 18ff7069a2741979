// Two protocols in one stream of sampled requests: each span by its own conventions, filters and lines for both.
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { describe, expect, it } from 'vitest';
import { traceRow } from '../../../exporter/cli/trace_stream.ts';
import {
  createSpanFeed,
  matches,
  type TraceFilter,
  traceLine,
} from '../../../exporter/telemetry/spans/feed.ts';
import { parseTraceQuery } from '../../../exporter/telemetry/spans/live_endpoint.ts';
import { createTraceOutput } from '../../../exporter/telemetry/spans/sink.ts';
import { createSynthesiser } from '../../../exporter/telemetry/spans/synthesiser.ts';
import { record } from '../spans/records.ts';
import { STORE, storeRecord } from './second_protocol.ts';

const ID = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' };

describe('spans', () => {
  const synthesiser = createSynthesiser({ host: 'node-1', agentVersion: '1.2.3' });
  const span = (changes: Parameters<typeof storeRecord>[0] = {}) =>
    synthesiser.synthesise(storeRecord(changes)).span;

  it('a span has what its protocol says and what all spans have, and nothing of another protocol', () => {
    const made = span();
    expect(made.name).toBe('INCR');
    expect(made.kind).toBe(SpanKind.CLIENT);
    expect(made.status).toEqual({ code: SpanStatusCode.UNSET });
    expect(made.attributes).toEqual({
      'db.system.name': 'teststore',
      'db.operation.name': 'INCR',
      'db.namespace': '3',
      'server.address': '10.0.0.7',
      'server.port': 6379,
      'peer.service': 'cart',
      'service.peer.name': 'cart',
      'service.peer.namespace': 'prod',
      'knp.sampling.reason': 'share',
    });
  });

  it('what failed is what the protocol says failed', () => {
    const failed = span({ status: 'WRONGTYPE' });
    expect(failed.status).toEqual({ code: SpanStatusCode.ERROR });
    expect(failed.attributes).toMatchObject({
      'error.type': 'WRONGTYPE',
      'db.response.status_code': 'WRONGTYPE',
    });
    const broken = span({ broken: 'connection_reset' });
    expect(broken.status).toEqual({ code: SpanStatusCode.ERROR, message: 'connection_reset' });
    expect(broken.attributes['error.type']).toBe('connection_reset');
  });

  it('a protocol chooses other kinds, as those of messages', () => {
    const protocol = {
      ...STORE,
      describe: () => ({ name: 'send', kind: 'producer' as const, attributes: {} }),
    };
    expect(span({ protocol }).kind).toBe(SpanKind.PRODUCER);
  });
});

describe('the live view', () => {
  it.each<[TraceFilter, boolean, boolean]>([
    [{}, true, true],
    [{ protocol: 'http' }, true, false],
    [{ protocol: 'teststore' }, false, true],
    [{ protocol: 'other' }, false, false],
    [{ status: { is: 'WRONGTYPE' } }, false, true],
    [{ status: { from: 200, to: 299 } }, true, false],
    [{ errors: true }, false, true],
  ])('%o: HTTP %s, the other %s', (filter, http, other) => {
    expect(matches(record(), filter)).toBe(http);
    expect(matches(storeRecord({ status: 'WRONGTYPE' }), filter)).toBe(other);
  });

  it('asks for a protocol and for statuses in words', () => {
    expect(parseTraceQuery(new URLSearchParams('protocol=teststore&status=WRONGTYPE'))).toMatchObject({
      protocol: 'teststore',
      status: { is: 'WRONGTYPE' },
    });
    expect(parseTraceQuery(new URLSearchParams('status=wrongtype'))).toContain('status must be like');
  });

  it('a line names the protocol, a row shows both alike', () => {
    const line = traceLine(storeRecord({ status: 'WRONGTYPE' }), ID);
    expect(line).toEqual({
      time: '2026-11-23T14:00:00.123Z',
      reporter: 'client',
      client: 'shop',
      client_namespace: 'prod',
      server: 'cart',
      server_namespace: 'prod',
      server_port: 6379,
      protocol: 'teststore',
      operation: 'INCR',
      target: '',
      status: 'WRONGTYPE',
      error_type: 'WRONGTYPE',
      duration_seconds: 0.001,
      trace_id: ID.traceId,
      span_id: ID.spanId,
      sampling_reason: 'share',
    });
    const cells = (text: string) => text.trimEnd().split(/ {2,}/);
    expect(cells(traceRow(line, 140)).slice(1)).toEqual([
      'client',
      'test…',
      'INCR',
      'WRONG…',
      '1.00ms',
      'prod/shop → prod/cart:6379',
      '- (WRONGTYPE)',
    ]);
    expect(cells(traceRow(traceLine(record({ status: 503 }), ID), 140)).slice(1)).toEqual([
      'server',
      'http',
      'GET',
      '503',
      '250ms',
      'prod/shop → prod/cart:8080',
      '/users/{id} (503)',
    ]);
  });

  it('one sink takes both; a watcher of one protocol gets its own', async () => {
    const feed = createSpanFeed();
    const output = createTraceOutput({ resource: { host: 'h', agentVersion: '0' }, feed });
    const watcher = feed.subscribe({ protocol: 'teststore' });
    output.accept(record());
    output.accept(storeRecord());
    output.accept(record());
    output.accept(storeRecord({ operation: 'GET' }));
    expect([(await watcher?.next())?.operation, (await watcher?.next())?.operation]).toEqual(['INCR', 'GET']);
    feed.close();
  });
});
