// The span record of a sampled command. The reader of samples (exporter/probes/requests/samples.ts) calls it.
import type { SpanRecord } from '../../telemetry/spans/types.ts';
import type { Sample } from '../requests/samples.ts';
import { REDIS_REQUESTS, type RedisDetail } from './requests.ts';
import type { RedisNames } from './series.ts';

/** Puts a sample in the words of Redis. */
export function spanRecord(sample: Sample, names: RedisNames): SpanRecord<RedisDetail> {
  const { key, edge, kind, client, server } = sample;
  const status = names.status(key.status);
  const database = names.database(key.detail);
  return {
    kind,
    startUnixNano: sample.startUnixNano,
    endUnixNano: sample.endUnixNano,
    client: edge.client,
    server: edge.server,
    serverAddress: server.address,
    serverPort: server.port,
    clientAddress: client.address,
    ...(client.port === 0 ? {} : { clientPort: client.port }),
    protocol: REDIS_REQUESTS,
    operation: names.command(key.operation),
    ...(status === undefined ? {} : { status }),
    ...(key.error === '' ? {} : { broken: key.error }),
    context: sample.context,
    traceId: sample.traceId,
    spanId: sample.spanId,
    parent: sample.parent,
    reason: sample.reason,
    detail: { ...(database === undefined ? {} : { database }) },
  };
}
