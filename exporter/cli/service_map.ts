// The service map: edges of a collection as a graph of workloads, and that graph as a table, JSON, Graphviz or Mermaid.
// Used by `kubenetprobe map`.
import type { EdgeEnd, EdgeRow } from './edges.ts';
import { type Column, renderTable } from './table.ts';
import { printable } from './text.ts';

export interface MapNode {
  /** Unique in the map, made of kind, namespace and name. */
  readonly id: string;
  readonly workload: string;
  readonly namespace: string;
  readonly kind: string;
}

export interface MapLink {
  readonly client: string;
  readonly server: string;
  readonly services: readonly string[];
  readonly ports: readonly string[];
  readonly request_bytes: number;
  readonly response_bytes: number;
  readonly connections: number;
  readonly connections_opened: number;
  readonly connect_failures: number;
  readonly retransmitted_segments: number;
  /** Protocols whose requests were seen. */
  readonly protocols: readonly string[];
  readonly requests: number;
  readonly errors: number;
}

export interface ServiceMap {
  readonly nodes: readonly MapNode[];
  readonly links: readonly MapLink[];
}

const idOf = ({ kind, namespace, workload }: EdgeEnd) => [kind, namespace, workload].join('/');

/** One node per workload, one link per pair; `namespace` keeps only links that touch it. */
export function serviceMap(rows: readonly EdgeRow[], namespace?: string): ServiceMap {
  const nodes = new Map<string, MapNode>();
  const links = new Map<string, EdgeRow[]>();
  for (const row of rows) {
    if (namespace !== undefined && row.client.namespace !== namespace && row.server.namespace !== namespace)
      continue;
    for (const end of [row.client, row.server]) nodes.set(idOf(end), { id: idOf(end), ...end });
    const key = `${idOf(row.client)}\n${idOf(row.server)}`;
    links.set(key, [...(links.get(key) ?? []), row]);
  }
  const sorted = <T>(values: Iterable<T>, by: (value: T) => string) =>
    [...values].sort((a, b) => (by(a) < by(b) ? -1 : 1));
  return {
    nodes: sorted(nodes.values(), ({ id }) => id),
    links: sorted([...links.values()].map(link), ({ client, server }) => `${client}\n${server}`),
  };
}

/**
 * Connections through a Service are two rows where both ends are observed: the client's with the Service's port, the
 * server's with the pod's. So a link is what one side counted, the one that saw more.
 */
function link(rows: readonly EdgeRow[]): MapLink {
  const [first] = rows as [EdgeRow];
  const sum = (value: (row: EdgeRow) => number, of = rows) =>
    of.reduce((total, row) => total + value(row), 0);
  const distinct = (values: readonly string[]) => [...new Set(values.filter((value) => value !== ''))].sort();
  const seenBy = (side: 'client' | 'server') => rows.filter(({ reporters }) => reporters.includes(side));
  const weight = (of: readonly EdgeRow[]) =>
    sum((row) => row.request_bytes + row.response_bytes + row.connections_opened + row.connections, of);
  const [client, server] = [seenBy('client'), seenBy('server')];
  const side = weight(server) > weight(client) ? server : client;
  const requests = (of: readonly EdgeRow[]) => sum((row) => row.requests, of);
  const counted = requests(server) > requests(client) ? server : client;
  return {
    client: idOf(first.client),
    server: idOf(first.server),
    services: distinct(rows.map(({ service }) => service)),
    ports: distinct(rows.map(({ port }) => port)).sort((a, b) => Number(a) - Number(b)),
    request_bytes: sum((row) => row.request_bytes, side),
    response_bytes: sum((row) => row.response_bytes, side),
    connections: sum((row) => row.connections, side),
    connections_opened: sum((row) => row.connections_opened, side),
    connect_failures: sum((row) => row.connect_failures),
    retransmitted_segments: sum((row) => row.retransmitted_segments),
    protocols: distinct(rows.flatMap(({ protocols }) => protocols.map(({ protocol }) => protocol))),
    requests: requests(counted),
    errors: sum((row) => row.errors, counted),
  };
}

/** Ports for people: all of a few, else how many. */
function portText(ports: readonly string[]): string {
  return ports.length <= 4 ? ports.join(',') : `${ports.length} ports`;
}

const bytes = (n: number) => {
  const unit = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let at = 0;
  let value = n;
  for (; value >= 1000 && at < unit.length - 1; at++) value /= 1000;
  return `${at === 0 ? value : value.toFixed(1)} ${unit[at]}`;
};

function nameOf(node: MapNode | undefined): string {
  if (node === undefined) return '';
  return printable(node.namespace === '' ? node.workload : `${node.namespace}/${node.workload}`);
}

