// What a probe hands over for one sampled request, and the sink that takes it. Probes fill `SpanRecord`;
// the synthesiser, the live feed and the exemplar adapter read it.
import type { RequestProtocol } from '../requests/protocol.ts';

/** Who an end of a connection belongs to. Structurally the identity package's `Workload`. */
export interface SpanWorkload {
  readonly name: string;
  /** '' outside Kubernetes. */
  readonly namespace: string;
  /** Deployment, StatefulSet, Pod, Node, Unit, Container, Process, CIDR, External, ... */
  readonly kind: string;
  readonly pod?: string | undefined;
  readonly zone?: string | undefined;
}

/**
 * W3C trace context a request carried in its `traceparent` and `tracestate` fields.
 * `parseTraceContext` in trace_context.ts makes one from the raw field values.
 */
export interface TraceContext {
  /** 32 lower-case hexadecimal digits, not all zero. */
  readonly traceId: string;
  /** `parent-id` of the field: 16 lower-case hexadecimal digits, not all zero. */
  readonly parentSpanId: string;
  /** `trace-flags`, one byte; bit 0 is "sampled". */
  readonly flags: number;
  /** The field as received (fields joined by ','); dropped as a whole when it is not valid. */
  readonly tracestate?: string | undefined;
}

/**
 * The server span in whose thread a client call was made. Set it only where that is certain:
 * the same thread, between the first byte of the request it serves and the last byte of its answer.
 */
export interface ServerSpanLink {
  readonly traceId: string;
  readonly spanId: string;
  /** Parent id of that server span, if it has one: tells a forwarded `traceparent` from one of its own. */
  readonly parentSpanId?: string | undefined;
  /** Trace flags of that server span; 1 (sampled) when left out. */
  readonly flags?: number | undefined;
}

/** Why this request was kept. Becomes the attribute `knp.sampling.reason`. */
export type SamplingReason = 'error' | 'slow' | 'parent' | 'share';

/**
 * One sampled request as one end of the connection saw it. Strings may come from the network: hostile.
 * `D` is what only its protocol knows.
 */
export interface SpanRecord<D = unknown> {
  readonly kind: 'server' | 'client';
  /** First byte of the request, nanoseconds since the Unix epoch. */
  readonly startUnixNano: bigint;
  /** Last byte of the response, nanoseconds since the Unix epoch. */
  readonly endUnixNano: bigint;
  readonly client: SpanWorkload;
  readonly server: SpanWorkload;
  /** The server as the client addressed it: textual IP address, no brackets. */
  readonly serverAddress: string;
  readonly serverPort: number;
  /** Textual IP address; left out where the edge holds no exact address. */
  readonly clientAddress?: string | undefined;
  readonly clientPort?: number | undefined;
  readonly protocol: RequestProtocol<D>;
  /** What was asked, as sent: a method, a command. */
  readonly operation: string;
  /** Of what, of low cardinality: a route, a table, a topic; left out when unknown or where there is no such thing. */
  readonly target?: string | undefined;
  /** Of what, exactly, of any cardinality: a path. */
  readonly exactTarget?: string | undefined;
  /** Status of the final response, as the protocol has it; left out when there was none. */
  readonly status?: string | number | undefined;
  /** Low-cardinality reason when the request ended without a complete response, e.g. `connection_reset`. */
  readonly broken?: string | undefined;
  /** Trace context that the request carried. */
  readonly context?: TraceContext | undefined;
  /** Trace id that the probe chose for a request without context; random when left out. */
  readonly traceId?: string | undefined;
  /** Own span id if the probe chose one (children refer to it); random when left out. */
  readonly spanId?: string | undefined;
  /** For client spans: the server span they are a child of, where that is certain. */
  readonly parent?: ServerSpanLink | undefined;
  readonly reason: SamplingReason;
  /** Bytes of the request, without headers where the protocol has them. */
  readonly requestBytes?: number | undefined;
  /** Bytes of the response, without headers where the protocol has them. */
  readonly responseBytes?: number | undefined;
  /** What `protocol.describe` needs beside all this. */
  readonly detail: D;
}

/** Ids of an accepted span: what an exemplar on the duration histogram refers to. Lower-case hexadecimal. */
export interface SpanIdentity {
  readonly traceId: string;
  readonly spanId: string;
}

/** Takes sampled requests. Never throws, never blocks; what it cannot keep it counts. */
export interface SpanSink {
  /** False while spans have no taker (no export configured, no live view): probes may skip sampling altogether. */
  readonly active: boolean;
  /** Returns the ids of the span, or undefined when it was not accepted (and counted as lost). */
  accept(record: SpanRecord): SpanIdentity | undefined;
}
