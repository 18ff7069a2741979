// What spans and the service graph say in metrics: through the store and the real exposition.

import { describe, expect, it } from 'vitest';
import { HTTP_REQUESTS } from '../../../exporter/probes/http/requests.ts';
import { writeExposition } from '../../../exporter/telemetry/out/prometheus.ts';
import { createServiceGraph, type RequestAttributes } from '../../../exporter/telemetry/service_graph.ts';
import { addExemplar, requestExemplar } from '../../../exporter/telemetry/spans/exemplars.ts';
import { createTraceOutput } from '../../../exporter/telemetry/spans/sink.ts';
import { createSpanSource, exportObserver } from '../../../exporter/telemetry/spans/source.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { Receiver } from './receiver.ts';
import { record } from './records.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

function exposition(store: SeriesStore, format: 'text' | 'openmetrics' = 'text'): string[] {
  store.settleNow();
  return [...writeExposition(store.families(), format)].join('').split('\n');
}

function request(changes: Partial<Record<keyof RequestAttributes | string, string>> = {}) {
  return {
    reporter: 'server',
    client_workload: 'shop',
    client_namespace: 'prod',
    client_kind: 'Deployment',
    server_workload: 'cart',
    server_namespace: 'prod',
    server_kind: 'StatefulSet',
    server_port: '8080',
    transport: 'tcp',
    'http.request.method': 'GET',
    'http.response.status_code': '200',
    ...changes,
  } as Parameters<SeriesStore['histogram']>[1] & RequestAttributes;
}

/** Adds to the duration histogram and to the graph, as the HTTP probe does. */
function count(
  store: SeriesStore,
  changes: Parameters<typeof request>[0],
  requests: number,
  seconds: number,
): void {
  const attributes = request(changes);
  const name =
    attributes.reporter === 'server' ? 'http.server.request.duration' : 'http.client.request.duration';
  const bounds = store.bounds(name);
  const counts = new Array(bounds.length + 1).fill(0);
  counts[bounds.findIndex((bound) => seconds <= bound)] = requests;
  store.histogram(name, attributes as never).addBuckets(counts, requests * seconds);
  createServiceGraph(store, HTTP_REQUESTS, bounds)
    .edge(attributes)
    .addBuckets(counts, requests * seconds);
}

const EDGE = 'client="shop",server="cart",client_service_namespace="prod",server_service_namespace="prod"';

describe('service graph', () => {
  it('has the names and labels that Grafana queries', () => {
    const store = new SeriesStore();
    count(store, {}, 90, 0.2);
    count(store, { 'http.response.status_code': '503', 'error.type': '503' }, 10, 0.02);
    count(store, { reporter: 'client' }, 100, 0.3);
    const lines = exposition(store).filter((line) => line.startsWith('traces_'));
    // graphTransform.ts of Grafana's Tempo data source: total, failed, seconds and histogram metric.
    expect(lines).toContain(`traces_service_graph_request_total{${EDGE}} 100`);
    expect(lines).toContain(`traces_service_graph_request_failed_total{${EDGE}} 10`);
    expect(lines).toContain(`traces_service_graph_request_server_seconds_sum{${EDGE}} 18.2`);
    expect(lines).toContain(`traces_service_graph_request_server_seconds_count{${EDGE}} 100`);
    expect(lines).toContain(`traces_service_graph_request_server_seconds_bucket{${EDGE},le="0.25"} 100`);
    expect(lines).toContain(`traces_service_graph_request_server_seconds_bucket{${EDGE},le="0.1"} 10`);
    expect(lines).toContain(`traces_service_graph_request_client_seconds_sum{${EDGE}} 30`);
    expect(lines).toContain(`traces_service_graph_request_client_seconds_count{${EDGE}} 100`);
    expect(exposition(store).filter((line) => line.startsWith('# TYPE traces_'))).toEqual([
      '# TYPE traces_service_graph_request_total counter',
      '# TYPE traces_service_graph_request_failed_total counter',
      '# TYPE traces_service_graph_request_server_seconds histogram',
      '# TYPE traces_service_graph_request_client_seconds histogram',
    ]);
  });

  it('a request seen from both ends is counted once, one that leaves the cluster by its client', () => {
    const store = new SeriesStore();
    count(store, {}, 7, 0.2);
    count(store, { reporter: 'client' }, 7, 0.2);
    const outside = { server_workload: 'external', server_namespace: '', server_kind: 'External' };
    count(store, { reporter: 'client', ...outside, 'error.type': '404' }, 5, 0.2);
    count(store, { client_workload: 'external', client_namespace: '', client_kind: 'External' }, 3, 0.2);
    const totals = exposition(store).filter((line) =>
      /^traces_service_graph_request(_failed)?_total/.test(line),
    );
    expect(totals.sort()).toEqual(
      [
        'traces_service_graph_request_failed_total{client="external",server="cart",server_service_namespace="prod",connection_type="virtual_node"} 0',
        'traces_service_graph_request_failed_total{client="shop",server="external",client_service_namespace="prod",connection_type="virtual_node"} 5',
        `traces_service_graph_request_failed_total{${EDGE}} 0`,
        'traces_service_graph_request_total{client="external",server="cart",server_service_namespace="prod",connection_type="virtual_node"} 3',
        'traces_service_graph_request_total{client="shop",server="external",client_service_namespace="prod",connection_type="virtual_node"} 5',
        `traces_service_graph_request_total{${EDGE}} 7`,
      ].sort(),
    );
  });

  it('sums equal those of the duration histograms, whatever the limit folds', () => {
    const store = new SeriesStore({ seriesPerMetric: 20 });
    let expected = 0;
    let failed = 0;
    for (let round = 1; round <= 5; round++) {
      for (let i = 0; i < 60; i++) {
        const broken = i % 3 === 0;
        count(
          store,
          { client_workload: `c${i}`, ...(broken && { 'error.type': '500' }) },
          i * round + 1,
          0.05,
        );
        expected += i * round + 1;
        if (broken) failed += i * round + 1;
      }
      store.begin(Date.now() + round * 1000);
      store.settleNow();
    }
    const lines = exposition(store);
    const sum = (name: string) =>
      lines
        .filter((line) => line.startsWith(`${name}{`))
        .reduce((total, line) => total + Number(line.split('} ')[1]), 0);
    expect(
      lines.filter((line) => line.startsWith('traces_service_graph_request_total{')).length,
    ).toBeLessThan(30);
    expect(sum('http_server_request_duration_seconds_count')).toBe(expected);
    expect(sum('traces_service_graph_request_server_seconds_count')).toBe(expected);
    expect(sum('traces_service_graph_request_total')).toBe(expected);
    expect(sum('traces_service_graph_request_failed_total')).toBe(failed);
  });
});