const TABLE: readonly Column<{ link: MapLink; nodes: ReadonlyMap<string, MapNode> }>[] = [
  {
    title: 'CLIENT',
    align: 'left',
    width: 12,
    grows: true,
    priority: 0,
    cell: ({ link, nodes }) => nameOf(nodes.get(link.client)),
  },
  {
    title: 'SERVER',
    align: 'left',
    width: 12,
    grows: true,
    priority: 0,
    cell: ({ link, nodes }) => nameOf(nodes.get(link.server)),
  },
  {
    title: 'SERVICE',
    align: 'left',
    width: 8,
    grows: true,
    priority: 4,
    cell: ({ link }) => printable(link.services.join(',')),
  },
  {
    title: 'PORT',
    align: 'left',
    width: 6,
    grows: true,
    priority: 1,
    cell: ({ link }) => portText(link.ports),
  },
  {
    title: 'PROTO',
    align: 'left',
    width: 6,
    priority: 6,
    cell: ({ link }) => link.protocols.join(','),
  },
  { title: 'SENT', align: 'right', width: 9, priority: 2, cell: ({ link }) => bytes(link.request_bytes) },
  {
    title: 'RECEIVED',
    align: 'right',
    width: 9,
    priority: 2,
    cell: ({ link }) => bytes(link.response_bytes),
  },
  { title: 'OPEN', align: 'right', width: 6, priority: 3, cell: ({ link }) => String(link.connections) },
  {
    title: 'OPENED',
    align: 'right',
    width: 8,
    priority: 5,
    cell: ({ link }) => String(link.connections_opened),
  },
  {
    title: 'FAILED',
    align: 'right',
    width: 6,
    priority: 3,
    cell: ({ link }) => String(link.connect_failures),
  },
  { title: 'REQUESTS', align: 'right', width: 9, priority: 6, cell: ({ link }) => String(link.requests) },
  { title: 'ERRORS', align: 'right', width: 7, priority: 6, cell: ({ link }) => String(link.errors) },
];

/** A line per link. */
export function mapTable(map: ServiceMap, width: number): string {
  const nodes = new Map(map.nodes.map((node) => [node.id, node]));
  return `${renderTable(
    TABLE,
    map.links.map((link) => ({ link, nodes })),
    width,
  ).join('\n')}\n`;
}

/** Nodes by number, so that no name has to be an identifier. */
function numbered(map: ServiceMap): Map<string, string> {
  return new Map(map.nodes.map(({ id }, index) => [id, `n${index}`]));
}

function label(link: MapLink): string {
  const protocols = link.protocols.length === 0 ? '' : ` ${link.protocols.join(',')}`;
  return `${portText(link.ports)}${protocols}, ${bytes(link.request_bytes + link.response_bytes)}`;
}

/** Graphviz; namespaces are clusters. */
export function mapDot(map: ServiceMap): string {
  const quoted = (text: string) => `"${printable(text).replace(/[\\"]/g, '\\$&')}"`;
  const ids = numbered(map);
  const namespaces = Map.groupBy(map.nodes, ({ namespace }) => namespace);
  const lines = ['digraph services {', '  rankdir=LR; node [shape=box, style=rounded];'];
  for (const [index, [namespace, nodes]] of [...namespaces].entries()) {
    const drawn = nodes.map((node) => `${ids.get(node.id)} [label=${quoted(node.workload)}];`);
    if (namespace === '') lines.push(...drawn.map((line) => `  ${line}`));
    else
      lines.push(
        `  subgraph cluster_${index} {`,
        `    label=${quoted(namespace)};`,
        ...drawn.map((line) => `    ${line}`),
        '  }',
      );
  }
  for (const link of map.links)
    lines.push(
      `  ${ids.get(link.client)} -> ${ids.get(link.server)} [label=${quoted(label(link))}${link.connect_failures > 0 ? ', color=red' : ''}];`,
    );
  return `${lines.join('\n')}\n}\n`;
}

/** Mermaid, for Markdown pages. */
export function mapMermaid(map: ServiceMap): string {
  // Mermaid has no escape inside quotes but HTML entities by number.
  const quoted = (text: string) =>
    `"${printable(text).replace(/["#<>&\\`|[\]{}]/g, (c) => `#${c.codePointAt(0)};`)}"`;
  const ids = numbered(map);
  const lines = ['flowchart LR'];
  for (const node of map.nodes) lines.push(`  ${ids.get(node.id)}[${quoted(nameOf(node))}]`);
  for (const link of map.links)
    lines.push(`  ${ids.get(link.client)} -->|${quoted(label(link))}| ${ids.get(link.server)}`);
  return `${lines.join('\n')}\n`;
}
