// The span record of a sampled HTTP request. The reader of samples (exporter/probes/requests/samples.ts) calls it.
import type { SpanRecord } from '../../telemetry/spans/types.ts';
import type { Sample } from '../requests/samples.ts';
import { errorType, type HttpNames } from './series.ts';

/** Puts a sample in the words of HTTP. */
export function spanRecord(sample: Sample, names: HttpNames): SpanRecord {
  const { key, name, edge, kind, client, server, firstByteNanos } = sample;
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
    protocol: 'http',
    protocolVersion: names.version(key.detail),
    scheme: 'http',
    method: names.method(key.operation),
    ...(name === '' ? {} : { route: name }),
    ...(key.status === 0 ? {} : { status: key.status }),
    errorType: errorType(kind, key),
    context: sample.context,
    traceId: sample.traceId,
    spanId: sample.spanId,
    parent: sample.parent,
    reason: sample.reason,
    requestBodySize: sample.requestBytes,
    responseBodySize: sample.responseBytes,
    ...(firstByteNanos === undefined ? {} : { timeToFirstByteNanos: firstByteNanos }),
  };
}
