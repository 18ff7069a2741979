// The catalogue as a contract: names, units and labels that saved queries depend on.
import { expect, expectTypeOf, test } from 'vitest';
import {
  type AttributesOf,
  CATALOGUE,
  labelName,
  type MetricDefinition,
  prometheusName,
  prometheusUnit,
} from '../../../exporter/telemetry/catalogue.ts';
import { renderMetricsReference } from '../../../exporter/telemetry/reference.ts';

const metrics: readonly MetricDefinition[] = CATALOGUE;

test.each([
  ['knp.tcp.sent_bytes', 'counter', 'By', 'knp_tcp_sent_bytes_total'],
  ['knp.tcp.limited', 'counter', 's', 'knp_tcp_limited_seconds_total'],
  ['knp.bpf.program.seconds', 'counter', 's', 'knp_bpf_program_seconds_total'],
  ['http.server.request.duration', 'histogram', 's', 'http_server_request_duration_seconds'],
  ['http.server.request.body.size', 'histogram', 'By', 'http_server_request_body_size_bytes'],
  ['http.server.active_requests', 'updowncounter', '{request}', 'http_server_active_requests'],
  ['knp.agent.coverage_ratio', 'gauge', '1', 'knp_agent_coverage_ratio'],
  ['system.memory.utilization', 'gauge', '1', 'system_memory_utilization_ratio'],
  ['jvm.things', 'counter', '1', 'jvm_things_total'],
  ['traces_service_graph_request_total', 'counter', '', 'traces_service_graph_request_total'],
  ['disk.speed', 'gauge', 'By/s', 'disk_speed_bytes_per_second'],
  ['9lives..left-over', 'gauge', '', '_9lives_left_over'],
] as const)('%s (%s, %s) is %s in Prometheus', (name, kind, unit, expected) => {
  expect(prometheusName({ name, kind, unit })).toBe(expected);
});

test('units in words', () => {
  expect(['s', 'By', '1', '{connection}', '', 'By/s', '1/s', '{packet}/s'].map(prometheusUnit)).toEqual([
    'seconds',
    'bytes',
    '',
    '',
    '',
    'bytes_per_second',
    'per_second',
    'per_second',
  ]);
});

test('every metric is well formed', () => {
  for (const metric of metrics) {
    expect(metric.name).toMatch(/^[a-z][a-z0-9_.]*$/);
    expect(metric.description, metric.name).toMatch(/^\S.*\.$/s);
    expect(metric.buckets !== undefined, metric.name).toBe(metric.kind === 'histogram');
    const bounds = metric.buckets ?? [];
    expect([...bounds].sort((a, b) => a - b)).toEqual([...bounds]);
    expect(new Set(bounds).size).toBe(bounds.length);
    for (const name of Object.keys(metric.values ?? {})) expect(metric.attributes).toContain(name);
  }
});

test('no two metrics and no two labels of one metric share a Prometheus name', () => {
  const families = metrics.flatMap((metric) => {
    const name = prometheusName(metric);
    return metric.kind === 'histogram' ? [name, `${name}_sum`, `${name}_count`, `${name}_bucket`] : [name];
  });
  expect(families.filter((name, index) => families.indexOf(name) !== index)).toEqual([]);
  for (const metric of metrics) {
    const labels = metric.attributes.map(labelName);
    expect(new Set(labels).size, metric.name).toBe(labels.length);
    for (const label of labels) expect(label).toMatch(/^[a-z_][a-z0-9_]*$/);
    expect(labels).not.toContain('le');
  }
});

test('names that the outside depends on stay', () => {
  expect(metrics.map(prometheusName)).toEqual(
    expect.arrayContaining([
      'knp_tcp_sent_bytes_total',
      'knp_tcp_received_bytes_total',
      'knp_tcp_connections_opened_total',
      'knp_tcp_connections',
      'knp_tcp_connect_duration_seconds',
      'knp_tcp_connect_failures_total',
      'knp_tcp_rtt_seconds',
      'knp_tcp_retransmitted_segments_total',
      'knp_tcp_out_of_order_segments_total',
      'knp_tcp_resets_total',
      'knp_tcp_limited_seconds_total',
      'knp_tcp_listen_drops_total',
      'knp_tcp_listen_backlog',
      'knp_tcp_listen_backlog_limit',
      'knp_agent_lost_total',
      'knp_bpf_program_seconds_total',
      'knp_bpf_program_runs_total',
      'knp_bpf_map_entries',
      'knp_bpf_map_capacity',
      'knp_probe_info',
      'knp_agent_coverage_ratio',
      'http_server_request_duration_seconds',
      'http_client_request_duration_seconds',
      'traces_service_graph_request_total',
      'traces_service_graph_request_failed_total',
      'traces_service_graph_request_server_seconds',
      'traces_service_graph_request_client_seconds',
    ]),
  );
});

test('attributes are typed: closed sets as literals, optional ones optional', () => {
  type Failures = AttributesOf<'knp.tcp.connect_failures'>;
  expectTypeOf<Failures['reason']>().toEqualTypeOf<
    | 'refused'
    | 'timed_out'
    | 'unreachable'
    | 'reset'
    | 'no_route'
    | 'prohibited'
    | 'address_unavailable'
    | 'invalid'
    | 'cancelled'
    | 'other'
  >();
  expectTypeOf<Failures['reporter']>().toEqualTypeOf<'client' | 'server'>();
  expectTypeOf<Failures['client_workload']>().toEqualTypeOf<string | number>();
  expectTypeOf<AttributesOf<'knp.agent.lost'>['stage']>().toEqualTypeOf<string | number>();
  expectTypeOf<undefined>().toExtend<Failures['server_service']>();
});

test('the reference names every metric, label and value', () => {
  const text = renderMetricsReference();
  for (const metric of metrics) {
    expect(text).toContain(`### \`${prometheusName(metric)}\`\n`);
    expect(text).toContain(metric.description);
    for (const attribute of metric.attributes) expect(text).toContain(`| \`${labelName(attribute)}\` |`);
  }
  expect(text).toContain(
    '`reason` (refused, timed_out, unreachable, reset, no_route, prohibited, address_unavailable, invalid, cancelled, other)',
  );
});
