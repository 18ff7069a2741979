// What a protocol says about its requests. Each probe that counts requests describes them once, in the data-only module
// requests.ts of its folder; spans, the live view, the service graph, the commands, dashboards and rules read that and
// know no protocol by name.
import type { Attributes } from '@opentelemetry/api';
import type { MetricDefinition } from '../definition.ts';
import type { SpanRecord } from '../spans/types.ts';

/** Which end of a connection measured a request. */
export type Side = 'client' | 'server';

/** The attribute that every protocol's failed requests have, and no others (semantic conventions). */
export const ERROR_ATTRIBUTE = 'error.type';

/** How a request ended. */
export interface RequestOutcome {
  /** Status as the protocol has it: 503, WRONGTYPE, DEADLINE_EXCEEDED; left out when there was none. */
  readonly status?: string | number | undefined;
  /** Why there was no complete response, of low cardinality; left out when there was one. */
  readonly broken?: string | undefined;
}

/** A span of one request, but for what is the same for all protocols: times, place in the trace, ends, error. */
export interface SpanDescription {
  readonly name: string;
  /** Left out: SERVER or CLIENT, by the end that measured. */
  readonly kind?: 'producer' | 'consumer' | undefined;
  readonly attributes: Attributes;
}

/** One attribute of a protocol's metrics, and its heading in tables. */
export interface OperationAttribute {
  readonly attribute: string;
  readonly title: string;
}

/**
 * Requests of one protocol. `D` is what its span records hold beside the fields that all protocols have.
 * All but the two functions is data.
 */
export interface RequestProtocol<D = unknown> {
  /** Unique, lower case: `--protocol`, JSON, the label `protocol` of recording rules. */
  readonly name: string;
  /** For people: HTTP, Redis. */
  readonly title: string;
  /** The histograms in seconds that count its requests, by the end that measures; with the attributes of an edge and `error.type`. */
  readonly durations: Readonly<Record<Side, MetricDefinition>>;
  /** Attributes that tell its series from those of others in the same metrics: `{'db.system.name': 'redis'}`. */
  readonly only?: Readonly<Record<string, string>> | undefined;
  /** Attributes of these metrics that say what was asked, the most telling first. */
  readonly operation: readonly OperationAttribute[];
  /** Attribute that says how it ended. */
  readonly status: OperationAttribute;
  /** What Tempo's service graphs call such an edge; '' for plain requests. */
  readonly connectionType: '' | 'database' | 'messaging_system';
  /** `error.type` of a request by its outcome; undefined where it did not fail. */
  errorType(side: Side, outcome: RequestOutcome): string | undefined;
  /** Its span by the protocol's semantic conventions. Texts of the record may be hostile. */
  describe(record: SpanRecord<D>): SpanDescription;
}

/** One metric out of a probe's table, for its descriptors; throws when the table has none of that name. */
export function metricIn<const T extends readonly MetricDefinition[]>(
  metrics: T,
  name: T[number]['name'],
): MetricDefinition {
  const found = metrics.find((metric) => metric.name === name);
  if (found === undefined) throw new Error(`no metric "${name}" in this table`);
  return found;
}

/** `error.type` of a sampled request; undefined where it did not fail. */
export function errorTypeOf(record: SpanRecord): string | undefined {
  return record.protocol.errorType(record.kind, { status: record.status, broken: record.broken });
}
