// The series that one kind of command feeds: duration, and the service graph. Made by source.ts, one for each edge, command, database, status and error.
import type { Btf } from '../../kernel/btf.ts';
import type { ServiceGraph, ServiceGraphEdge } from '../../telemetry/service_graph.ts';
import type { Histogram, SeriesStore } from '../../telemetry/store.ts';
import { type EdgeLabelOptions, edgeAttributes, type NamedEdge } from '../edges.ts';
import { enumNames, type RequestKey } from '../requests/records.ts';
import type { Difference, RequestSeries } from '../requests/table.ts';
import { DURATIONS } from './metrics.ts';
import { REDIS_REQUESTS } from './requests.ts';

/** What is beyond what numbers can tell apart, in names and databases. */
const OTHER = '_OTHER';
/** `REDIS_DATABASE_*` of bpf/protocol/redis/redis_state.h. */
const DATABASE_UNKNOWN = 0;
const DATABASE_FIRST = 1;
const DATABASE_OTHER = 255;

/** What the numbers in a key of Redis mean. */
export class RedisNames {
  readonly #commands: readonly string[];
  readonly #statuses: readonly string[];

  /** @param btf of the object redis */
  constructor(btf: Btf) {
    const named = (type: string, prefix: string) =>
      enumNames(btf, type, prefix).map((name) => (name === 'OTHER' ? OTHER : name));
    this.#commands = named('redis_command', 'REDIS_COMMAND_');
    this.#statuses = named('redis_status', 'REDIS_STATUS_');
  }

  command(operation: number): string {
    return this.#commands[operation] ?? OTHER;
  }

  /** `QUEUED` or the first word of an error; undefined: neither. */
  status(status: number): string | undefined {
    const name = this.#statuses[status] ?? OTHER;
    return name === 'NONE' || name === 'OK' ? undefined : name;
  }

  database(detail: number): string | undefined {
    if (detail === DATABASE_UNKNOWN) return undefined;
    return detail === DATABASE_OTHER ? OTHER : String(detail - DATABASE_FIRST);
  }
}

/** Attributes of a command beside its edge's. */
export function commandAttributes(
  edge: NamedEdge,
  key: RequestKey,
  { labels, names }: { readonly labels: EdgeLabelOptions; readonly names: RedisNames },
) {
  const attributes = edgeAttributes(edge, labels);
  const status = names.status(key.status);
  return {
    ...attributes,
    'db.system.name': 'redis',
    'db.operation.name': names.command(key.operation),
    'db.namespace': names.database(key.detail),
    'db.response.status_code': status,
    'error.type': REDIS_REQUESTS.errorType(attributes.reporter, { status, broken: key.error }),
  } as const;
}

export class RedisSeries implements RequestSeries {
  readonly duration: Histogram;
  readonly #graph: ServiceGraphEdge;

  constructor(store: SeriesStore, graph: ServiceGraph, attributes: ReturnType<typeof commandAttributes>) {
    this.duration = store.histogram(DURATIONS[attributes.reporter], attributes as never);
    this.#graph = graph.edge(attributes as never);
  }

  add(difference: Difference): void {
    this.duration.addBuckets(difference.durations, difference.durationSeconds);
    this.#graph.addBuckets(difference.durations, difference.durationSeconds);
  }

  retain(): void {
    this.duration.retain();
    this.#graph.retain();
  }
}
