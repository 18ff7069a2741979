// Which TCP metrics are the traffic of an edge. Data only.
import { metricIn } from '../../telemetry/requests/protocol.ts';
import type { TransportTraffic } from '../../telemetry/traffic.ts';
import { TCP_METRICS } from './metrics.ts';

export const TCP_TRAFFIC: TransportTraffic = {
  name: 'tcp',
  sent: metricIn(TCP_METRICS, 'knp.tcp.sent_bytes'),
  received: metricIn(TCP_METRICS, 'knp.tcp.received_bytes'),
  opened: metricIn(TCP_METRICS, 'knp.tcp.connections_opened'),
  open: metricIn(TCP_METRICS, 'knp.tcp.connections'),
  failures: metricIn(TCP_METRICS, 'knp.tcp.connect_failures'),
  retransmitted: metricIn(TCP_METRICS, 'knp.tcp.retransmitted_segments'),
  roundTrip: metricIn(TCP_METRICS, 'knp.tcp.rtt'),
};
