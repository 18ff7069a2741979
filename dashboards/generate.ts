// Writes dashboards/generated: one JSON file per dashboard. A test checks for drift.
//   node dashboards/generate.ts
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { agentDashboard } from './agent.ts';
import { buildDashboard, type DashboardSpec } from './layout.ts';
import { overview } from './overview.ts';
import { ALL, type RequestProtocol } from './queries/requests.ts';
import { serviceMap } from './service_map.ts';
import { tcpHealth } from './tcp_health.ts';
import { workload } from './workload.ts';

export const GENERATED = join(import.meta.dirname, 'generated');

/** All dashboards, in the order of the menu. */
function specs(protocols: readonly RequestProtocol[]): DashboardSpec[] {
  return [overview(protocols), serviceMap, workload(protocols), tcpHealth, agentDashboard];
}

/** File name → Grafana's JSON model, with panels for these protocols. */
export function dashboards(protocols: readonly RequestProtocol[] = ALL): Map<string, Dashboard> {
  return new Map(specs(protocols).map((spec) => [`${spec.uid}.json`, buildDashboard(spec)]));
}

/** File name → content. */
export function dashboardFiles(): Map<string, string> {
  return new Map(
    [...dashboards()].map(([name, model]) => [name, `${JSON.stringify(model, undefined, 2)}\n`]),
  );
}

if (import.meta.main) {
  mkdirSync(GENERATED, { recursive: true });
  for (const [name, content] of dashboardFiles()) writeFileSync(join(GENERATED, name), content);
}
