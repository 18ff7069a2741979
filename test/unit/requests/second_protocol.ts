// A second protocol for tests: shows that whoever reads descriptors knows none by name. Its metrics are named as those of
// a database by the semantic conventions, its failures are words, and its buckets are others than those of HTTP.

import { EDGE } from '../../../exporter/telemetry/attributes.ts';
import type { MetricDefinition } from '../../../exporter/telemetry/definition.ts';
import type { RequestProtocol } from '../../../exporter/telemetry/requests/protocol.ts';
import type { SpanRecord } from '../../../exporter/telemetry/spans/types.ts';
import { CART, SHOP } from '../spans/records.ts';

export interface StoreDetail {
  readonly database: number;
}

/** Bounds that the conventions advise for databases. */
export const STORE_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10] as const;

const duration = (name: string): MetricDefinition => ({
  name,
  kind: 'histogram',
  unit: 's',
  description: 'Duration of commands.',
  attributes: [...EDGE, 'error.type'],
  buckets: STORE_SECONDS,
  probe: 'http',
  stability: 'development',
});

export const STORE: RequestProtocol<StoreDetail> = {
  name: 'teststore',
  title: 'Test store',
  durations: {
    client: duration('db.client.operation.duration'),
    server: duration('knp.db.server.operation.duration'),
  },
  only: { 'db.system.name': 'teststore' },
  operation: [{ attribute: 'db.operation.name', title: 'Command' }],
  status: { attribute: 'db.response.status_code', title: 'Status' },
  connectionType: 'database',
  errorType: (_side, { status, broken }) => broken ?? (status === undefined ? undefined : String(status)),
  describe: ({ operation, status, detail }) => ({
    name: operation,
    attributes: {
      'db.system.name': 'teststore',
      'db.operation.name': operation,
      'db.namespace': String(detail.database),
      ...(status !== undefined && { 'db.response.status_code': status }),
    },
  }),
};

/** A complete INCR from shop to cart as the client saw it. */
export function storeRecord(changes: Partial<SpanRecord<StoreDetail>> = {}): SpanRecord<StoreDetail> {
  return {
    kind: 'client',
    startUnixNano: 1_795_442_400_123_456_789n,
    endUnixNano: 1_795_442_400_124_456_789n,
    client: SHOP,
    server: CART,
    serverAddress: '10.0.0.7',
    serverPort: 6379,
    protocol: STORE,
    operation: 'INCR',
    reason: 'share',
    detail: { database: 3 },
    ...changes,
  };
}
