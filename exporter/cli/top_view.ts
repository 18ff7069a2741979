// What `top` shows, as lines of text: columns, header and footer. No terminal, no input: see commands/top.ts.
import type { EdgeEnd, EdgeRow, SortKey } from './edges.ts';
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

const COLUMNS: readonly Column<EdgeRow>[] = [
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
  { title: 'PORT', align: 'right', width: 5, priority: 1, cell: ({ port }) => port },
  {
    title: '→ B/s',
    align: 'right',
    width: 6,
    priority: 2,
    cell: (row) => scaled(row.request_bytes_per_second),
  },
  {
    title: '← B/s',
    align: 'right',
    width: 6,
    priority: 2,
    cell: (row) => scaled(row.response_bytes_per_second),
  },
  { title: '→ B', align: 'right', width: 6, priority: 7, cell: (row) => scaled(row.request_bytes) },
  { title: '← B', align: 'right', width: 6, priority: 7, cell: (row) => scaled(row.response_bytes) },
  { title: 'OPEN', align: 'right', width: 5, priority: 3, cell: (row) => scaled(row.connections) },
  {
    title: 'NEW/s',
    align: 'right',
    width: 5,
    priority: 4,
    cell: (row) => scaled(row.connections_opened_per_second),
  },
  { title: 'NEW', align: 'right', width: 5, priority: 8, cell: (row) => scaled(row.connections_opened) },
  { title: 'FAILED', align: 'right', width: 6, priority: 6, cell: (row) => scaled(row.connect_failures) },
  {
    title: 'RETR/s',
    align: 'right',
    width: 6,
    priority: 5,
    cell: (row) => scaled(row.retransmitted_segments_per_second),
  },
  { title: 'RETR', align: 'right', width: 5, priority: 8, cell: (row) => scaled(row.retransmitted_segments) },
  {
    title: 'RTT',
    align: 'right',
    width: 6,
    priority: 4,
    cell: (row) => (row.rtt_seconds === null ? '-' : duration(row.rtt_seconds)),
  },
];

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
  const lines = renderTable(COLUMNS, state.rows, width);
  return `${[...lines, ...(note === '' ? [] : [printable(note)])].join('\n')}\n`;
}

/** The index of the table's header among the lines of {@link renderScreen}. */
export const TABLE_HEADER_LINE = 2;

/** A screen full: no line wider than `columns`, at most `rows` of them. */
export function renderScreen(state: TopState, columns: number, rows: number): string[] {
  const room = Math.max(0, rows - TABLE_HEADER_LINE - 2);
  const [header = '', ...body] = renderTable(COLUMNS, state.rows.slice(0, room), columns);
  const hidden = state.rows.length - body.length;
  const keys = 'q quit  b bytes  c connections  r retransmits  t rtt';
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
