// Turns the record of a sampled request into a span: its place in the trace, its times, both ends and what went wrong;
// the record's protocol says the rest by its own semantic conventions. Used by the span sink.

import {
  type Attributes,
  type HrTime,
  type Link,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  SpanStatusCode,
} from '@opentelemetry/api';
import type { InstrumentationScope } from '@opentelemetry/core';
import type { Resource } from '@opentelemetry/resources';
import type { ReadableSpan, TimedEvent } from '@opentelemetry/sdk-trace';
import { ERROR_ATTRIBUTE, errorTypeOf } from '../requests/protocol.ts';
import { randomSpanId, randomTraceId } from './ids.ts';
import { ResourceCache, type ResourceOptions } from './resource_cache.ts';
import { cleanText } from './text.ts';
import { ForwardedTraceState, isSpanId, isTraceId, parseTracestate } from './trace_context.ts';
import type { ServerSpanLink, SpanRecord, TraceContext } from './types.ts';

const WORD_LIMIT = 128;
const NANOS_PER_SECOND = 1_000_000_000n;
const FLAG_SAMPLED = 0x01;
/** Level 2: the trace id was drawn at random. Other bits must not be handed on. */
const FLAG_RANDOM = 0x02;
const UNNAMED_PEERS = new Set(['External', 'CIDR', 'Unknown']);

const NO_EVENTS: TimedEvent[] = [];
const NO_LINKS: Link[] = [];

/** A finished span and an upper estimate of the memory it holds. */
export interface SynthesisedSpan {
  readonly span: ReadableSpan;
  readonly bytes: number;
}

/** Turns records into spans; keeps no state but the resources. */
export interface Synthesiser {
  synthesise(record: SpanRecord): SynthesisedSpan;
  /** Resources held now. */
  readonly resources: number;
}

class RequestSpan implements ReadableSpan {
  readonly name: string;
  readonly kind: SpanKind;
  readonly parentSpanContext?: SpanContext;
  readonly startTime: HrTime;
  readonly endTime: HrTime;
  readonly duration: HrTime;
  readonly status: SpanStatus;
  readonly attributes: Attributes;
  readonly links: Link[];
  readonly events: TimedEvent[] = NO_EVENTS;
  readonly ended = true;
  readonly resource: Resource;
  readonly instrumentationScope: InstrumentationScope;
  readonly droppedAttributesCount = 0;
  readonly droppedEventsCount = 0;
  readonly droppedLinksCount = 0;
  readonly #context: SpanContext;

  constructor(
    place: SpanPlace,
    start: bigint,
    end: bigint,
    described: { name: string; kind: SpanKind; status: SpanStatus; attributes: Attributes },
    owner: { resource: Resource; scope: InstrumentationScope },
  ) {
    this.name = described.name;
    this.kind = described.kind;
    this.status = described.status;
    this.attributes = described.attributes;
    this.#context = place.context;
    if (place.parent !== undefined) this.parentSpanContext = place.parent;
    this.links = place.links;
    this.startTime = hrTime(start);
    this.endTime = hrTime(end);
    this.duration = hrTime(end - start);
    this.resource = owner.resource;
    this.instrumentationScope = owner.scope;
  }

  spanContext(): SpanContext {
    return this.#context;
  }
}

/** Where a span stands in its trace. */
interface SpanPlace {
  readonly context: SpanContext;
  readonly parent?: SpanContext | undefined;
  readonly links: Link[];
}

function hrTime(nanos: bigint): HrTime {
  return [Number(nanos / NANOS_PER_SECOND), Number(nanos % NANOS_PER_SECOND)];
}

function checkedContext(context: TraceContext | undefined): TraceContext | undefined {
  return context !== undefined && isTraceId(context.traceId) && isSpanId(context.parentSpanId)
    ? context
    : undefined;
}

function checkedLink(record: SpanRecord): ServerSpanLink | undefined {
  const link = record.kind === 'client' ? record.parent : undefined;
  return link !== undefined && isTraceId(link.traceId) && isSpanId(link.spanId) ? link : undefined;
}

/**
 * Decides trace id, parent and links.
 * - The request's own context names the parent, for both ends.
 * - A client call under a known server span becomes its child if the request carried no context, or the very one that
 *   the server span had received (a proxy passing headers on). Otherwise the application traced the call itself: its
 *   context stands, and the server span becomes a link if it is of another trace.
 * - Otherwise the span starts a trace.
 */
