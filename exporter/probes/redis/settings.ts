// Settings of the Redis probe, `probes.redis`. Data only: part of the configuration's schema.
import { bounds, enabled, integer, probeDetail, sampling, section } from '../../config/values.ts';

export const REDIS_SETTINGS = section(
  'Redis: rate, errors and duration of commands, client and server side, with RESP2 and RESP3.',
  {
    enabled: enabled(true),
    detail: probeDetail(),
    sampling: sampling('answered by an error, or not at all'),
    duration_buckets_seconds: bounds([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10], {
      description:
        'Bucket bounds of the duration histograms in seconds; the default is the one that the semantic conventions advise.',
    }),
    idle_seconds: integer(60, 1, 86_400, {
      description:
        'A command without any byte on its connection for this many seconds counts as unanswered; commands that wait for others at the server (`BLPOP`, ...) wait on.',
    }),
  },
);
