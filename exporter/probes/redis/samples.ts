// The span record of a sampled command. The reader of samples (exporter/probes/requests/samples.ts) calls it.
import type { SpanRecord } from '../../telemetry/spans/types.ts';
import { type Sample, spanFields } from '../requests/samples.ts';
import { REDIS_REQUESTS, type RedisDetail } from './requests.ts';
import type { RedisNames } from './series.ts';

/** Puts a sample in the words of Redis. */
export function spanRecord(sample: Sample, names: RedisNames): SpanRecord<RedisDetail> {
  const { key } = sample;
  const status = names.status(key.status);
  const database = names.database(key.detail);
  return {
    ...spanFields(sample),
    protocol: REDIS_REQUESTS,
    operation: names.command(key.operation),
    ...(status === undefined ? {} : { status }),
    detail: { ...(database === undefined ? {} : { database }) },
  };
}
