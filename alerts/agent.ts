// Alerts on the agent itself: a measurement that has holes must say so. Called by generate.ts.
import {
  above,
  absent,
  below,
  count,
  equals,
  min,
  or,
  scalarText,
  unless,
  type Vector,
} from '../dashboards/promql/expression.ts';
import { gauge } from '../dashboards/promql/select.ts';
import type { Recordings } from './recording.ts';
import { alert, type Rule, up } from './rule.ts';
import type { Settings } from './settings.ts';

export function agentAlerts(settings: Settings, recordings: Recordings): Rule[] {
  const { thresholds, windows } = settings;
  return [
    alert('KnpAgentLoss', settings, {
      severity: 'warning',
      component: 'agent',
      expr: above(recordings.lost.read(), thresholds.lost_rate),
      summary: (t) => `Agent ${t.label('instance')} loses ${t.value} items/s at stage ${t.label('stage')}`,
      description: () =>
        `What it reports is incomplete. The runbook says what the stage means and which limit to raise.`,
    }),
    alert('KnpCoverageLow', settings, {
      severity: 'warning',
      component: 'agent',
      expr: below(
        min(gauge('knp.agent.coverage_ratio', {}), ['cluster', 'instance']),
        thresholds.coverage_ratio,
      ),
      summary: (t) => `Agent ${t.label('instance')} accounts for ${t.percent} of its host's sockets`,
      description: () =>
        `Less than ${scalarText(thresholds.coverage_ratio)}: the rest is counted under \`other\` or not at all. Usually limits.edges or limits.sockets is too small for this host.`,
    }),
    alert('KnpProbeNotReady', settings, {
      severity: 'warning',
      component: 'agent',
      expr: equals(min(gauge('knp.probe.ready', {}), ['cluster', 'instance', 'probe']), 0),
      summary: (t) => `Agent ${t.label('instance')}: probe ${t.label('probe')} does not measure`,
      description: () =>
        `It is not attached, or was never read. \`kubenetprobe doctor\` on that host says why; so does the agent's log.`,
    }),
    alert('KnpMapNearlyFull', settings, {
      severity: 'warning',
      component: 'agent',
      expr: above(recordings.mapFill.read(), thresholds.map_fill_ratio),
      summary: (t) => `Agent ${t.label('instance')}: BPF map ${t.label('map')} is ${t.percent} full`,
      description: () =>
        `More than ${scalarText(thresholds.map_fill_ratio)}. When it is full, new entries fold into \`other\` and are counted as lost. Raise the limit that sizes it before that.`,
    }),
    alert('KnpAgentDown', settings, {
      severity: 'warning',
      component: 'agent',
      expr: equals(min(up(settings.job), ['cluster', 'instance']), 0),
      summary: (t) => `Agent ${t.label('instance')} cannot be scraped`,
      description: () =>
        `Its host is not observed. Is the pod or the process running, is the host up, does a network policy stand between?`,
    }),
    alert('KnpAgentAbsent', settings, {
      severity: 'critical',
      component: 'agent',
      expr: noAgent(settings),
      summary: () => 'No agent reports',
      description: () =>
        `Nothing is observed, so the other alerts of KubeNetProbe say nothing either. Is the DaemonSet there, and does Prometheus have a scrape job whose name matches ${settings.job}?`,
    }),
    alert('KnpAgentCostly', settings, {
      severity: 'warning',
      component: 'agent',
      expr: above(recordings.cores.read(), thresholds.agent_cores),
      summary: (t) => `Agent ${t.label('instance')} uses ${t.value} processors`,
      description: () =>
        `More than ${scalarText(thresholds.agent_cores)} over ${windows.rate}, its BPF programs included. The Agent dashboard shows which program or part; fewer names (detail: namespace) and a longer scrape interval cost less.`,
    }),
  ];
}

/** Clusters all of whose agents are down, or no target at all. */
function noAgent(settings: Settings): Vector<'cluster'> {
  const agents = up(settings.job);
  const down = unless(count(agents, ['cluster']), count(equals(agents, 1), ['cluster']));
  return or(down, absent(agents));
}
