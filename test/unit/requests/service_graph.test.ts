// The service graph of two protocols: types of connections, failures, and buckets that differ from the graph's.
import { describe, expect, it } from 'vitest';
import { HTTP_REQUESTS } from '../../../exporter/probes/http/requests.ts';
import { writeExposition } from '../../../exporter/telemetry/out/prometheus.ts';
import type { RequestProtocol } from '../../../exporter/telemetry/requests/protocol.ts';
import { createServiceGraph, type RequestAttributes } from '../../../exporter/telemetry/service_graph.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { STORE, STORE_SECONDS } from './second_protocol.ts';

const REQUEST: RequestAttributes = {
  reporter: 'server',
  client_workload: 'shop',
  client_namespace: 'prod',
  client_kind: 'Deployment',
  server_workload: 'cart',
  server_namespace: 'prod',
  server_kind: 'StatefulSet',
};
const EDGE = 'client="shop",server="cart",client_service_namespace="prod",server_service_namespace="prod"';
const HTTP_BOUNDS = HTTP_REQUESTS.durations.server.buckets ?? [];

function lines(store: SeriesStore): string[] {
  store.settleNow();
  return [...writeExposition(store.families(), 'text')]
    .join('')
    .split('\n')
    .filter((line) => line.startsWith('traces_'));
}

/** Adds one request per bucket. */
function count(
  store: SeriesStore,
  protocol: RequestProtocol,
  bounds: readonly number[],
  changes: Partial<RequestAttributes> = {},
) {
  createServiceGraph(store, protocol, bounds)
    .edge({ ...REQUEST, ...changes })
    .addBuckets(new Array(bounds.length + 1).fill(1), 7);
}

describe('connection_type', () => {
  it.each<[string, RequestProtocol, Partial<RequestAttributes>, string]>([
    ['plain', HTTP_REQUESTS, {}, ''],
    ['to outside', HTTP_REQUESTS, { reporter: 'client', server_kind: 'External' }, 'virtual_node'],
    ['to a named range', HTTP_REQUESTS, { reporter: 'client', server_kind: 'CIDR' }, 'virtual_node'],
    ['from outside', HTTP_REQUESTS, { client_kind: 'External' }, 'virtual_node'],
    ['a database', STORE, {}, 'database'],
    ['a database outside', STORE, { reporter: 'client', server_kind: 'External' }, 'database'],
    ['messages', { ...STORE, connectionType: 'messaging_system' }, {}, 'messaging_system'],
  ])('%s', (_, protocol, changes, type) => {
    const store = new SeriesStore();
    count(store, protocol, HTTP_BOUNDS, changes);
    const totals = lines(store).filter((line) => line.startsWith('traces_service_graph_request_total{'));
    expect(totals).toEqual([
      `traces_service_graph_request_total{${EDGE}${type && `,connection_type="${type}"`}} 15`,
    ]);
    const types = lines(store)
      .filter((line) => line.includes('{'))
      .map((line) => /connection_type="(\w+)"/.exec(line)?.[1] ?? '');
    expect(new Set(types)).toEqual(new Set([type]));
  });

  it('two protocols between the same two workloads are two edges', () => {
    const store = new SeriesStore();
    count(store, HTTP_REQUESTS, HTTP_BOUNDS);
    count(store, STORE, HTTP_BOUNDS, { 'error.type': 'WRONGTYPE' });
    const all = lines(store);
    expect(all).toContain(`traces_service_graph_request_total{${EDGE}} 15`);
    expect(all).toContain(`traces_service_graph_request_failed_total{${EDGE}} 0`);
    expect(all).toContain(`traces_service_graph_request_total{${EDGE},connection_type="database"} 15`);
    expect(all).toContain(`traces_service_graph_request_failed_total{${EDGE},connection_type="database"} 15`);
  });
});

describe('buckets', () => {
  const buckets = (store: SeriesStore) =>
    lines(store).flatMap((line) => {
      const [, le, value] = /server_seconds_bucket\{.*le="([^"]+)"\} (\d+)$/.exec(line) ?? [];
      return le === undefined ? [] : [[Number(le.replace('+Inf', 'Infinity')), Number(value)] as const];
    });

  it('the same bounds: the same counts', () => {
    const store = new SeriesStore();
    count(store, HTTP_REQUESTS, HTTP_BOUNDS);
    expect(buckets(store)).toEqual([...HTTP_BOUNDS, Number.POSITIVE_INFINITY].map((le, i) => [le, i + 1]));
  });

  it('other bounds: exact where both have one, never faster than it was, and nothing lost', () => {
    const store = new SeriesStore();
    count(store, STORE, STORE_SECONDS);
    const graph = buckets(store);
    expect(graph.map(([le]) => le)).toEqual([...HTTP_BOUNDS, Number.POSITIVE_INFINITY]);
    for (const [le, cumulative] of graph) {
      const known = STORE_SECONDS.filter((bound) => bound <= le).length;
      if (le === Number.POSITIVE_INFINITY) expect(cumulative).toBe(STORE_SECONDS.length + 1);
      else expect(cumulative, `${le}`).toBe(known);
    }
    expect(lines(store)).toContain(
      `traces_service_graph_request_server_seconds_sum{${EDGE},connection_type="database"} 7`,
    );
  });

  it('bounds beyond those of the graph count in its last bucket', () => {
    const store = new SeriesStore();
    count(store, STORE, [1, 60]);
    expect(buckets(store).slice(-2)).toEqual([
      [10, 1],
      [Number.POSITIVE_INFINITY, 3],
    ]);
  });
});
