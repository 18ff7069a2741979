// Panels as the dashboards describe them, and how they become Grafana's JSON: the same legend, tooltip, colours and
// data source everywhere. Called by the dashboards of this folder through layout.ts.
import type { Builder, Dataquery } from '@grafana/grafana-foundation-sdk/cog';
import {
  BigValueColorMode,
  BigValueGraphMode,
  type DataSourceRef,
  GraphGradientMode,
  LegendDisplayMode,
  LegendPlacement,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  type DataTransformerConfig,
  type DynamicConfigValue,
  type GridPos,
  type Panel,
  type Threshold,
  ThresholdsConfigBuilder,
  ThresholdsMode,
} from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as nodegraph from '@grafana/grafana-foundation-sdk/nodegraph';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';

/** Units of Grafana that the panels use. */
export type Unit =
  | 'reqps'
  | 'percentunit'
  | 's'
  | 'Bps'
  | 'bytes'
  | 'short'
  | 'cps'
  | 'none'
  | 'cores'
  | 'dateTimeAsIso';
const GRAFANA_UNIT: Readonly<Record<Unit, string>> = {
  reqps: 'reqps',
  percentunit: 'percentunit',
  s: 's',
  Bps: 'Bps',
  bytes: 'bytes',
  short: 'short',
  cps: 'cps',
  none: 'none',
  cores: 'suffix: cores',
  dateTimeAsIso: 'dateTimeAsIso',
};

/** One query of a panel. `refId` names it where a transformation or an override refers to it. */
export interface Target {
  readonly query: { readonly promql: string };
  readonly legend?: string;
  readonly refId?: string;
  /** Show exemplars, which lead to traces. */
  readonly exemplar?: boolean;
}

/** From this value on, this colour. */
export interface Step {
  readonly from: number;
  readonly color: 'green' | 'yellow' | 'orange' | 'red';
}

interface Common {
  /** Stable within the dashboard: links and annotations refer to it. Never given to another panel. */
  readonly id: number;
  readonly title: string;
  readonly description: string;
  readonly unit: Unit;
  readonly width?: number;
  readonly height?: number;
  readonly steps?: readonly Step[];
}

export interface TimeSeriesPanel extends Common {
  readonly type: 'timeseries';
  readonly targets: readonly Target[];
  readonly stacked?: boolean;
  readonly max?: number;
}
export interface StatPanel extends Common {
  readonly type: 'stat';
  readonly targets: readonly Target[];
}
/** A column of a table: a label, or the value of one of its queries. */
export interface Column {
  readonly title: string;
  readonly unit?: Unit;
  /** Where a click on the cell leads. */
  readonly link?: { readonly title: string; readonly url: string };
  readonly steps?: readonly Step[];
}
export interface TablePanel extends Common {
  readonly type: 'table';
  readonly targets: readonly (Target & { readonly refId: string })[];
  /** Label → column, in order. */
  readonly labels: Readonly<Record<string, Column>>;
  /** refId → column, in order. */
  readonly values: Readonly<Record<string, Column>>;
  /** Title of the column to sort by, largest first. */
  readonly sortBy?: string;
}
export interface HeatmapPanel extends Common {
  readonly type: 'heatmap';
  readonly targets: readonly Target[];
}
export interface NodeGraphPanel extends Common {
  readonly type: 'nodeGraph';
  /** Field of a node or edge that the query gives → the query. */
  readonly nodes: Readonly<Record<string, Target>>;
  readonly edges: Readonly<Record<string, Target>>;
  readonly edgeUnits: { readonly main: Unit; readonly secondary: Unit };
  readonly nodeUnits: { readonly main: Unit; readonly secondary: Unit };
}
export type PanelSpec = TimeSeriesPanel | StatPanel | TablePanel | HeatmapPanel | NodeGraphPanel;

export const DATASOURCE: DataSourceRef = { type: 'prometheus', uid: `\${datasource}` };

const thresholds = (steps: readonly Step[]): ThresholdsConfigBuilder => {
  const all: Threshold[] = [
    { value: null, color: 'green' },
    ...steps.map(({ from, color }) => ({ value: from, color })),
  ];
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(all);
};

function query(target: Target, kind: 'range' | 'instant' | 'heatmap', index: number): Builder<Dataquery> {
  const builder = new DataqueryBuilder()
    .datasource(DATASOURCE)
    .refId(target.refId ?? String.fromCharCode(65 + index))
    .expr(target.query.promql);
  if (target.legend !== undefined) builder.legendFormat(target.legend);
  if (target.exemplar) builder.exemplar(true);
  if (kind === 'instant') return builder.instant().format(PromQueryFormat.Table);
  if (kind === 'heatmap') return builder.range().format(PromQueryFormat.Heatmap);
  return builder.range();
}

type AnyBuilder =
  | timeseries.PanelBuilder
  | stat.PanelBuilder
  | table.PanelBuilder
  | heatmap.PanelBuilder
  | nodegraph.PanelBuilder;

function common<B extends AnyBuilder>(builder: B, spec: Common, at: GridPos): B {
  builder
    .id(spec.id)
    .title(spec.title)
    .description(spec.description)
    .datasource(DATASOURCE)
    .unit(GRAFANA_UNIT[spec.unit])
    .gridPos(at);
  if (spec.steps !== undefined) builder.thresholds(thresholds(spec.steps));
  return builder;
}

