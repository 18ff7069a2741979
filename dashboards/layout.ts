// A dashboard from sections of panels: grid, variables, links between the dashboards, annotations. Called by the
// dashboards of this folder.
import {
  AnnotationQueryBuilder,
  CustomVariableBuilder,
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  type Panel,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard';
import type { MetricNameOf } from '../exporter/telemetry/catalogue.ts';
import { buildPanel, DATASOURCE, type PanelSpec } from './panels.ts';
import type { Matchers } from './promql/matchers.ts';
import { variable } from './promql/matchers.ts';
import type { LabelOf } from './promql/names.ts';
import { labelValues } from './promql/select.ts';
import { firingAlerts } from './queries/agent.ts';

/** Uids of the dashboards: links and bookmarks point at them, so they never change. */
export const UID = {
  overview: 'knp-overview',
  map: 'knp-service-map',
  workload: 'knp-workload',
  tcp: 'knp-tcp-health',
  agent: 'knp-agent',
} as const;
const TAG = 'kubenetprobe';
const GRID_WIDTH = 24;

export interface Section {
  /** Id of the row, as stable as a panel's. */
  readonly id: number;
  readonly title: string;
  readonly panels: readonly PanelSpec[];
}

export interface DashboardSpec {
  readonly uid: (typeof UID)[keyof typeof UID];
  readonly title: string;
  readonly description: string;
  readonly variables: readonly VariableName[];
  readonly sections: readonly Section[];
}

const DEFAULT_SIZE: Readonly<Record<PanelSpec['type'], readonly [width: number, height: number]>> = {
  timeseries: [8, 8],
  stat: [4, 4],
  table: [12, 9],
  heatmap: [8, 8],
  nodeGraph: [24, 18],
};

/** Panels from left to right, a new line when one does not fit: they cannot overlap. */
function place(sections: readonly Section[]): Panel[] {
  const panels: Panel[] = [];
  let y = 0;
  for (const section of sections) {
    const row = new RowBuilder(section.title).id(section.id).gridPos({ x: 0, y, w: GRID_WIDTH, h: 1 });
    panels.push(row.build() as unknown as Panel);
    y += 1;
    let x = 0;
    let lineHeight = 0;
    for (const spec of section.panels) {
      const [width, height] = DEFAULT_SIZE[spec.type];
      const [w, h] = [spec.width ?? width, spec.height ?? height];
      if (x + w > GRID_WIDTH) {
        x = 0;
        y += lineHeight;
        lineHeight = 0;
      }
      panels.push(buildPanel(spec, { x, y, w, h }));
      x += w;
      lineHeight = Math.max(lineHeight, h);
    }
    y += lineHeight;
  }
  return panels;
}

const every = { selected: true, text: ['All'], value: ['$__all'] };

function fromLabel<N extends MetricNameOf<'counter' | 'gauge' | 'updowncounter'>>(
  name: string,
  title: string,
  description: string,
  [metric, label, matchers]: readonly [N, LabelOf<N>, Matchers<N>],
): QueryVariableBuilder {
  return (
    new QueryVariableBuilder(name)
      .label(title)
      .description(description)
      .datasource(DATASOURCE)
      .query({ qryType: 1, query: labelValues(metric, label, matchers), refId: `variable_${name}` })
      .refresh(VariableRefresh.OnTimeRangeChanged)
      .sort(VariableSort.AlphabeticalAsc)
      .multi(true)
      .includeAll(true)
      // Also what has no such label, as namespaces outside Kubernetes.
      .allValue('.*')
      .current(every)
  );
}

const VARIABLES = {
  cluster: () =>
    fromLabel('cluster', 'Cluster', 'External label `cluster` of your Prometheus, where it has one.', [
      'knp.build.info',
      'cluster',
      {},
    ]),
  namespace: () =>
    fromLabel('namespace', 'Namespace', 'Namespace of the workload; empty outside Kubernetes.', [
      'knp.tcp.connections_opened',
      'server_namespace',
      { cluster: variable('cluster') },
    ]),
  workload: () =>
    fromLabel('workload', 'Workload', 'Workload, systemd unit, container or process.', [
      'knp.tcp.connections_opened',
      'server_workload',
      { cluster: variable('cluster'), server_namespace: variable('namespace') },
    ]),
  instance: () =>
    fromLabel('instance', 'Agent', 'One agent per node.', [
      'knp.build.info',
      'instance',
      { cluster: variable('cluster') },
    ]),
  reporter: () =>
    new CustomVariableBuilder('reporter')
      .label('Reporter')
      .description('Which side measured it: a connection between two observed ends is counted by both.')
      .values('server,client')
      .current({ selected: true, text: 'server', value: 'server' }),
} as const;
type VariableName = keyof typeof VARIABLES;

const links = () => [
  new DashboardLinkBuilder('KubeNetProbe')
    .type(DashboardLinkType.Dashboards)
    .tags([TAG])
    .asDropdown(false)
    .includeVars(true)
    .keepTime(true),
];

const alertAnnotation = () =>
  new AnnotationQueryBuilder()
    .name('Alerts')
    .datasource(DATASOURCE)
    .enable(true)
    .iconColor('red')
    .expr(firingAlerts().promql)
    .titleFormat('{{alertname}}')
    .textFormat('{{server_namespace}}/{{server_workload}} {{instance}}')
    .tagKeys('severity')
    .step('30s');

/** Grafana's JSON model of a dashboard. */
export function buildDashboard(spec: DashboardSpec): Dashboard {
  const builder = new DashboardBuilder(spec.title)
    .uid(spec.uid)
    .description(spec.description)
    .tags([TAG])
    .editable()
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: 'now-1h', to: 'now' })
    .timezone('browser')
    .refresh('30s')
    .links(links())
    .annotation(alertAnnotation())
    .withVariable(
      new DatasourceVariableBuilder('datasource')
        .label('Data source')
        .description('Prometheus, or what speaks its API.')
        .type('prometheus'),
    );
  for (const name of spec.variables) builder.withVariable(VARIABLES[name]());
  return { ...builder.build(), panels: place(spec.sections) };
}

/** Where a table's cell leads: the dashboard of that workload, with everything else as it is. */
export const workloadLink = (
  side: 'server' | 'client',
  fields: { namespace: string; workload: string },
): { title: string; url: string } => ({
  title: `Open the ${side}`,
  url: `/d/${UID.workload}?\${__url_time_range}&\${datasource:queryparam}&\${cluster:queryparam}&var-namespace=\${__data.fields["${fields.namespace}"]}&var-workload=\${__data.fields["${fields.workload}"]}`,
});
