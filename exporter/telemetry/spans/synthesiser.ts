// Turns the record of a sampled request into a span by OpenTelemetry's HTTP semantic conventions
// (https://opentelemetry.io/docs/specs/semconv/http/http-spans/). Used by the span sink.

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
import { randomSpanId, randomTraceId } from './ids.ts';
import { ResourceCache, type ResourceOptions } from './resource_cache.ts';
import { cleanPath, cleanText } from './text.ts';
import { ForwardedTraceState, isSpanId, isTraceId, parseTracestate } from './trace_context.ts';
import type { ServerSpanLink, SpanRecord, TraceContext } from './types.ts';

/** RFC 9110 section 9 and RFC 5789; everything else is `_OTHER`. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']);
const METHOD_LIMIT = 64;
const PATH_LIMIT = 2048;
const ROUTE_LIMIT = 512;
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

class HttpSpan implements ReadableSpan {
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

function fullUrl(record: SpanRecord, scheme: string, path: string): string {
  const host = record.serverAddress.includes(':') ? `[${record.serverAddress}]` : record.serverAddress;
  const usual = record.serverPort === (scheme === 'https' ? 443 : 80);
  return `${scheme}://${host}${usual ? '' : `:${record.serverPort}`}${path.startsWith('/') ? path : ''}`;
}

function describeClient(
  attributes: Attributes,
  record: SpanRecord,
  scheme: string,
  path: string | undefined,
) {
  if (path !== undefined) attributes['url.full'] = fullUrl(record, scheme, path);
  if (!UNNAMED_PEERS.has(record.server.kind) && record.server.name !== '') {
    attributes['peer.service'] = cleanText(record.server.name, WORD_LIMIT);
    attributes['service.peer.name'] = attributes['peer.service'];
    if (record.server.namespace !== '')
      attributes['service.peer.namespace'] = cleanText(record.server.namespace, WORD_LIMIT);
  }
}

function describeServer(attributes: Attributes, record: SpanRecord, path: string | undefined) {
  if (path !== undefined) attributes['url.path'] = path;
  if (record.clientAddress !== undefined && record.clientAddress !== '') {
    attributes['client.address'] = record.clientAddress;
    if (record.clientPort !== undefined && record.clientPort > 0)
      attributes['client.port'] = record.clientPort;
  }
}

function describeBytes(attributes: Attributes, record: SpanRecord) {
  if (record.requestBodySize !== undefined) attributes['http.request.body.size'] = record.requestBodySize;
  if (record.responseBodySize !== undefined) attributes['http.response.body.size'] = record.responseBodySize;
  if (record.timeToFirstByteNanos !== undefined)
    attributes['knp.http.time_to_first_byte'] = Number(record.timeToFirstByteNanos) / 1e9;
}

/** SERVER spans fail at 5xx, CLIENT spans at 4xx and 5xx, both when the exchange broke. */
function outcome(record: SpanRecord): { status: SpanStatus; errorType?: string } {
  if (record.errorType !== undefined && record.errorType !== '') {
    const errorType = cleanText(record.errorType, WORD_LIMIT);
    return { status: { code: SpanStatusCode.ERROR, message: errorType }, errorType };
  }
  const failed = record.status !== undefined && record.status >= (record.kind === 'server' ? 500 : 400);
  return failed
    ? { status: { code: SpanStatusCode.ERROR }, errorType: String(record.status) }
    : { status: { code: SpanStatusCode.UNSET } };
}

function describe(record: SpanRecord) {
  const known = METHODS.has(record.method);
  const scheme = record.scheme ?? 'http';
  const route = record.route === undefined ? undefined : cleanText(record.route, ROUTE_LIMIT);
  const path = record.path === undefined ? undefined : cleanPath(record.path, PATH_LIMIT);
  const { status, errorType } = outcome(record);

  const attributes: Attributes = { 'http.request.method': known ? record.method : '_OTHER' };
  if (!known) attributes['http.request.method_original'] = cleanText(record.method, METHOD_LIMIT);
  // Semantic conventions keep http.route to servers; a client's low-cardinality path is the url.template.
  if (route !== undefined) attributes[record.kind === 'server' ? 'http.route' : 'url.template'] = route;
  if (record.status !== undefined) attributes['http.response.status_code'] = record.status;
  if (errorType !== undefined) attributes['error.type'] = errorType;
  attributes['url.scheme'] = scheme;
  attributes['server.address'] = record.serverAddress;
  attributes['server.port'] = record.serverPort;
  attributes['network.protocol.name'] = record.protocol;
  if (record.protocolVersion !== undefined)
    attributes['network.protocol.version'] = cleanText(record.protocolVersion, WORD_LIMIT);
  if (record.kind === 'server') describeServer(attributes, record, path);
  else describeClient(attributes, record, scheme, path);
  describeBytes(attributes, record);
  attributes['knp.sampling.reason'] = record.reason;

  const verb = known ? record.method : 'HTTP';
  return {
    name: route === undefined ? verb : `${verb} ${route}`,
    kind: record.kind === 'server' ? SpanKind.SERVER : SpanKind.CLIENT,
    status,
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
      const span = new HttpSpan(placeSpan(record), start, end, describe(record), { resource, scope });
      return { span, bytes: estimateBytes(span) };
    },
  };
}