function placeSpan(record: SpanRecord): SpanPlace {
  const received = checkedContext(record.context);
  const server = checkedLink(record);
  const spanId = record.spanId !== undefined && isSpanId(record.spanId) ? record.spanId : randomSpanId();
  const tracestate = received?.tracestate === undefined ? undefined : parseTracestate(received.tracestate);
  const traceState = tracestate === undefined ? undefined : new ForwardedTraceState(tracestate);
  const make = (traceId: string, id: string, flags: number, isRemote: boolean): SpanContext => ({
    traceId,
    spanId: id,
    traceFlags: flags & (FLAG_SAMPLED | FLAG_RANDOM),
    ...(isRemote && { isRemote }),
    ...(traceState !== undefined && { traceState }),
  });

  const forwarded = received?.traceId === server?.traceId && received?.parentSpanId === server?.parentSpanId;
  if (server !== undefined && (received === undefined || forwarded)) {
    const flags = server.flags ?? FLAG_SAMPLED;
    return {
      context: make(server.traceId, spanId, flags | FLAG_SAMPLED, false),
      parent: make(server.traceId, server.spanId, flags, false),
      links: NO_LINKS,
    };
  }
  if (received !== undefined) {
    const links =
      server !== undefined && server.traceId !== received.traceId
        ? [
            {
              context: {
                traceId: server.traceId,
                spanId: server.spanId,
                traceFlags: server.flags ?? FLAG_SAMPLED,
              },
            },
          ]
        : NO_LINKS;
    // The parent of a client span is the calling process's own span, that of a server span lives in the caller.
    return {
      context: make(received.traceId, spanId, received.flags | FLAG_SAMPLED, false),
      parent: make(received.traceId, received.parentSpanId, received.flags, record.kind === 'server'),
      links,
    };
  }
  const chosen = record.traceId !== undefined && isTraceId(record.traceId) ? record.traceId : randomTraceId();
  return { context: make(chosen, spanId, FLAG_SAMPLED, false), links: NO_LINKS };
}

function describePeer(attributes: Attributes, record: SpanRecord): void {
  if (record.kind === 'client') {
    if (UNNAMED_PEERS.has(record.server.kind) || record.server.name === '') return;
    attributes['peer.service'] = cleanText(record.server.name, WORD_LIMIT);
    attributes['service.peer.name'] = attributes['peer.service'];
    if (record.server.namespace !== '')
      attributes['service.peer.namespace'] = cleanText(record.server.namespace, WORD_LIMIT);
  } else if (record.clientAddress !== undefined && record.clientAddress !== '') {
    attributes['client.address'] = record.clientAddress;
    if (record.clientPort !== undefined && record.clientPort > 0)
      attributes['client.port'] = record.clientPort;
  }
}

/** A status code says by itself why a request failed; a broken exchange has none. */
function statusOf(record: SpanRecord, failed: boolean): SpanStatus {
  if (!failed) return { code: SpanStatusCode.UNSET };
  return record.broken === undefined || record.broken === ''
    ? { code: SpanStatusCode.ERROR }
    : { code: SpanStatusCode.ERROR, message: cleanText(record.broken, WORD_LIMIT) };
}

const KINDS = {
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
} as const;

function describe(record: SpanRecord) {
  const { name, kind, attributes } = record.protocol.describe(record);
  const errorType = errorTypeOf(record);
  if (errorType !== undefined) attributes[ERROR_ATTRIBUTE] = cleanText(errorType, WORD_LIMIT);
  attributes['server.address'] = record.serverAddress;
  attributes['server.port'] = record.serverPort;
  describePeer(attributes, record);
  attributes['knp.sampling.reason'] = record.reason;
  return {
    name,
    kind: KINDS[kind ?? record.kind],
    status: statusOf(record, errorType !== undefined),
    attributes,
  };
}

/** Bytes a span holds beside its texts: objects, contexts, times, the attributes' slots. Measured, rounded up. */
const SPAN_BYTES = 2048;

function estimateBytes(span: ReadableSpan): number {
  let characters = span.name.length;
  for (const key in span.attributes) {
    const value = span.attributes[key];
    if (typeof value === 'string') characters += value.length;
  }
  characters += span.spanContext().traceState?.serialize().length ?? 0;
  // Two bytes a character: V8 stores text outside Latin-1 that way, and UTF-8 needs at most three on the wire.
  return SPAN_BYTES + 2 * characters;
}

/** A synthesiser whose spans carry the scope `kubenetprobe` and one shared Resource per workload. */
export function createSynthesiser(options: ResourceOptions): Synthesiser {
  const resources = new ResourceCache(options);
  const scope: InstrumentationScope = { name: 'kubenetprobe', version: options.agentVersion };
  return {
    get resources() {
      return resources.size;
    },
    synthesise(record) {
      const start = record.startUnixNano > 0n ? record.startUnixNano : 0n;
      const end = record.endUnixNano > start ? record.endUnixNano : start;
      const resource = resources.get(record.kind === 'server' ? record.server : record.client);
      const span = new RequestSpan(placeSpan(record), start, end, describe(record), { resource, scope });
      return { span, bytes: estimateBytes(span) };
    },
  };
}
