// The service map from edges: who is a node, what a link adds up to, and that no name can break an output format.
import { describe, expect, test } from 'vitest';
import type { EdgeRow } from '../../../exporter/cli/edges.ts';
import { mapDot, mapMermaid, mapTable, serviceMap } from '../../../exporter/cli/service_map.ts';

const end = (workload: string, namespace = 'shop') => ({ workload, namespace, kind: 'Deployment' });
const row = (client: string, server: string, port: string, more: Partial<EdgeRow> = {}): EdgeRow => ({
  client: end(client),
  server: end(server),
  service: '',
  port,
  reporters: ['client'],
  request_bytes: 100,
  request_bytes_per_second: 0,
  response_bytes: 10,
  response_bytes_per_second: 0,
  connections: 1,
  connections_opened: 2,
  connections_opened_per_second: 0,
  connect_failures: 0,
  retransmitted_segments: 0,
  retransmitted_segments_per_second: 0,
  rtt_seconds: null,
  protocols: [],
  requests: 0,
  requests_per_second: 0,
  errors: 0,
  errors_per_second: 0,
  p99_seconds: null,
  ...more,
});

describe('serviceMap', () => {
  test('ports of one pair are one link, and their counts add up', () => {
    const map = serviceMap([row('web', 'db', '5432', { service: 'db' }), row('web', 'db', '80')]);
    expect(map.nodes.map(({ workload }) => workload)).toEqual(['db', 'web']);
    expect(map.links).toMatchObject([
      { ports: ['80', '5432'], services: ['db'], request_bytes: 200, connections_opened: 4 },
    ]);
  });

  test('connections through a Service, seen by both ends under two ports, count once', () => {
    const rows = [
      row('web', 'db', '80', { service: 'db', reporters: ['client'], connections_opened: 5 }),
      row('web', 'db', '5432', { reporters: ['server'], connections_opened: 5 }),
    ];
    expect(serviceMap(rows).links).toMatchObject([
      { ports: ['80', '5432'], connections_opened: 5, request_bytes: 100, response_bytes: 10 },
    ]);
  });

  test('the same name in two namespaces is two nodes', () => {
    const map = serviceMap([row('web', 'db', '1'), row('web', 'db', '1', { server: end('db', 'bank') })]);
    expect(map.nodes).toHaveLength(3);
    expect(map.links).toHaveLength(2);
  });

  test('a namespace keeps what touches it', () => {
    const rows = [
      row('web', 'db', '1'),
      row('a', 'b', '1', { client: end('a', 'x'), server: end('b', 'x') }),
    ];
    expect(serviceMap(rows, 'shop').links).toHaveLength(1);
    expect(serviceMap(rows, 'x').nodes.map(({ id }) => id)).toEqual(['Deployment/x/a', 'Deployment/x/b']);
    expect(serviceMap(rows, 'nothing')).toEqual({ nodes: [], links: [] });
  });
});

describe('output formats', () => {
  const hostile = 'a"]; evil [label="\\\n\u001b[31m|`{}<b>&#x';
  const map = serviceMap([row(hostile, 'db', '80', { connect_failures: 3 })]);

  test('Graphviz: every quote and backslash of a name is escaped, no control character is left', () => {
    const text = mapDot(map);
    const [line] = text.split('\n').filter((l) => l.includes('evil'));
    const string = /label="((?:[^"\\]|\\.)*)"\];$/.exec(line ?? '');
    expect(string).not.toBeNull();
    expect(text).not.toContain('\u001b');
    expect(text).toContain('color=red');
    expect(text.split('\n').filter((l) => l.includes('->'))).toHaveLength(1);
  });

  test('Mermaid: a name is one quoted string', () => {
    const [line] = mapMermaid(map)
      .split('\n')
      .filter((l) => l.includes('evil'));
    expect(line).toMatch(/^ {2}n\d\["[^"]*"\]$/);
    expect(line).not.toMatch(/[<>`]/);
  });

  test('a table of a fixed width', () => {
    for (const line of mapTable(map, 60).trimEnd().split('\n')) expect(line.length).toBeLessThanOrEqual(60);
  });
});
