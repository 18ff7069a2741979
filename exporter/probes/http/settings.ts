// Settings of the HTTP probe, `probes.http`. Data only: part of the configuration's schema.
import * as z from 'zod';
import {
  about,
  bounds,
  enabled,
  integer,
  label,
  oneOf,
  probeDetail,
  routePattern,
  sampling,
  section,
} from '../../config/values.ts';

const routes = section('How paths become the values of `http_route`.', {
  patterns: z
    .array(
      z.strictObject({
        pattern: routePattern({ description: 'The route as it appears in `http_route`.' }),
        service: label({ description: 'Only for this server workload; left out, for all.' }).optional(),
      }),
    )
    .max(1024)
    .default([])
    .meta(
      about({
        description: 'Known routes; they win over the learnt ones, and the first that matches wins.',
        allowed: 'a list of at most 1024 mappings {pattern, service?}',
        examples: [[{ pattern: '/users/{id}/orders' }, { pattern: '/static/*', service: 'web' }]],
      }),
    ),
  max_routes: integer(100, 1, 10_000, {
    description: 'Learnt routes of one server workload; what comes later counts as `/*`.',
  }),
  max_paths: integer(32_768, 64, 1_048_576, {
    description: 'Distinct paths whose route is remembered in the kernel; the least recently used give way.',
  }),
});

export const HTTP_SETTINGS = section(
  'HTTP/1: request rate, errors, duration and sizes, client and server side.',
  {
    enabled: enabled(true),
    detail: probeDetail(),
    provider: oneOf(['auto', 'fentry', 'tracepoint', 'kprobe'], 'auto', {
      description: 'Which kernel hooks see the payload; `auto` takes the first that loads.',
    }),
    routes,
    sampling: sampling('status 5xx, or no answer'),
    duration_buckets_seconds: bounds(
      [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
      {
        description:
          'Bucket bounds of the duration histograms in seconds; the default is the one that the semantic conventions advise.',
      },
    ),
    idle_seconds: integer(60, 1, 86_400, {
      description: 'A request without any byte for this many seconds counts as unanswered.',
    }),
  },
);
