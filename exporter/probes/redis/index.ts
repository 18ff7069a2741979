// The Redis probe: starts the stream layer (exporter/probes/requests/stream.ts) unless another protocol has, puts Redis on
// it, and gives the collector its source.
import type { z } from 'zod';
import type { LoadedProbe } from '../../kernel/loader.ts';
import { createLost } from '../../telemetry/lost.ts';
import { addExemplar } from '../../telemetry/spans/exemplars.ts';
import type { Probe, ProbeContext, RunningProbe } from '../probe.ts';
import type { RequestSource } from '../requests/source.ts';
import { type RequestStream, sharedStream } from '../requests/stream.ts';
import { DURATIONS } from './metrics.ts';
import { spanRecord } from './samples.ts';
import { RedisNames, type RedisSeries } from './series.ts';
import type { REDIS_SETTINGS } from './settings.ts';
import { createRedisSource } from './source.ts';

export const probe: Probe<typeof REDIS_SETTINGS> = { start };

type RedisConfig = z.output<typeof REDIS_SETTINGS>;

export interface RedisProbeOptions extends Pick<ProbeContext, 'store'> {
  readonly config: Pick<ProbeContext['config'], 'detail'> & {
    readonly identity: Pick<ProbeContext['config']['identity'], 'zones'>;
  };
  readonly settings: RedisConfig;
  /** Processors that share counters in the kernel; more spread the load over more memory. */
  readonly shards?: number;
}

/** Loads Redis onto the stream layer; commands are counted from here on. */
export function addRedis(
  { store, config, settings, shards }: RedisProbeOptions,
  stream: RequestStream,
): { readonly source: RequestSource<RedisSeries>; readonly redis: LoadedProbe } {
  const { sampling, idle_seconds } = settings;
  const lost = createLost(store);
  const requests = stream.add({
    name: 'redis',
    rodata: {
      stream_idle_ns: BigInt(idle_seconds) * 1_000_000_000n,
      request_sample_share: Math.min(0xffff_ffff, Math.round(sampling.ratio * 2 ** 32)),
      request_sample_errors: sampling.errors,
      request_sample_slow_ns: BigInt(Math.round(sampling.slow_millis * 1e6)),
      request_spans_per_second: sampling.spans_per_second,
    },
    bounds: store.bounds(DURATIONS.server),
    shards,
    record: (sample) => spanRecord(sample, names),
    exemplar: ({ key }, record, identity) => {
      const histogram = source.seriesOf(key, '')?.duration; // commands have no learnt names
      if (histogram !== undefined) addExemplar(histogram, record, identity);
    },
    unnamed: () => lost('redis_span_unnamed'),
  });
  const names = new RedisNames(requests.loaded.btf);
  const source: RequestSource<RedisSeries> = createRedisSource({
    requests,
    names,
    store,
    labels: { detail: settings.detail ?? config.detail, zones: config.identity.zones },
  });
  return { source, redis: requests.loaded };
}

function start(context: ProbeContext, settings: RedisConfig): RunningProbe {
  const { config, store } = context;
  const { source, redis } = addRedis({ store, config, settings }, sharedStream(context));
  return {
    sources: [source],
    objects: [redis],
    problems: () => [],
    lost: () => source.lost(),
    close: () => redis.close(),
  };
}
