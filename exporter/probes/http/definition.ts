// The HTTP probe as data; see probes/probe.ts.
import type { ProbeDefinition } from '../probe.ts';
import { HTTP_ATTRIBUTES, HTTP_METRICS, TIMED } from './metrics.ts';
import { HTTP_REQUESTS } from './requests.ts';
import { HTTP_SETTINGS } from './settings.ts';

export const http: ProbeDefinition<
  'http',
  typeof HTTP_SETTINGS,
  typeof HTTP_METRICS,
  typeof HTTP_ATTRIBUTES
> = {
  name: 'http',
  title: 'HTTP',
  needs: [],
  objects: ['stream', 'http1'],
  series: 'expire',
  settings: HTTP_SETTINGS,
  metrics: HTTP_METRICS,
  attributes: HTTP_ATTRIBUTES,
  requests: [HTTP_REQUESTS],
  buckets: ({ duration_buckets_seconds: bounds }) =>
    Object.fromEntries(TIMED.map((metric) => [metric, bounds])),
  stream: ({ provider, routes }) => ({ provider, maxEntries: { request_names: routes.max_paths } }),
  load: () => import('./index.ts'),
};
