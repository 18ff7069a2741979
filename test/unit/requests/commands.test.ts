// `top` and `map` with two protocols: what each row adds up, and what `--protocol` leaves.
import { describe, expect, test } from 'vitest';
import { EdgeReader } from '../../../exporter/cli/edge_samples.ts';
import { edgeRows } from '../../../exporter/cli/edges.ts';
import { parseExposition } from '../../../exporter/cli/prometheus_text.ts';
import { mapDot, mapTable, serviceMap } from '../../../exporter/cli/service_map.ts';
import { renderOnce } from '../../../exporter/cli/top_view.ts';
import { REQUEST_PROTOCOLS, TRANSPORTS } from '../../../exporter/probes/descriptors.ts';
import { EDGE_LABELS, series } from './exposition.ts';
import { STORE } from './second_protocol.ts';

const reader = new EdgeReader({ transports: TRANSPORTS, protocols: [...REQUEST_PROTOCOLS, STORE] });
const at = (text: string) => parseExposition(text, (name) => reader.wants(name));

/** Between shop and cart on one port, HTTP and the other protocol; `scale` times the counts. */
function both(scale: number): string {
  return [
    ...series('http_server_request_duration_seconds', 'server', '', { '0.1': 8, '1': 10 }, scale),
    ...series(
      'http_server_request_duration_seconds',
      'server',
      'error_type="500"',
      { '0.1': 2, '1': 2 },
      scale,
    ),
    ...series(
      'knp_db_server_operation_duration_seconds',
      'server',
      'db_system_name="teststore"',
      { '0.001': 50, '0.01': 100 },
      scale,
    ),
    ...series(
      'knp_db_server_operation_duration_seconds',
      'server',
      'db_system_name="another"',
      { '0.001': 999 },
      scale,
    ),
    ...series(
      'db_client_operation_duration_seconds',
      'client',
      'db_system_name="teststore",error_type="ERR"',
      { '0.01': 40 },
      scale,
    ),
    `knp_tcp_sent_bytes_total{reporter="server",${EDGE_LABELS}} ${1000 * scale}`,
  ].join('\n');
}

describe('rows', () => {
  const rows = (options: { protocol?: string } = {}) =>
    edgeRows(at(both(1)), at(both(3)), 4, { ...options, reader });

  test('each protocol by itself, and all together', () => {
    const [row, ...others] = rows();
    expect(others).toEqual([]);
    expect(row?.protocols).toEqual([
      {
        protocol: 'http',
        requests: 36,
        requests_per_second: 6,
        errors: 6,
        errors_per_second: 1,
        // Rank 23.76 of 24; 20 are at most 0.1 s, 4 between 0.1 and 1 s.
        p99_seconds: expect.closeTo(0.1 + (0.9 * 3.76) / 4, 9),
      },
      {
        // The server saw 300, the client, which saw failures, 120: that of the side which saw more.
        protocol: 'teststore',
        requests: 300,
        requests_per_second: 50,
        errors: 0,
        errors_per_second: 0,
        p99_seconds: expect.closeTo(0.001 + (0.009 * 98) / 100, 9),
      },
    ]);
    expect(row).toMatchObject({
      requests: 336,
      requests_per_second: 56,
      errors: 6,
      errors_per_second: 1,
      p99_seconds: row?.protocols[0]?.p99_seconds,
      response_bytes: 3000,
    });
  });

  test('one protocol: its requests only, and no rows without any', () => {
    const [row] = rows({ protocol: 'teststore' });
    expect(row).toMatchObject({ requests: 300, errors: 0, p99_seconds: expect.closeTo(0.00982, 9) });
    expect(row?.protocols.map(({ protocol }) => protocol)).toEqual(['teststore']);
    const tcp = at(`knp_tcp_sent_bytes_total{reporter="server",${EDGE_LABELS}} 1`);
    expect(edgeRows([], tcp, 1, { reader })).toHaveLength(1);
    expect(edgeRows([], tcp, 1, { protocol: 'http', reader })).toEqual([]);
  });

  test('the labels that are not its own are not counted, whatever the reader knows', () => {
    const other = new EdgeReader({
      transports: [],
      protocols: [{ ...STORE, only: { 'db.system.name': 'another' } }],
    });
    const samples = parseExposition(both(1), (name) => other.wants(name));
    expect(edgeRows([], samples, 1, { reader: other })).toMatchObject([{ requests: 999, request_bytes: 0 }]);
  });

  test('top shows which protocols a row is about', () => {
    const state = {
      source: 'a test',
      time: new Date(0),
      intervalSeconds: 2,
      by: 'requests',
      rows: rows(),
      lost: new Map(),
    } as const;
    const [header = '', line = ''] = renderOnce({ ...state }, 200).split('\n');
    expect(header.split(/\s{2,}/).slice(3, 6)).toEqual(['PROTO', 'REQ/s', 'ERR/s']);
    expect(line.split(/\s+/).slice(3, 6)).toEqual(['http,…', '56', '1']);
  });
});

describe('map', () => {
  const map = serviceMap(edgeRows([], at(both(1)), 0, { reader }));

  test('a link names its protocols and adds up their requests', () => {
    expect(map.links).toMatchObject([{ protocols: ['http', 'teststore'], requests: 112, errors: 2 }]);
    const only = serviceMap(edgeRows([], at(both(1)), 0, { protocol: 'http', reader }));
    expect(only.links).toMatchObject([{ protocols: ['http'], requests: 12, errors: 2 }]);
  });

  test('seen by both ends under two ports, requests count once', () => {
    const port = (text: string, from: string) =>
      text.replaceAll('server_port="8080"', `server_port="${from}"`);
    const text = [
      ...series('http_server_request_duration_seconds', 'server', '', { '1': 9 }, 1),
      ...series('http_client_request_duration_seconds', 'client', '', { '1': 9 }, 1).map((line) =>
        port(line, '80'),
      ),
    ].join('\n');
    const twice = serviceMap(edgeRows([], at(text), 0, { reader }));
    expect(twice.links).toMatchObject([{ ports: ['80', '8080'], requests: 9 }]);
  });

  test('the table and the graph show them', () => {
    const [header = '', line = ''] = mapTable(map, 200).split('\n');
    expect(header).toMatch(/PROTO .*REQUESTS {3}ERRORS$/);
    expect(line).toMatch(/http,….* 112 +2$/);
    expect(mapDot(map)).toContain('label="8080 http,teststore, 1.0 kB"');
  });
});
