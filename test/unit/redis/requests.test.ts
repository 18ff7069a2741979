// What Redis says about its commands: what a failure is, and the span of a command.
import { describe, expect, it } from 'vitest';
import { REDIS_REQUESTS, type RedisDetail } from '../../../exporter/probes/redis/requests.ts';
import type { SpanRecord } from '../../../exporter/telemetry/spans/types.ts';

const record = (more: Partial<SpanRecord<RedisDetail>>): SpanRecord<RedisDetail> => ({
  kind: 'client',
  startUnixNano: 1n,
  endUnixNano: 2n,
  client: { name: 'shop', namespace: 'a', kind: 'Deployment' },
  server: { name: 'cache', namespace: 'a', kind: 'StatefulSet' },
  serverAddress: '10.0.0.7',
  serverPort: 6379,
  protocol: REDIS_REQUESTS,
  operation: 'GET',
  reason: 'share',
  detail: { database: '3' },
  ...more,
});

describe('a failure', () => {
  it('is every error, by its first word, at both ends', () => {
    for (const side of ['client', 'server'] as const)
      for (const status of ['WRONGTYPE', 'MOVED', 'ERR', '_OTHER'])
        expect(REDIS_REQUESTS.errorType(side, { status })).toBe(status);
  });

  it('is no answer, by the reason', () => {
    expect(REDIS_REQUESTS.errorType('client', { broken: 'connection_reset' })).toBe('connection_reset');
  });

  it('is neither an answer nor being queued for EXEC', () => {
    expect(REDIS_REQUESTS.errorType('client', {})).toBeUndefined();
    expect(REDIS_REQUESTS.errorType('server', { status: 'QUEUED', broken: '' })).toBeUndefined();
  });
});

describe('a span', () => {
  it('has the name and the attributes of the semantic conventions', () => {
    expect(REDIS_REQUESTS.describe(record({ status: 'WRONGTYPE' }))).toEqual({
      name: 'GET 3',
      attributes: {
        'db.system.name': 'redis',
        'db.operation.name': 'GET',
        'db.namespace': '3',
        'db.response.status_code': 'WRONGTYPE',
      },
    });
  });

  it('is named by the server where the database is not known, and without a command that is none of the list', () => {
    expect(REDIS_REQUESTS.describe(record({ detail: {} }))).toEqual({
      name: 'GET 10.0.0.7',
      attributes: { 'db.system.name': 'redis', 'db.operation.name': 'GET' },
    });
    expect(REDIS_REQUESTS.describe(record({ operation: '_OTHER' })).name).toBe('3');
  });
});
