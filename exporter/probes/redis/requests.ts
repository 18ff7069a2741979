// What Redis says about its commands: which metrics count them, what a failure is, and their spans by OpenTelemetry's
// semantic conventions (https://opentelemetry.io/docs/specs/semconv/database/redis/). Data only: no kernel, no store.
import type { Attributes } from '@opentelemetry/api';
import { metricIn, type RequestProtocol } from '../../telemetry/requests/protocol.ts';
import { DURATIONS, REDIS_METRICS } from './metrics.ts';

/** What a span record of Redis holds beside the fields of all protocols; its operation is the command. */
export interface RedisDetail {
  /** Number of the database, where it is known. */
  readonly database?: string | undefined;
}

/** What is answered inside a transaction: the command waits for `EXEC`. No failure. */
const QUEUED = 'QUEUED';

/** Commands of Redis. One fails when it is answered by an error, whatever its first word, or not at all. */
export const REDIS_REQUESTS: RequestProtocol<RedisDetail> = {
  name: 'redis',
  title: 'Redis',
  durations: {
    client: metricIn(REDIS_METRICS, DURATIONS.client),
    server: metricIn(REDIS_METRICS, DURATIONS.server),
  },
  only: { 'db.system.name': 'redis' },
  operation: [
    { attribute: 'db.operation.name', title: 'Command' },
    { attribute: 'db.namespace', title: 'Database' },
  ],
  status: { attribute: 'db.response.status_code', title: 'Status' },
  connectionType: 'database',

  errorType(_side, { status, broken }) {
    if (broken !== undefined && broken !== '') return broken;
    return status === undefined || status === QUEUED ? undefined : String(status);
  },

  describe(record) {
    const { operation, status, detail } = record;
    const attributes: Attributes = { 'db.system.name': 'redis', 'db.operation.name': operation };
    if (detail.database !== undefined) attributes['db.namespace'] = detail.database;
    if (status !== undefined) attributes['db.response.status_code'] = String(status);
    const target = detail.database ?? record.serverAddress;
    return { name: operation === '_OTHER' ? target : `${operation} ${target}`, attributes };
  },
};
