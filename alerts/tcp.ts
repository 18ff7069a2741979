// Alerts on the network between the workloads. Called by generate.ts.
import { above, and, divide, scalarText, subtract } from '../dashboards/promql/expression.ts';
import type { Recordings } from './recording.ts';
import { alert, type Rule } from './rule.ts';
import type { Settings } from './settings.ts';

export function tcpAlerts(settings: Settings, recordings: Recordings): Rule[] {
  const { thresholds, windows } = settings;
  const rtt = recordings.rtt.read();
  const rttBefore = recordings.rtt.read({ offset: windows.rttAgo });
  return [
    alert('KnpConnectFailures', settings, {
      severity: 'warning',
      component: 'tcp',
      expr: and(
        above(recordings.connectFailureRatio.read(), thresholds.connect_failure_ratio),
        above(recordings.connectFailures.read(), thresholds.connect_failure_rate),
      ),
      summary: (t) =>
        `${t.workload('server')} port ${t.label('server_port')}: ${t.percent} of connection attempts fail`,
      description: () =>
        `More than ${scalarText(thresholds.connect_failure_ratio)} of the attempts failed over ${windows.rate}. The reason is on the TCP health dashboard: refused means that nobody listens, timed_out that packets are lost or filtered, unreachable and no_route that there is no way, prohibited that a rule forbids it, address_unavailable that the client has no port left, cancelled that the client gave up first.`,
    }),
    alert('KnpRetransmits', settings, {
      severity: 'warning',
      component: 'tcp',
      expr: and(
        above(recordings.retransmitsPerMegabyte.read(), thresholds.retransmits_per_megabyte),
        above(recordings.retransmits.read(), thresholds.retransmit_rate),
      ),
      summary: (t) =>
        `${t.workload('client')} → ${t.workload('server')}: ${t.value} segments retransmitted per megabyte`,
      description: () =>
        `More than ${scalarText(thresholds.retransmits_per_megabyte)}: packets are lost on the way. If other pairs of the same node have it too, look at its link (\`ethtool -S\`, \`ip -s link\`); if not, at the ends.`,
    }),
    alert('KnpListenDrops', settings, {
      severity: 'warning',
      component: 'tcp',
      expr: above(recordings.listenDrops.read(), thresholds.listen_drop_rate),
      summary: (t) =>
        `${t.workload('server')} port ${t.label('server_port')} drops ${t.value} connection requests/s`,
      description: () =>
        `Its accept queue is full: the process accepts too slowly, or its backlog (and net.core.somaxconn) is too small. Clients see connects that take a second or time out.`,
    }),
    alert('KnpReceiverLimited', settings, {
      severity: 'warning',
      component: 'tcp',
      expr: above(recordings.receiveWindow.read(), thresholds.receive_window_seconds),
      summary: (t) =>
        `${t.workload('client')} → ${t.workload('server')}: senders wait ${t.value} s per second for the receiver`,
      description: () =>
        `The receiver reads more slowly than data arrives; the network is not the cause. Which end receives: reporter="client" means that the client sends and the server reads too slowly, and the other way round.`,
    }),
    alert('KnpRttShift', settings, {
      severity: 'warning',
      component: 'tcp',
      expr: and(
        above(divide(rtt, rttBefore), thresholds.rtt_shift_factor),
        above(subtract(rtt, rttBefore), thresholds.rtt_shift_seconds),
      ),
      summary: (t) =>
        `${t.workload('client')} → ${t.workload('server')}: round-trip time is ${t.value} times that of ${windows.rttAgo} ago`,
      description: () =>
        `More than ${scalarText(thresholds.rtt_shift_factor)} times, over ${windows.rtt}. Typical causes: a workload moved to another zone, a changed route, a congested link.`,
    }),
  ];
}
