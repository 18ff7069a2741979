// The span record of a sampled HTTP request. The reader of samples (exporter/probes/requests/samples.ts) calls it.
import type { SpanRecord } from '../../telemetry/spans/types.ts';
import { type Sample, spanFields } from '../requests/samples.ts';
import { HTTP_REQUESTS, type HttpDetail } from './requests.ts';
import type { HttpNames } from './series.ts';

/** Puts a sample in the words of HTTP. */
export function spanRecord(sample: Sample, names: HttpNames): SpanRecord<HttpDetail> {
  const { key, firstByteNanos } = sample;
  return {
    ...spanFields(sample),
    protocol: HTTP_REQUESTS,
    operation: names.method(key.operation),
    ...(key.status === 0 ? {} : { status: key.status }),
    detail: {
      version: names.version(key.detail),
      scheme: 'http',
      ...(firstByteNanos === undefined ? {} : { timeToFirstByteNanos: firstByteNanos }),
    },
  };
}
