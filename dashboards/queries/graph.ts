// Queries whose answers Grafana's node graph panel reads: frames with `id`, `title`, `subtitle` (nodes) and `id`,
// `source`, `target` (edges). A node's id is namespace/workload.
// https://grafana.com/docs/grafana/latest/panels-visualizations/visualizations/node-graph/#data-api
import {
  and,
  divide,
  labelFrom,
  multiply,
  or,
  quantile,
  rate,
  sum,
  topk,
  type Vector,
} from '../promql/expression.ts';
import { variable } from '../promql/matchers.ts';
import type { Range } from '../promql/names.ts';
import { counter, histogram } from '../promql/select.ts';
import { CLIENT, EDGE_SCOPE, PAIR, SERVER } from './scope.ts';
import { throughput } from './tcp.ts';

const PANEL: Range = '$__range';
/** A map of more edges than this is a ball of wool. */
const EDGES = 200;

const CALLER = ['client_service_namespace', 'client'] as const;
const CALLED = ['server_service_namespace', 'server'] as const;
/** A pair may have edges of several types. */
const BOTH = [...CALLER, ...CALLED, 'connection_type'] as const;
const scope = { cluster: variable('cluster'), server_service_namespace: variable('namespace') };

const requests = <K extends (typeof BOTH)[number]>(by: readonly K[]): Vector<K> =>
  sum(rate(counter('traces_service_graph_request_total', scope), PANEL), by);
const failed = <K extends (typeof BOTH)[number]>(by: readonly K[]): Vector<K> =>
  sum(rate(counter('traces_service_graph_request_failed_total', scope), PANEL), by);
const latency = <K extends (typeof BOTH)[number]>(by: readonly K[]): Vector<Exclude<K, 'le'>> =>
  quantile(
    0.95,
    sum(rate(histogram('traces_service_graph_request_server_seconds', scope).bucket, PANEL), [
      ...by,
      'le' as const,
    ]),
  );

type Node = 'id' | 'title' | 'subtitle';
type Edge = 'id' | 'source' | 'target';

/** Turns the labels of one end into those of a node. */
const node = <L extends string>(of: Vector<L>, namespace: L, name: L): Vector<Node> =>
  sum(
    labelFrom(labelFrom(labelFrom(of, 'id', [namespace, name]), 'title', [name]), 'subtitle', [namespace]),
    ['id', 'title', 'subtitle'],
  );

const edge = <L extends string>(of: Vector<L>, from: readonly L[], to: readonly L[]): Vector<Edge> =>
  sum(labelFrom(labelFrom(labelFrom(of, 'source', from), 'target', to), 'id', [...from, ...to]), [
    'id',
    'source',
    'target',
  ]);

const called = (of: Vector<(typeof CALLED)[number]>): Vector<Node> =>
  node(of, 'server_service_namespace', 'server');

/** The busiest edges: what the map shows, and by which its nodes are chosen. */
const top = (): Vector<(typeof BOTH)[number]> => topk(EDGES, requests(BOTH));
const onMap = (of: Vector<(typeof CALLED)[number]>): Vector<Node> => called(and(of, sum(top(), CALLED)));
const errors = <K extends (typeof BOTH)[number]>(by: readonly K[]): Vector<K> =>
  divide(failed(by), requests(by));

export const requestNodes = {
  /** Requests per second that a node answers; callers that answer none are there with 0. */
  rate: (): Vector<Node> =>
    or(onMap(requests(CALLED)), node(multiply(sum(top(), CALLER), 0), 'client_service_namespace', 'client')),
  errors: (): Vector<Node> => onMap(errors(CALLED)),
  latency: (): Vector<Node> => onMap(latency(CALLED)),
};

/** The same pairs as rows of a table. */
export const requestPairs = {
  rate: top,
  errors: () => and(errors(BOTH), top()),
  latency: () => and(latency(BOTH), top()),
  /** As the client measures it: the way there and back included. */
  clientLatency: () =>
    and(
      quantile(
        0.95,
        sum(rate(histogram('traces_service_graph_request_client_seconds', scope).bucket, PANEL), [
          ...BOTH,
          'le' as const,
        ]),
      ),
      top(),
    ),
};

export const requestEdges = {
  rate: (): Vector<Edge> => edge(requestPairs.rate(), CALLER, CALLED),
  errors: (): Vector<Edge> => edge(requestPairs.errors(), CALLER, CALLED),
  latency: (): Vector<Edge> => edge(requestPairs.latency(), CALLER, CALLED),
};

const tcpBytes = <K extends (typeof PAIR)[number]>(by: readonly K[]): Vector<K> =>
  throughput('inbound', by, PANEL);
const topTcp = (): Vector<(typeof PAIR)[number]> => topk(EDGES, tcpBytes(PAIR));

export const tcpNodes = {
  bytes: (): Vector<Node> =>
    or(
      node(and(tcpBytes(SERVER), sum(topTcp(), SERVER)), 'server_namespace', 'server_workload'),
      node(multiply(sum(topTcp(), CLIENT), 0), 'client_namespace', 'client_workload'),
    ),
};
export const tcpEdges = {
  bytes: (): Vector<Edge> => edge(topTcp(), CLIENT, SERVER),
  rtt: (): Vector<Edge> =>
    edge(
      and(
        quantile(
          0.95,
          sum(rate(histogram('knp.tcp.rtt', EDGE_SCOPE.inbound).bucket, PANEL), [...PAIR, 'le' as const]),
        ),
        topTcp(),
      ),
      CLIENT,
      SERVER,
    ),
};
