// What the dashboards' tests read out of Grafana's JSON model.

import { dashboards } from '../../../dashboards/generate.ts';
import type { RequestProtocol } from '../../../exporter/telemetry/requests/protocol.ts';

export interface Grid {
  x: number;
  y: number;
  w: number;
  h: number;
}
export interface Query {
  refId: string;
  expr: string;
  legendFormat?: string;
  datasource?: { type?: string; uid?: string };
}
export interface PanelModel {
  id: number;
  type: string;
  title: string;
  description?: string;
  datasource?: { type?: string; uid?: string };
  gridPos: Grid;
  fieldConfig?: { defaults: { unit?: string } };
  targets?: Query[];
}
export interface DashboardModel {
  uid: string;
  title: string;
  description: string;
  panels: PanelModel[];
  templating: { list: { name: string; query?: unknown; description?: string; current?: unknown }[] };
  annotations: { list: { expr?: string }[] };
  links: { tags: string[] }[];
  tags: string[];
}

/** The dashboards as Grafana reads them. */
export const models = (protocols?: readonly RequestProtocol[]): DashboardModel[] =>
  [...dashboards(protocols).values()].map((each) => JSON.parse(JSON.stringify(each)) as DashboardModel);

export interface NamedQuery {
  /** Dashboard, panel and refId. */
  readonly where: string;
  readonly dashboard: string;
  readonly panel: PanelModel;
  readonly expr: string;
}

/** Every query of every panel. */
export const panelQueries = (from = models()): NamedQuery[] =>
  from.flatMap((dashboard) =>
    dashboard.panels.flatMap((panel) =>
      (panel.targets ?? []).map((target) => ({
        where: `${dashboard.uid} / ${panel.title} (${panel.id}${target.refId})`,
        dashboard: dashboard.uid,
        panel,
        expr: target.expr,
      })),
    ),
  );
