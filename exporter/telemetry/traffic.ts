// What a transport's probe says about the traffic that it counts by edge. Described once, in the data-only module
// traffic.ts of the probe's folder; the commands `top` and `map` read that and know no transport by name.
import type { MetricDefinition } from './definition.ts';

/** Metrics by edge; what a transport has no notion of is left out. */
export interface TransportTraffic {
  /** Value of the label `transport`. */
  readonly name: string;
  /** Payload that the reporting side sent and received. */
  readonly sent: MetricDefinition;
  readonly received: MetricDefinition;
  /** Connections opened so far, and open now. */
  readonly opened?: MetricDefinition | undefined;
  readonly open?: MetricDefinition | undefined;
  /** Attempts to connect that failed; only the client's side knows. */
  readonly failures?: MetricDefinition | undefined;
  readonly retransmitted?: MetricDefinition | undefined;
  /** Histogram of round-trip times in seconds. */
  readonly roundTrip?: MetricDefinition | undefined;
}
