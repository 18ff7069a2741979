// The Redis probe as data; see probes/probe.ts.
import type { ProbeDefinition } from '../probe.ts';
import { DURATIONS, REDIS_ATTRIBUTES, REDIS_METRICS } from './metrics.ts';
import { REDIS_REQUESTS } from './requests.ts';
import { REDIS_SETTINGS } from './settings.ts';

export const redis: ProbeDefinition<
  'redis',
  typeof REDIS_SETTINGS,
  typeof REDIS_METRICS,
  typeof REDIS_ATTRIBUTES
> = {
  name: 'redis',
  title: 'Redis',
  needs: [],
  objects: ['stream', 'redis'],
  series: 'expire',
  settings: REDIS_SETTINGS,
  metrics: REDIS_METRICS,
  attributes: REDIS_ATTRIBUTES,
  requests: [REDIS_REQUESTS],
  buckets: ({ duration_buckets_seconds: bounds }) =>
    Object.fromEntries(Object.values(DURATIONS).map((metric) => [metric, bounds])),
  load: () => import('./index.ts'),
};
