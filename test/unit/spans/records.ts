// Span records for tests.

import { HTTP_REQUESTS, type HttpDetail } from '../../../exporter/probes/http/requests.ts';
import type { SpanRecord, SpanWorkload } from '../../../exporter/telemetry/spans/types.ts';

export const SHOP: SpanWorkload = {
  name: 'shop',
  namespace: 'prod',
  kind: 'Deployment',
  pod: 'shop-7d9f-x2x',
  zone: 'eu-1a',
};
export const CART: SpanWorkload = { name: 'cart', namespace: 'prod', kind: 'StatefulSet', pod: 'cart-0' };
export const NGINX: SpanWorkload = { name: 'nginx.service', namespace: '', kind: 'Unit' };

/** A complete GET /users/42 from shop to cart as the server saw it: 250 ms, answered with 200. */
export function record(changes: Partial<SpanRecord<HttpDetail>> = {}): SpanRecord<HttpDetail> {
  return {
    kind: 'server',
    startUnixNano: 1_795_442_400_123_456_789n,
    endUnixNano: 1_795_442_400_373_456_790n,
    client: SHOP,
    server: CART,
    serverAddress: '10.0.0.7',
    serverPort: 8080,
    clientAddress: '10.0.0.3',
    clientPort: 43210,
    protocol: HTTP_REQUESTS,
    operation: 'GET',
    target: '/users/{id}',
    exactTarget: '/users/42',
    status: 200,
    reason: 'share',
    requestBytes: 0,
    responseBytes: 1234,
    detail: { version: '1.1', timeToFirstByteNanos: 100_000_001n },
    ...changes,
  };
}
