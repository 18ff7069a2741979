// Alerts on what the users of a service notice. Called by generate.ts.
import { above, and, multiply, scalarText, unless, type Vector } from '../dashboards/promql/expression.ts';
import type { Duration } from '../dashboards/promql/names.ts';
import type { Recordings, Service } from './recording.ts';
import { alert, type Rule } from './rule.ts';
import type { Settings } from './settings.ts';

const FIRST_LOOK =
  'The Workload dashboard shows which operations and clients; `kubenetprobe trace --errors` on its node shows single requests.';

function burn(
  recordings: Recordings,
  settings: Settings,
  [short, long]: readonly [Duration, Duration],
  name: 'error_ratio_fast' | 'error_ratio_slow',
): Vector<Service> {
  const bound = settings.thresholds[name];
  const ratio = (window: Duration): Vector<Service> => {
    const recording = recordings.errorRatio.get(window);
    if (recording === undefined) throw new Error(`no error ratio over ${window}`);
    return recording.read();
  };
  return and(
    and(above(ratio(short), bound), above(ratio(long), bound)),
    above(recordings.requestRate.read(), settings.thresholds.request_rate),
  );
}

export function serviceAlerts(settings: Settings, recordings: Recordings): Rule[] {
  const { thresholds, windows } = settings;
  const busy = above(recordings.requestRate.read(), thresholds.request_rate);
  const before = recordings.requestRateBefore.read({ offset: windows.trafficAgo });
  const [fast, slow] = [windows.fast, windows.slow];
  return [
    alert('KnpErrorBudgetBurnFast', settings, {
      severity: 'critical',
      component: 'service',
      expr: burn(recordings, settings, fast, 'error_ratio_fast'),
      summary: (t) => `${t.workload('server')}: ${t.percent} of ${t.label('protocol')} requests fail`,
      description: () =>
        `More than ${scalarText(thresholds.error_ratio_fast)} of the requests failed over ${fast[0]} and over ${fast[1]}. At this pace a month's error budget is gone in two days. ${FIRST_LOOK}`,
    }),
    alert('KnpErrorBudgetBurnSlow', settings, {
      severity: 'warning',
      component: 'service',
      expr: burn(recordings, settings, slow, 'error_ratio_slow'),
      summary: (t) =>
        `${t.workload('server')}: ${t.percent} of ${t.label('protocol')} requests fail, for hours`,
      description: () =>
        `More than ${scalarText(thresholds.error_ratio_slow)} of the requests failed over ${slow[0]} and over ${slow[1]}. At this pace a month's error budget is gone in five days. ${FIRST_LOOK}`,
    }),
    alert('KnpLatencyHigh', settings, {
      severity: 'warning',
      component: 'service',
      expr: and(above(recordings.latency.read(), thresholds.latency_p95_seconds), busy),
      summary: (t) =>
        `${t.workload('server')}: p95 latency of ${t.label('protocol')} requests is ${t.duration}`,
      description: () =>
        `One request in twenty takes longer than that; the bound is ${scalarText(thresholds.latency_p95_seconds)} s. Compare the latency of what it calls (Workload dashboard, outbound) before looking into the workload itself.`,
    }),
    alert('KnpTrafficGone', settings, {
      severity: 'warning',
      component: 'service',
      expr: unless(
        above(before, thresholds.traffic_rate_before),
        above(recordings.requestRate.read(), multiply(before, thresholds.traffic_share_left)),
      ),
      summary: (t) =>
        `${t.workload('server')}: no traffic, ${t.value} ${t.label('protocol')} requests/s before`,
      description: () =>
        `Less than ${scalarText(thresholds.traffic_share_left)} of the requests of ${windows.trafficAgo} ago arrive. Either its clients lost the way to it, or it was removed on purpose. Look at failed connects to it, then at its clients.`,
    }),
    alert('KnpNoReadyBackend', settings, {
      severity: 'critical',
      component: 'service',
      expr: unless(
        above(recordings.connectFailures.read(), thresholds.connect_failure_rate),
        above(recordings.opened.read(), 0),
      ),
      summary: (t) => `${t.workload('server')} port ${t.label('server_port')}: nobody answers`,
      description: (t) =>
        `All attempts to connect failed over ${windows.rate}: ${t.value} per second. Nothing listens there, or a Service has no ready endpoint: \`kubectl get endpointslices\`, \`ss -ltn\` on the server.`,
    }),
  ];
}
