// The source of the Redis probe: the series that its commands feed. index.ts builds it.
import { createServiceGraph } from '../../telemetry/service_graph.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import type { EdgeLabelOptions } from '../edges.ts';
import { RequestSource } from '../requests/source.ts';
import type { ProtocolRequests } from '../requests/stream.ts';
import { DURATIONS } from './metrics.ts';
import { REDIS_REQUESTS } from './requests.ts';
import { commandAttributes, type RedisNames, RedisSeries } from './series.ts';

export interface RedisSourceOptions {
  readonly requests: ProtocolRequests;
  readonly names: RedisNames;
  readonly store: SeriesStore;
  readonly labels: EdgeLabelOptions;
}

export function createRedisSource(options: RedisSourceOptions): RequestSource<RedisSeries> {
  const { store, requests, names, labels } = options;
  const graph = createServiceGraph(store, REDIS_REQUESTS, store.bounds(DURATIONS.server));
  return new RequestSource({
    name: 'redis',
    requests,
    series: (edge, key) => new RedisSeries(store, graph, commandAttributes(edge, key, { labels, names })),
  });
}
