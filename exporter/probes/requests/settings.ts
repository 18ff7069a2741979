// Settings that every probe of a protocol has. Data only: part of the configuration's schema.
import { flag, integer, number, section } from '../../config/values.ts';

/** Which requests become spans. `errors`: what counts as failed, in the words of the protocol. */
export const sampling = (errors: string) =>
  section('Which requests become spans. Decided in the kernel; metrics count every request.', {
    ratio: number(0.01, 0, 1, {
      description: 'Share of ordinary requests, 0 to 1. A sampled incoming `traceparent` is always honoured.',
    }),
    slow_millis: integer(1000, 0, 3_600_000, {
      description: 'Requests that took at least this many milliseconds are sampled; 0 turns this off.',
    }),
    errors: flag(true, { description: `Sample requests that failed (${errors}).` }),
    spans_per_second: integer(100, 1, 100_000, {
      description: 'Most spans per second on this node; what is over it is dropped and counted.',
    }),
  });
