// What `top` makes of two scrapes: rows, rates, order, and a screen that holds.
import { describe, expect, test } from 'vitest';
import { EDGES } from '../../../exporter/cli/edge_samples.ts';
import { type EdgeRow, edgeRows, quantile, SORT_KEYS, sortRows } from '../../../exporter/cli/edges.ts';
import { ExpositionError, parseExposition } from '../../../exporter/cli/prometheus_text.ts';
import { textWidth } from '../../../exporter/cli/text.ts';
import { renderOnce, renderScreen, type TopState } from '../../../exporter/cli/top_view.ts';

function labels(reporter: string, client: string, server: string, port: number): string {
  return (
    `reporter="${reporter}",client_workload="${client}",client_namespace="",client_kind="Process",` +
    `server_workload="${server}",server_namespace="shop",server_kind="Deployment",server_port="${port}",transport="tcp"`
  );
}

function exposition(values: Record<string, number>): string {
  return Object.entries(values)
    .map(([series, value]) => `${series} ${value}`)
    .join('\n');
}

const C = labels('client', 'curl', 'web', 80);
const S = labels('server', 'curl', 'web', 80);

describe('the exposition is read', () => {
  test('comments, escapes, time stamps, special values', () => {
    const text = [
      '# HELP a A thing.',
      '# TYPE a counter',
      'a 1',
      'a{} 2 1700000000000',
      'b{x="1", y="q\\"b\\\\n\\n{}, ",} 3e3',
      'c{le="+Inf"} +Inf',
      'd NaN',
      '',
    ].join('\n');
    expect(parseExposition(text)).toEqual([
      { name: 'a', labels: {}, value: 1 },
      { name: 'a', labels: {}, value: 2 },
      { name: 'b', labels: { x: '1', y: 'q"b\\n\n{}, ' }, value: 3000 },
      { name: 'c', labels: { le: '+Inf' }, value: Number.POSITIVE_INFINITY },
      { name: 'd', labels: {}, value: Number.NaN },
    ]);
  });

  test('a label named __proto__ is a label', () => {
    expect(Object.keys(parseExposition('a{__proto__="x"} 1')[0]?.labels ?? {})).toEqual(['__proto__']);
  });

  test.each(['<html>', 'a', 'a{x="1} 1', 'a{x=1} 1', 'a{x="1"y="2"} 1', 'a x', '{a="b"} 1', 'a{x="1"'])(
    '%j is refused',
    (line) => {
      expect(() => parseExposition(line)).toThrow(ExpositionError);
    },
  );
});

