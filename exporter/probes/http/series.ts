// The series that one kind of request feeds: duration, time to first byte, sizes, and the service graph. Made by
// source.ts, one for each edge, route, method, status, version and error.
import type { Btf } from '../../kernel/btf.ts';
import type { ServiceGraph, ServiceGraphEdge } from '../../telemetry/service_graph.ts';
import type { Histogram, SeriesStore } from '../../telemetry/store.ts';
import { type EdgeLabelOptions, edgeAttributes, type NamedEdge } from '../edges.ts';
import { enumNames, type RequestKey } from '../requests/records.ts';
import type { Difference, RequestSeries } from '../requests/table.ts';
import { HTTP_REQUESTS } from './requests.ts';

/** What the numbers in a key of HTTP mean. */
export class HttpNames {
  readonly #methods: readonly string[];

  /** @param btf of the object http1 */
  constructor(btf: Btf) {
    this.#methods = enumNames(btf, 'http1_method', 'HTTP1_').map((name) =>
      name.startsWith('METHOD_') ? '_OTHER' : name,
    );
  }

  method(operation: number): string {
    return this.#methods[operation] ?? '_OTHER';
  }

  /** '1.0' or '1.1': the kernel has the last digit. */
  version(detail: number): string {
    return detail === 0x30 ? '1.0' : '1.1';
  }
}

/** Attributes of a request beside its edge's. */
export function requestAttributes(
  edge: NamedEdge,
  key: RequestKey,
  route: string | undefined,
  { labels, names }: { readonly labels: EdgeLabelOptions; readonly names: HttpNames },
) {
  const attributes = edgeAttributes(edge, labels);
  return {
    ...attributes,
    'http.request.method': names.method(key.operation),
    'http.response.status_code': key.status === 0 ? undefined : key.status,
    'http.route': route === '' ? undefined : route,
    'url.scheme': 'http',
    'network.protocol.version': names.version(key.detail),
    'error.type': HTTP_REQUESTS.errorType(attributes.reporter, { status: key.status, broken: key.error }),
  } as const;
}

export class HttpSeries implements RequestSeries {
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
