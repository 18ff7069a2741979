// Redis metrics by OpenTelemetry's semantic conventions for databases. Data only: part of the catalogue.
// https://opentelemetry.io/docs/specs/semconv/database/redis/
import { defineAttributes, EDGE } from '../../telemetry/attributes.ts';
import { defineMetrics } from '../../telemetry/definition.ts';

/** Bounds that the convention advises. */
const DB_DURATION_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10] as const;

/** Attributes that only these metrics carry. */
export const REDIS_ATTRIBUTES = defineAttributes({
  'db.system.name': { description: 'Database system.', values: ['redis'] },
  'db.operation.name': {
    description: 'Command in capitals; commands outside Redis 8 without modules are `_OTHER`.',
    keepWhenFolded: true,
  },
  'db.namespace': {
    description:
      'Number of the database, by the last `SELECT` that was answered OK; `_OTHER` beyond 253, left out when unknown (connections older than the agent, until they select one).',
    optional: true,
  },
  'db.response.status_code': {
    description:
      'First word of an error (`WRONGTYPE`, `MOVED`, ...; `_OTHER` for words outside a fixed list), or `QUEUED` for what waits for `EXEC`; left out when neither.',
    optional: true,
    keepWhenFolded: true,
  },
});

const OPERATION = [
  ...EDGE,
  'db.system.name',
  'db.operation.name',
  'db.namespace',
  'db.response.status_code',
  'error.type',
] as const;

const histogram = {
  probe: 'redis',
  kind: 'histogram',
  unit: 's',
  attributes: OPERATION,
  buckets: DB_DURATION_SECONDS,
} as const;

export const REDIS_METRICS = defineMetrics([
  {
    ...histogram,
    stability: 'stable',
    name: 'db.client.operation.duration',
    description:
      'Duration of database commands at the client: first byte of the command to last byte of the answer.',
  },
  {
    ...histogram,
    stability: 'development',
    name: 'knp.db.server.operation.duration',
    description:
      'Duration of database commands at the server: first byte of the command to last byte of the answer.',
  },
]);

/** Duration of commands by the end that measures. */
export const DURATIONS = {
  client: 'db.client.operation.duration',
  server: 'knp.db.server.operation.duration',
} as const;
