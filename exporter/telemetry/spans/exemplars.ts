// Ties the duration histograms to the spans: a sampled request leaves its trace id in the bucket that counts it.
// Called by the probe that owns the histogram, with what the span sink returned.

import type { Exemplar, Histogram } from '../store.ts';
import type { SpanIdentity, SpanRecord } from './types.ts';

/** The exemplar of a request: its duration in seconds, at its end. */
export function requestExemplar(record: SpanRecord, identity: SpanIdentity): Exemplar {
  const nanos = record.endUnixNano - record.startUnixNano;
  return {
    value: nanos > 0n ? Number(nanos) / 1e9 : 0,
    traceId: identity.traceId,
    spanId: identity.spanId,
    timestampMillis: Number(record.endUnixNano / 1_000_000n),
  };
}

/**
 * Puts the request's trace id on the histogram series that counts it.
 * @param identity what `SpanSink.accept` returned; undefined (the span was not taken) leaves no exemplar, since it
 *   would point at a trace that no backend holds
 */
export function addExemplar(
  histogram: Pick<Histogram, 'exemplar'>,
  record: SpanRecord,
  identity: SpanIdentity | undefined,
): void {
  if (identity !== undefined) histogram.exemplar(requestExemplar(record, identity));
}