function timeSeries(spec: TimeSeriesPanel, at: GridPos): Panel {
  const builder = common(new timeseries.PanelBuilder(), spec, at)
    .targets(spec.targets.map((target, i) => query(target, 'range', i)))
    .min(0)
    .lineWidth(1)
    .fillOpacity(spec.stacked ? 30 : 8)
    .gradientMode(GraphGradientMode.None)
    .showPoints(VisibilityMode.Never)
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .showLegend(true)
        .calcs([]),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
  if (spec.stacked) builder.stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group('A'));
  if (spec.max !== undefined) builder.max(spec.max);
  return builder.build();
}

function single(spec: StatPanel, at: GridPos): Panel {
  return common(new stat.PanelBuilder(), spec, at)
    .targets(spec.targets.map((target, i) => query(target, 'range', i)))
    .graphMode(BigValueGraphMode.Area)
    .colorMode(spec.steps === undefined ? BigValueColorMode.None : BigValueColorMode.Value)
    .build();
}

function columnProperties({ unit, link, steps }: Column): DynamicConfigValue[] {
  return [
    ...(unit === undefined ? [] : [{ id: 'unit', value: GRAFANA_UNIT[unit] }]),
    ...(link === undefined ? [] : [{ id: 'links', value: [link] }]),
    ...(steps === undefined
      ? []
      : [
          { id: 'thresholds', value: thresholds(steps).build() },
          { id: 'custom.cellOptions', value: { type: 'color-text' } },
        ]),
  ];
}

/** One instant query gives `Value`, several give `Value #refId` once they are merged. */
function rows(spec: TablePanel, at: GridPos): Panel {
  const valueField = (refId: string): string => (spec.targets.length === 1 ? 'Value' : `Value #${refId}`);
  const columns = [
    ...Object.entries(spec.labels),
    ...Object.entries(spec.values).map(([refId, column]) => [valueField(refId), column] as const),
  ];
  const hidden = Object.keys(spec.values).length === 0 ? { Time: true, Value: true } : { Time: true };
  const organize: DataTransformerConfig = {
    id: 'organize',
    options: {
      excludeByName: hidden,
      indexByName: Object.fromEntries(columns.map(([field], i) => [field, i])),
      renameByName: Object.fromEntries(columns.map(([field, { title }]) => [field, title])),
    },
  };
  const builder = common(new table.PanelBuilder(), spec, at)
    .targets(spec.targets.map((target, i) => query(target, 'instant', i)))
    .filterable(true)
    .transformations([...(spec.targets.length > 1 ? [{ id: 'merge', options: {} }] : []), organize]);
  if (spec.sortBy !== undefined)
    builder.sortBy([{ build: () => ({ displayName: spec.sortBy as string, desc: true }) }]);
  for (const [, column] of columns) {
    const properties = columnProperties(column);
    if (properties.length > 0) builder.overrideByName(column.title, properties);
  }
  return builder.build();
}

function heat(spec: HeatmapPanel, at: GridPos): Panel {
  return common(new heatmap.PanelBuilder(), spec, at)
    .targets(spec.targets.map((target, i) => query({ legend: '{{le}}', ...target }, 'heatmap', i)))
    .calculate(false)
    .yAxis(new heatmap.YAxisConfigBuilder().unit(GRAFANA_UNIT[spec.unit]))
    .build();
}

/** Frames are told apart by their fields: one with `source` holds edges. Each kind is merged by itself. */
function nodeGraph(spec: NodeGraphPanel, at: GridPos): Panel {
  const named = (prefix: string, targets: Readonly<Record<string, Target>>): [string, string, Target][] =>
    Object.entries(targets).map(([field, target]) => [field, `${prefix}_${field}`, target]);
  const all = [...named('nodes', spec.nodes), ...named('edges', spec.edges)];
  const merge = (prefix: string): DataTransformerConfig => ({
    id: 'merge',
    filter: { id: 'byRefId', options: `/^${prefix}_/` },
    options: {},
  });
  const alone = (prefix: string): boolean => all.filter(([, refId]) => refId.startsWith(prefix)).length === 1;
  const renames = all.map(([field, refId]) => [
    alone(refId.replace(/_.*/, '_')) ? 'Value' : `Value #${refId}`,
    field,
  ]);
  const unitsOf = (u: { main: Unit; secondary: Unit }): [string, string] => [
    GRAFANA_UNIT[u.main],
    GRAFANA_UNIT[u.secondary],
  ];
  const [nodeMain, nodeSecond] = unitsOf(spec.nodeUnits);
  const [edgeMain, edgeSecond] = unitsOf(spec.edgeUnits);
  return common(new nodegraph.PanelBuilder(), spec, at)
    .targets(all.map(([, refId, target], i) => query({ ...target, refId }, 'instant', i)))
    .nodes(new nodegraph.NodeOptionsBuilder().mainStatUnit(nodeMain).secondaryStatUnit(nodeSecond))
    .edges(new nodegraph.EdgeOptionsBuilder().mainStatUnit(edgeMain).secondaryStatUnit(edgeSecond))
    .transformations([
      merge('nodes'),
      merge('edges'),
      {
        id: 'organize',
        options: {
          excludeByName: { Time: true },
          indexByName: {},
          renameByName: Object.fromEntries(renames),
        },
      },
    ])
    .build();
}

/** The panel at its place in the grid. */
export function buildPanel(spec: PanelSpec, at: GridPos): Panel {
  switch (spec.type) {
    case 'timeseries':
      return timeSeries(spec, at);
    case 'stat':
      return single(spec, at);
    case 'table':
      return rows(spec, at);
    case 'heatmap':
      return heat(spec, at);
    case 'nodeGraph':
      return nodeGraph(spec, at);
  }
}