describe('exemplars', () => {
  it("a sampled request's trace id reaches the bucket that counts it", () => {
    const store = new SeriesStore();
    const histogram = store.histogram('http.server.request.duration', request() as never);
    histogram.observe(0.250000001);
    addExemplar(histogram, record(), { traceId: TRACE, spanId: SPAN });
    const lines = exposition(store, 'openmetrics').filter((line) => line.includes(TRACE));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^http_server_request_duration_seconds_bucket\{.*,le="0\.5"\} 1 # \{/);
    expect(lines[0]).toContain(`trace_id="${TRACE}"`);
    expect(lines[0]).toContain(`span_id="${SPAN}"`);
    expect(lines[0]).toContain('} 0.250000001 1795442400.373');
  });

  it('a span that was not taken leaves none', () => {
    const store = new SeriesStore();
    const histogram = store.histogram('http.server.request.duration', request() as never);
    histogram.observe(0.25);
    addExemplar(histogram, record(), undefined);
    expect(exposition(store, 'openmetrics').filter((line) => line.includes('trace_id'))).toEqual([]);
    expect(requestExemplar(record({ endUnixNano: 0n }), { traceId: TRACE, spanId: SPAN }).value).toBe(0);
  });
});

describe('metrics of the output', () => {
  it('created = exported + dropped + queued, by reason, and lost says the same', async () => {
    const receiver = await new Receiver().start();
    receiver.policy = (n) => (n === 0 ? { kind: 'partial', rejected: 2, message: 'no' } : { kind: 'accept' });
    const store = new SeriesStore();
    const output = createTraceOutput({
      resource: { host: 'h', agentVersion: '0' },
      settings: {
        endpoint: receiver.endpoint,
        insecure: false,
        headers: {},
        timeout_seconds: 5,
        queue_spans: 20,
        batch_spans: 10,
        delay_millis: 10,
        concurrency: 1,
        retry_seconds: 5,
      },
      onExport: exportObserver(store),
    });
    const source = createSpanSource(output, store);
    for (let i = 0; i < 25; i++) output.accept(record({ kind: i < 15 ? 'server' : 'client' }));
    await source.collect(0);
    await output.flush();
    await source.collect(0);
    await source.collect(0);
    const lines = exposition(store);
    for (const line of [
      'knp_spans_created_total{kind="server"} 15',
      'knp_spans_created_total{kind="client"} 10',
      'knp_spans_exported_total 18',
      'knp_spans_dropped_total{reason="queue_full"} 5',
      'knp_spans_dropped_total{reason="partial_success"} 2',
      'knp_spans_dropped_total{reason="rejected"} 0',
      'knp_agent_lost_total{stage="spans_queue_full"} 5',
      'knp_agent_lost_total{stage="spans_partial_success"} 2',
      'knp_spans_queued 0',
      'knp_spans_queue_capacity 20',
      'knp_otlp_exports_total{signal="traces",outcome="success"} 1',
      'knp_otlp_exports_total{signal="traces",outcome="partial"} 1',
      'knp_otlp_rejected_items_total{signal="traces"} 2',
      'knp_otlp_export_duration_seconds_count{signal="traces"} 2',
    ])
      expect(lines).toContain(line);
    await output.shutdown(0);
    receiver.stop();
  });

  it('without an export nobody is asked to sample, and only `created` is shown', () => {
    const output = createTraceOutput({ resource: { host: 'h', agentVersion: '0' } });
    expect(output.active).toBe(false);
    expect(output.accept(record())).toBeUndefined();
    const store = new SeriesStore();
    void createSpanSource(output, store).collect(0);
    expect(exposition(store).filter((line) => line.startsWith('knp_spans_exported'))).toEqual([]);
  });
});