describe('rows', () => {
  const at = (text: string) => parseExposition(text, (name) => EDGES.wants(name));

  test('totals and rates, seen from the client', () => {
    const before = exposition({
      [`knp_tcp_sent_bytes_total{${C}}`]: 1000,
      [`knp_tcp_received_bytes_total{${C}}`]: 5000,
      [`knp_tcp_connections_opened_total{${C}}`]: 10,
      [`knp_tcp_retransmitted_segments_total{${C}}`]: 1,
      [`knp_tcp_rtt_seconds_sum{${C}}`]: 1,
      [`knp_tcp_rtt_seconds_count{${C}}`]: 10,
    });
    const after = exposition({
      [`knp_tcp_sent_bytes_total{${C}}`]: 3000,
      [`knp_tcp_received_bytes_total{${C}}`]: 15000,
      [`knp_tcp_connections_opened_total{${C}}`]: 14,
      [`knp_tcp_connections{${C}}`]: 3,
      [`knp_tcp_connect_failures_total{${C},reason="refused"}`]: 2,
      [`knp_tcp_connect_failures_total{${C},reason="timed_out"}`]: 1,
      [`knp_tcp_retransmitted_segments_total{${C}}`]: 5,
      [`knp_tcp_rtt_seconds_sum{${C}}`]: 1.02,
      [`knp_tcp_rtt_seconds_count{${C}}`]: 12,
      [`knp_tcp_rtt_seconds_bucket{${C},le="1"}`]: 12,
      knp_agent_memory_resident_bytes: 1,
    });
    const rows = edgeRows(at(before), at(after), 2);
    expect(rows).toEqual([
      {
        client: { workload: 'curl', namespace: '', kind: 'Process' },
        server: { workload: 'web', namespace: 'shop', kind: 'Deployment' },
        service: '',
        port: '80',
        reporters: ['client'],
        request_bytes: 3000,
        request_bytes_per_second: 1000,
        response_bytes: 15000,
        response_bytes_per_second: 5000,
        connections: 3,
        connections_opened: 14,
        connections_opened_per_second: 2,
        connect_failures: 3,
        retransmitted_segments: 5,
        retransmitted_segments_per_second: 2,
        rtt_seconds: expect.closeTo(0.01, 9),
        protocols: [],
        requests: 0,
        requests_per_second: 0,
        errors: 0,
        errors_per_second: 0,
        p99_seconds: null,
      },
    ]);
  });

  test('seen from the server, the bytes turn round', () => {
    const text = exposition({
      [`knp_tcp_sent_bytes_total{${S}}`]: 700,
      [`knp_tcp_received_bytes_total{${S}}`]: 40,
    });
    expect(edgeRows([], at(text), 1)[0]).toMatchObject({
      reporters: ['server'],
      request_bytes: 40,
      response_bytes: 700,
      rtt_seconds: null,
    });
  });

  test('both ends observed: one row, of the side that saw more; retransmits of both', () => {
    const text = exposition({
      [`knp_tcp_sent_bytes_total{${C}}`]: 100,
      [`knp_tcp_retransmitted_segments_total{${C}}`]: 1,
      [`knp_tcp_connect_failures_total{${C},reason="refused"}`]: 4,
      [`knp_tcp_received_bytes_total{${S}}`]: 300,
      [`knp_tcp_connections{${S}}`]: 3,
      [`knp_tcp_retransmitted_segments_total{${S}}`]: 2,
    });
    expect(edgeRows([], at(text), 1)).toMatchObject([
      {
        reporters: ['client', 'server'],
        request_bytes: 300,
        connections: 3,
        retransmitted_segments: 3,
        connect_failures: 4,
      },
    ]);
  });

  test('requests, errors and the 99th percentile over all routes and status codes', () => {
    const d = 'http_server_request_duration_seconds';
    const series = (route: string, status: number, error = '') =>
      `${S},http_route="${route}",http_response_status_code="${status}"${error && `,error_type="${error}"`}`;
    const text = (scale: number) =>
      exposition({
        [`${d}_count{${series('/a', 200)}}`]: 90 * scale,
        [`${d}_bucket{${series('/a', 200)},le="0.1"}`]: 90 * scale,
        [`${d}_bucket{${series('/a', 200)},le="1"}`]: 90 * scale,
        [`${d}_bucket{${series('/a', 200)},le="+Inf"}`]: 90 * scale,
        [`${d}_count{${series('/b', 500, '500')}}`]: 10 * scale,
        [`${d}_bucket{${series('/b', 500, '500')},le="0.1"}`]: 0,
        [`${d}_bucket{${series('/b', 500, '500')},le="1"}`]: 10 * scale,
        [`${d}_bucket{${series('/b', 500, '500')},le="+Inf"}`]: 10 * scale,
      });
    const [row] = edgeRows(at(text(1)), at(text(3)), 4);
    expect(row).toMatchObject({
      requests: 300,
      requests_per_second: 50,
      errors: 30,
      errors_per_second: 5,
      // Rank 198 of 200; 180 are at most 0.1 s, the other 20 lie between 0.1 and 1 s: 0.1 + 0.9 * 18 / 20.
      p99_seconds: expect.closeTo(0.91, 9),
    });
  });

  test('quantiles as histogram_quantile of Prometheus has them', () => {
    const infinite = Number.POSITIVE_INFINITY;
    expect(
      quantile(0.5, [
        [1, 10],
        [2, 20],
        [infinite, 20],
      ]),
    ).toBe(1);
    expect(
      quantile(0.75, [
        [infinite, 20],
        [2, 20],
        [1, 10],
      ]),
    ).toBe(1.5);
    expect(
      quantile(0.99, [
        [1, 1],
        [infinite, 100],
      ]),
    ).toBe(1);
    expect(
      quantile(0.99, [
        [1, 0],
        [infinite, 0],
      ]),
    ).toBeNull();
    expect(quantile(0.99, [])).toBeNull();
  });

  test('a counter that began anew is not a negative rate', () => {
    const series = `knp_tcp_sent_bytes_total{${C}}`;
    const rows = edgeRows(at(`${series} 1000`), at(`${series} 10`), 2);
    expect(rows[0]?.request_bytes_per_second).toBe(5);
  });

  test('other ports and other workloads are other rows', () => {
    const text = exposition({
      [`knp_tcp_sent_bytes_total{${C}}`]: 1,
      [`knp_tcp_sent_bytes_total{${labels('client', 'curl', 'web', 81)}}`]: 1,
      [`knp_tcp_sent_bytes_total{${labels('client', 'wget', 'web', 80)}}`]: 1,
    });
    expect(edgeRows([], at(text), 1)).toHaveLength(3);
  });
});

