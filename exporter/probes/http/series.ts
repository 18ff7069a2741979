// The series that one kind of request feeds: duration, time to first byte, sizes, and the service graph. Made by
// source.ts, one for each edge, route, method, status, version and error.
import type { ServiceGraph, ServiceGraphEdge } from '../../telemetry/service_graph.ts';
import type { Histogram, SeriesStore } from '../../telemetry/store.ts';
import { type EdgeLabelOptions, edgeAttributes, type NamedEdge } from '../edges.ts';
import type { RequestKey } from './records.ts';
import { HTTP_REQUESTS } from './requests.ts';

/** What was added since the last collection; bounds are the catalogue's. */
export interface Difference {
  readonly durations: Float64Array;
  readonly durationSeconds: number;
  readonly firstBytes: Float64Array;
  readonly firstByteSeconds: number;
  readonly requestSizes: Float64Array;
  readonly requestBytes: number;
  readonly responseSizes: Float64Array;
  readonly responseBytes: number;
}

/** Attributes of a request beside its edge's. */
export function requestAttributes(
  edge: NamedEdge,
  key: RequestKey,
  route: string | undefined,
  labels: EdgeLabelOptions,
) {
  const attributes = edgeAttributes(edge, labels);
  return {
    ...attributes,
    'http.request.method': key.method,
    'http.response.status_code': key.status === 0 ? undefined : key.status,
    'http.route': route === '' ? undefined : route,
    'url.scheme': 'http',
    'network.protocol.version': key.version,
    'error.type': HTTP_REQUESTS.errorType(attributes.reporter, { status: key.status, broken: key.error }),
  } as const;
}

export class RequestSeries {
  readonly duration: Histogram;
  readonly #firstByte: Histogram | undefined;
  readonly #requestSize: Histogram;
  readonly #responseSize: Histogram;
  readonly #graph: ServiceGraphEdge;

  constructor(store: SeriesStore, graph: ServiceGraph, attributes: ReturnType<typeof requestAttributes>) {
    const side = attributes.reporter;
    const all = attributes as never;
    this.duration = store.histogram(`http.${side}.request.duration`, all);
    this.#firstByte =
      side === 'server' ? store.histogram('knp.http.server.time_to_first_byte', all) : undefined;
    this.#requestSize = store.histogram(`http.${side}.request.body.size`, all);
    this.#responseSize = store.histogram(`http.${side}.response.body.size`, all);
    this.#graph = graph.edge(all);
  }

  add(difference: Difference): void {
    this.duration.addBuckets(difference.durations, difference.durationSeconds);
    this.#graph.addBuckets(difference.durations, difference.durationSeconds);
    this.#firstByte?.addBuckets(difference.firstBytes, difference.firstByteSeconds);
    this.#requestSize.addBuckets(difference.requestSizes, difference.requestBytes);
    this.#responseSize.addBuckets(difference.responseSizes, difference.responseBytes);
  }

  retain(): void {
    this.duration.retain();
    this.#graph.retain();
    this.#firstByte?.retain();
    this.#requestSize.retain();
    this.#responseSize.retain();
  }
}
