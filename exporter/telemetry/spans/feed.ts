// The live view of sampled requests: bounded subscribers with filters, and how a request is written as a JSON line or a
// table row. Fed by the span sink; read by the server's live endpoint and the command `kubenetprobe trace`.

import { errorTypeOf } from '../requests/protocol.ts';
import { cleanPath, cleanText } from './text.ts';
import type { SpanIdentity, SpanRecord, SpanWorkload } from './types.ts';

/** One request as it is shown. Field names are the JSON's. */
export interface TraceLine {
  /** Start, ISO 8601 with milliseconds, UTC. */
  readonly time: string;
  /** Which end saw it. */
  readonly reporter: 'server' | 'client';
  readonly client: string;
  readonly client_namespace: string;
  readonly server: string;
  readonly server_namespace: string;
  readonly server_port: number;
  readonly protocol: string;
  /** What was asked: a method, a command. */
  readonly operation: string;
  /** Of what, of low cardinality: a route, a table, a topic; '' when unknown. */
  readonly target: string;
  /** Of what, exactly: a path. */
  readonly exact_target?: string;
  readonly status?: string | number;
  readonly error_type?: string;
  readonly duration_seconds: number;
  readonly request_bytes?: number;
  readonly response_bytes?: number;
  readonly trace_id: string;
  readonly span_id: string;
  readonly sampling_reason: string;
}

/** Statuses that a subscriber wants to see. */
export type StatusFilter = { readonly from: number; readonly to: number } | { readonly is: string };

/** What a subscriber wants to see; everything when empty. All conditions must hold. */
export interface TraceFilter {
  /** `name` or `namespace/name` of either end. */
  readonly workload?: string | undefined;
  /** Name of a protocol. */
  readonly protocol?: string | undefined;
  /** Inclusive range of status codes, or one status in words; requests without a status never match. */
  readonly status?: StatusFilter | undefined;
  /** Only requests that took longer than this. */
  readonly slowerThanSeconds?: number | undefined;
  /** Only requests that failed, as their protocol defines it. */
  readonly errors?: boolean | undefined;
}

/** Takes lines until closed. */
export interface FeedSubscription {
  /** The next line; undefined after close. One caller at a time. */
  next(): Promise<TraceLine | undefined>;
  /** Lines this subscriber was too slow for. */
  readonly missed: number;
  close(): void;
}

export interface FeedOptions {
  /** Default 8. */
  readonly maxSubscribers?: number | undefined;
  /** Lines kept for a slow subscriber; the oldest goes first. Default 1000. */
  readonly bufferLines?: number | undefined;
}

/** Fans sampled requests out to the live view's readers. Costs nothing while there is none. */
export interface SpanFeed {
  readonly subscribers: number;
  publish(record: SpanRecord, identity: SpanIdentity): void;
  /** Undefined when there are too many subscribers already. */
  subscribe(filter?: TraceFilter): FeedSubscription | undefined;
  /** Ends all subscriptions. */
  close(): void;
}

const TEXT_LIMIT = 256;

function matchesWorkload(workload: SpanWorkload, wanted: string): boolean {
  return workload.name === wanted || `${workload.namespace}/${workload.name}` === wanted;
}

function durationSeconds(record: SpanRecord): number {
  const nanos = record.endUnixNano - record.startUnixNano;
  return nanos > 0n ? Number(nanos) / 1e9 : 0;
}

function matchesStatus(status: SpanRecord['status'], wanted: StatusFilter): boolean {
  if (status === undefined) return false;
  if ('is' in wanted) return status === wanted.is;
  return typeof status === 'number' && status >= wanted.from && status <= wanted.to;
}

/** True when the request is one that `filter` asks for. */
export function matches(record: SpanRecord, filter: TraceFilter): boolean {
  const { workload, protocol, status, slowerThanSeconds, errors } = filter;
  if (
    workload !== undefined &&
    !matchesWorkload(record.client, workload) &&
    !matchesWorkload(record.server, workload)
  )
    return false;
  if (protocol !== undefined && record.protocol.name !== protocol) return false;
  if (status !== undefined && !matchesStatus(record.status, status)) return false;
  if (slowerThanSeconds !== undefined && durationSeconds(record) <= slowerThanSeconds) return false;
  return errors !== true || errorTypeOf(record) !== undefined;
}

/** A record as it is shown; texts cleaned, since they end on a terminal. */
export function traceLine(record: SpanRecord, identity: SpanIdentity): TraceLine {
  const text = (value: string) => cleanText(value, TEXT_LIMIT);
  const { status, exactTarget, requestBytes, responseBytes } = record;
  const errorType = errorTypeOf(record);
  return {
    time: new Date(Number(record.startUnixNano / 1_000_000n)).toISOString(),
    reporter: record.kind,
    client: text(record.client.name),
    client_namespace: text(record.client.namespace),
    server: text(record.server.name),
    server_namespace: text(record.server.namespace),
    server_port: record.serverPort,
    protocol: record.protocol.name,
    operation: text(record.operation),
    target: text(record.target ?? ''),
    ...(exactTarget !== undefined && { exact_target: cleanPath(exactTarget, TEXT_LIMIT) }),
    ...(status !== undefined && { status: typeof status === 'string' ? text(status) : status }),
    ...(errorType !== undefined && { error_type: text(errorType) }),
    duration_seconds: durationSeconds(record),
    ...(requestBytes !== undefined && { request_bytes: requestBytes }),
    ...(responseBytes !== undefined && { response_bytes: responseBytes }),
    trace_id: identity.traceId,
    span_id: identity.spanId,
    sampling_reason: record.reason,
  };
}

class Subscription implements FeedSubscription {
  readonly filter: TraceFilter;
  readonly #limit: number;
  readonly #onClose: (self: Subscription) => void;
  readonly #lines: TraceLine[] = [];
  #waiter: ((line: TraceLine | undefined) => void) | undefined;
  #closed = false;
  #missed = 0;

  constructor(filter: TraceFilter, limit: number, onClose: (self: Subscription) => void) {
    this.filter = filter;
    this.#limit = limit;
    this.#onClose = onClose;
  }

  get missed(): number {
    return this.#missed;
  }

  push(line: TraceLine): void {
    const waiter = this.#waiter;
    if (waiter !== undefined) {
      this.#waiter = undefined;
      waiter(line);
      return;
    }
    if (this.#lines.length >= this.#limit) {
      this.#lines.shift();
      this.#missed++;
    }
    this.#lines.push(line);
  }

  next(): Promise<TraceLine | undefined> {
    const line = this.#lines.shift();
    if (line !== undefined || this.#closed) return Promise.resolve(line);
    return new Promise((resolve) => {
      this.#waiter = resolve;
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose(this);
    this.#waiter?.(undefined);
    this.#waiter = undefined;
  }
}

/** A feed without subscribers. */
export function createSpanFeed(options: FeedOptions = {}): SpanFeed {
  const { maxSubscribers = 8, bufferLines = 1000 } = options;
  const subscriptions = new Set<Subscription>();
  return {
    get subscribers() {
      return subscriptions.size;
    },
    publish(record, identity) {
      let line: TraceLine | undefined;
      for (const subscription of subscriptions) {
        if (!matches(record, subscription.filter)) continue;
        line ??= traceLine(record, identity);
        subscription.push(line);
      }
    },
    subscribe(filter = {}) {
      if (subscriptions.size >= maxSubscribers) return undefined;
      const subscription = new Subscription(filter, bufferLines, (self) => subscriptions.delete(self));
      subscriptions.add(subscription);
      return subscription;
    },
    close() {
      for (const subscription of [...subscriptions]) subscription.close();
    },
  };
}
