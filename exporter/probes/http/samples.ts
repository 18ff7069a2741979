// The span record of a sampled HTTP request. The reader of samples (exporter/probes/requests/samples.ts) calls it.
import type { SpanRecord } from '../../telemetry/spans/types.ts';
import type { Sample } from '../requests/samples.ts';
import { HTTP_REQUESTS, type HttpDetail } from './requests.ts';
import type { HttpNames } from './series.ts';

/** Puts a sample in the words of HTTP. */
export function spanRecord(sample: Sample, names: HttpNames): SpanRecord<HttpDetail> {
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
    protocol: HTTP_REQUESTS,
    operation: names.method(key.operation),
    ...(name === '' ? {} : { target: name }),
    ...(key.status === 0 ? {} : { status: key.status }),
    ...(key.error === '' ? {} : { broken: key.error }),
    context: sample.context,
    traceId: sample.traceId,
    spanId: sample.spanId,
    parent: sample.parent,
    reason: sample.reason,
    requestBytes: sample.requestBytes,
    responseBytes: sample.responseBytes,
    detail: {
      version: names.version(key.detail),
      scheme: 'http',
      ...(firstByteNanos === undefined ? {} : { timeToFirstByteNanos: firstByteNanos }),
    },
  };
}
