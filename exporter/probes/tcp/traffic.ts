// Which TCP metrics are the traffic of an edge. Data only.
import { metricDefinition } from '../../telemetry/catalogue.ts';
import type { TransportTraffic } from '../../telemetry/traffic.ts';

export const TCP_TRAFFIC: TransportTraffic = {
  name: 'tcp',
  sent: metricDefinition('knp.tcp.sent_bytes'),
  received: metricDefinition('knp.tcp.received_bytes'),
  opened: metricDefinition('knp.tcp.connections_opened'),
  open: metricDefinition('knp.tcp.connections'),
  failures: metricDefinition('knp.tcp.connect_failures'),
  retransmitted: metricDefinition('knp.tcp.retransmitted_segments'),
  roundTrip: metricDefinition('knp.tcp.rtt'),
};
