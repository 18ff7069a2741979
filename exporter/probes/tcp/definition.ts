// The TCP probe as data; see probes/probe.ts.
import type { ProbeDefinition } from '../probe.ts';
import { TCP_METRICS } from './metrics.ts';
import { TCP_SETTINGS } from './settings.ts';
import { TCP_TRAFFIC } from './traffic.ts';

export const tcp: ProbeDefinition<'tcp', typeof TCP_SETTINGS, typeof TCP_METRICS> = {
  name: 'tcp',
  title: 'TCP',
  needs: [],
  objects: [],
  core: ['tcp_totals'],
  series: 'expire',
  settings: TCP_SETTINGS,
  metrics: TCP_METRICS,
  traffic: [TCP_TRAFFIC],
  load: () => import('./index.ts'),
};