function makeRow(name: string, values: Partial<EdgeRow> = {}): EdgeRow {
  return {
    client: { workload: name, namespace: '', kind: 'Process' },
    server: { workload: 'web', namespace: '', kind: 'Process' },
    service: '',
    port: '80',
    reporters: ['client'],
    request_bytes: 0,
    request_bytes_per_second: 0,
    response_bytes: 0,
    response_bytes_per_second: 0,
    connections: 0,
    connections_opened: 0,
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
    ...values,
  };
}

describe('order', () => {
  const rows = [
    makeRow('idle'),
    makeRow('bytes', { response_bytes_per_second: 9 }),
    makeRow('open', { connections: 5 }),
    makeRow('lossy', { retransmitted_segments_per_second: 1 }),
    makeRow('far', { rtt_seconds: 0.2 }),
    makeRow('busy', { requests_per_second: 3 }),
    makeRow('broken', { errors_per_second: 1 }),
    makeRow('slow', { p99_seconds: 4 }),
  ];
  test.each([
    ['bytes', 'bytes'],
    ['connections', 'open'],
    ['retransmits', 'lossy'],
    ['rtt', 'far'],
    ['requests', 'busy'],
    ['errors', 'broken'],
    ['p99', 'slow'],
  ] as const)('by %s: %s first', (by, first) => {
    expect(sortRows([...rows], by)[0]?.client.workload).toBe(first);
    expect(SORT_KEYS).toContain(by);
  });

  test('equal rows stay in the order of their names', () => {
    const names = sortRows([makeRow('b'), makeRow('c'), makeRow('a')], 'bytes').map(
      (row) => row.client.workload,
    );
    expect(names).toEqual(['a', 'b', 'c']);
  });
});

describe('the picture', () => {
  const state = (rows: EdgeRow[]): TopState => ({
    source: 'a test',
    time: new Date(0),
    intervalSeconds: 2,
    by: 'bytes',
    rows,
    lost: new Map(),
  });
  const hostile = [
    makeRow('\x1b[2J\x1b[1;1H', { service: '\x9b2J' }),
    makeRow('日本語'.repeat(40)),
    makeRow('a\nb\r\n'),
    makeRow(`e${'\u0301'.repeat(99)}`),
    makeRow('\u202ex'),
  ];

  test.each([
    [80, 24],
    [20, 5],
    [1, 1],
    [300, 100],
  ])('fits a terminal of %d by %d with any names', (columns, rows) => {
    const lines = renderScreen(state(hostile), columns, rows);
    expect(lines.length).toBeLessThanOrEqual(rows);
    for (const line of lines) {
      expect(textWidth(line)).toBeLessThanOrEqual(columns);
      expect(line).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    }
  });

  test('says how many rows have no room, and what was lost', () => {
    const many = Array.from({ length: 50 }, (_, index) => makeRow(`p${index}`));
    const lines = renderScreen({ ...state(many), lost: new Map([['edges', 1234]]) }, 120, 24);
    expect(lines.at(-1)).toMatch(/^30 more {2}q quit/);
    expect(lines[1]?.trimEnd()).toBe('! lost since the start: edges 1.23k (kubenetprobe doctor says more)');
    expect(lines).toHaveLength(24);
  });

  test('by requests it shows the columns of requests', () => {
    const http = {
      protocol: 'http',
      requests: 0,
      requests_per_second: 12.5,
      errors: 3,
      errors_per_second: 0,
      p99_seconds: 0.25,
    };
    const row = makeRow('curl', { ...http, protocols: [http] });
    const [header = '', line = ''] = renderOnce({ ...state([row]), by: 'requests' }, 160).split('\n');
    expect(header.split(/\s{2,}/).slice(3, 9)).toEqual(['PROTO', 'REQ/s', 'ERR/s', 'P99', 'REQ', 'ERR']);
    expect(line.split(/\s+/).slice(3, 9)).toEqual(['http', '12.5', '0', '250ms', '0', '3']);
  });

  test('once: one line per edge', () => {
    const text = renderOnce(
      state([makeRow('curl', { request_bytes: 1500, connections: 2, rtt_seconds: 0.0012 })]),
      160,
    );
    const [header = '', row = '', end] = text.split('\n');
    expect(end).toBe('');
    expect(header.split(/\s{2,}/)).toContain('CLIENT');
    expect(row.split(/\s+/)).toEqual([
      'curl',
      'web',
      '80',
      '0',
      '0',
      '1.50k',
      '0',
      '2',
      '0',
      '0',
      '0',
      '0',
      '0',
      '1.20ms',
    ]);
  });
});
