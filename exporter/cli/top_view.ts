// What `top` shows, as lines of text: columns, header and footer. No terminal, no input: see commands/top.ts.
import { type EdgeEnd, type EdgeRow, REQUEST_SORT_KEYS, type SortKey } from './edges.ts';
import { type Column, renderTable } from './table.ts';
import { duration, padded, printable, scaled } from './text.ts';

/** One picture. */
export interface TopState {
  /** Where the figures come from, for the header. */
  source: string;
  time: Date;
  intervalSeconds: number;
  by: SortKey;
  /** Sorted. */
  rows: readonly EdgeRow[];
  /** Things that the agent lost since it started, by stage. */
  lost: ReadonlyMap<string, number>;
  /** Why there are no newer figures. */
  problem?: string | undefined;
}

function endName({ workload, namespace }: EdgeEnd): string {
  return namespace === '' ? workload : `${namespace}/${workload}`;
}

/** A column of figures. */
function figure(
  title: string,
  width: number,
  priority: number,
  cell: (row: EdgeRow) => string,
): Column<EdgeRow> {
  return { title, align: 'right', width, priority, cell };
}

const seconds = (value: number | null) => (value === null ? '-' : duration(value));

const NAMES: readonly Column<EdgeRow>[] = [
  {
    title: 'CLIENT',
    align: 'left',
    width: 12,
    grows: true,
    priority: 0,
    cell: ({ client }) => endName(client),
  },
  {
    title: 'SERVER',
    align: 'left',
    width: 12,
    grows: true,
    priority: 0,
    cell: ({ server, service }) => (service === '' ? endName(server) : `${endName(server)} (${service})`),
  },
  figure('PORT', 5, 1, ({ port }) => port),
];

const TRAFFIC_COLUMNS: readonly Column<EdgeRow>[] = [
  ...NAMES,
  figure('→ B/s', 6, 2, (row) => scaled(row.request_bytes_per_second)),
  figure('← B/s', 6, 2, (row) => scaled(row.response_bytes_per_second)),
  figure('→ B', 6, 7, (row) => scaled(row.request_bytes)),
  figure('← B', 6, 7, (row) => scaled(row.response_bytes)),
  figure('OPEN', 5, 3, (row) => scaled(row.connections)),
  figure('NEW/s', 5, 4, (row) => scaled(row.connections_opened_per_second)),
  figure('NEW', 5, 8, (row) => scaled(row.connections_opened)),
  figure('FAILED', 6, 6, (row) => scaled(row.connect_failures)),
  figure('RETR/s', 6, 5, (row) => scaled(row.retransmitted_segments_per_second)),
  figure('RETR', 5, 8, (row) => scaled(row.retransmitted_segments)),
  figure('RTT', 6, 4, (row) => seconds(row.rtt_seconds)),
];

const REQUEST_COLUMNS: readonly Column<EdgeRow>[] = [
  ...NAMES,
  {
    title: 'PROTO',
    align: 'left',
    width: 6,
    priority: 2,
    cell: ({ protocols }) => protocols.map(({ protocol }) => protocol).join(','),
  },
  figure('REQ/s', 6, 2, (row) => scaled(row.requests_per_second)),
  figure('ERR/s', 6, 2, (row) => scaled(row.errors_per_second)),
  figure('P99', 6, 2, (row) => seconds(row.p99_seconds)),
  figure('REQ', 6, 3, (row) => scaled(row.requests)),
  figure('ERR', 6, 3, (row) => scaled(row.errors)),
  figure('→ B/s', 6, 5, (row) => scaled(row.request_bytes_per_second)),
  figure('← B/s', 6, 5, (row) => scaled(row.response_bytes_per_second)),
  figure('OPEN', 5, 6, (row) => scaled(row.connections)),
  figure('RTT', 6, 6, (row) => seconds(row.rtt_seconds)),
];

const columnsFor = (by: SortKey) => (REQUEST_SORT_KEYS.includes(by) ? REQUEST_COLUMNS : TRAFFIC_COLUMNS);

function headline(state: TopState): string {
  const { rows, by, intervalSeconds, source, time } = state;
  const sum = rows.reduce(
    (total, row) => total + row.request_bytes_per_second + row.response_bytes_per_second,
    0,
  );
  const open = rows.reduce((total, row) => total + row.connections, 0);
  const clock = time.toTimeString().slice(0, 8);
  return `${clock}  ${rows.length} edges by ${by}, ${scaled(sum)}B/s, ${scaled(open)} open  every ${intervalSeconds}s from ${source}`;
}

function warning({ lost, problem }: TopState): string {
  if (problem !== undefined) return `! ${problem}`;
  if (lost.size === 0) return '';
  const stages = [...lost].map(([stage, count]) => `${stage} ${scaled(count)}`).join(', ');
  return `! lost since the start: ${stages} (kubenetprobe doctor says more)`;
}

/** The table alone, for `--once`: one line per edge, as wide as asked. */
export function renderOnce(state: TopState, width: number): string {
  const note = warning(state);
  const lines = renderTable(columnsFor(state.by), state.rows, width);
  return `${[...lines, ...(note === '' ? [] : [printable(note)])].join('\n')}\n`;
}

/** The index of the table's header among the lines of {@link renderScreen}. */
export const TABLE_HEADER_LINE = 2;

/** A screen full: no line wider than `columns`, at most `rows` of them. */
export function renderScreen(state: TopState, columns: number, rows: number): string[] {
  const room = Math.max(0, rows - TABLE_HEADER_LINE - 2);
  const [header = '', ...body] = renderTable(columnsFor(state.by), state.rows.slice(0, room), columns);
  const hidden = state.rows.length - body.length;
  const keys = 'q quit  b bytes  c connections  r retransmits  t rtt  h requests  e errors  p p99';
  const footer = hidden > 0 ? `${hidden} more  ${keys}` : keys;
  const empty = Array.from({ length: Math.max(0, room - body.length) }, () => '');
  const lines = [
    padded(headline(state), columns),
    padded(warning(state), columns),
    padded(header, columns),
    ...body,
    ...empty,
    padded(footer, columns).trimEnd(),
  ];
  return lines.slice(0, Math.max(1, rows));
}
