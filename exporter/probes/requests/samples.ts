// Turns the kernel's sampled requests into span records, in the words of their protocol, and hands them to the span sink.
// stream.ts builds it, the event reader calls it.
import type { Btf, StructLayout } from '../../kernel/btf.ts';
import { parseTraceContext, parseTraceparent } from '../../telemetry/spans/trace_context.ts';
import type {
  SamplingReason,
  ServerSpanLink,
  SpanIdentity,
  SpanRecord,
  SpanSink,
  TraceContext,
} from '../../telemetry/spans/types.ts';
import type { EdgeDirectory, NamedEdge } from '../edges.ts';
import type { Names } from './names.ts';
import type { RequestKey, RequestRecords } from './records.ts';

/** `enum request_sampling_reason`, in order. */
const REASONS: readonly (SamplingReason | undefined)[] = [undefined, 'error', 'slow', 'parent', 'share'];
/** `enum edge_role`. */
const ROLE_CLIENT = 1;

const MASK = 0xffff_ffff_ffff_ffffn;

/** `request_mix` of bpf/requests/spans.h: splitmix64. */
function mix(seed: bigint, request: bigint): bigint {
  let x = (seed + request * 0x9e3779b97f4a7c15n) & MASK;
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return x ^ (x >> 31n);
}

const hex = (value: bigint) => (value === 0n ? 1n : value).toString(16).padStart(16, '0');

/** Ids of a request: those of its own span, and of its trace if it begins one. No other request's are the same. */
export function idsOf(seed: bigint, request: bigint): { readonly spanId: string; readonly traceId: string } {
  return {
    spanId: hex(mix(seed ^ 0x5350414en, request)),
    traceId: hex(mix(seed ^ 0x5452414345n, request)) + hex(mix(seed ^ 0x4944n, request)),
  };
}

/** 16 bytes as text, IPv4 where it is one. */
export function addressText(bytes: Buffer): string {
  if (bytes.subarray(0, 10).every((b) => b === 0) && bytes.readUInt16BE(10) === 0xffff)
    return bytes.subarray(12).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  const text = groups.join(':');
  const zeros = [...text.matchAll(/(?:^|:)0(?::0)+(?:$|(?=:))/g)].sort(
    (a, b) => b[0].length - a[0].length,
  )[0];
  if (zeros === undefined) return text;
  const before = text.slice(0, zeros.index);
  const after = text.slice(zeros.index + zeros[0].length);
  return `${before}::${after.replace(/^:/, '')}`;
}

/** A sampled request as the kernel tells of it, but for what its protocol means by the numbers in `key`. */
export interface Sample {
  readonly kind: 'client' | 'server';
  readonly key: RequestKey;
  /** Its learnt name; '' where it has none yet. */
  readonly name: string;
  readonly edge: NamedEdge;
  readonly startUnixNano: bigint;
  readonly endUnixNano: bigint;
  /** From the request's first byte to the answer's; undefined where there was no answer. */
  readonly firstByteNanos: bigint | undefined;
  readonly client: { readonly address: string; readonly port: number };
  readonly server: { readonly address: string; readonly port: number };
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly context: TraceContext | undefined;
  readonly traceId: string;
  readonly spanId: string;
  readonly parent: ServerSpanLink | undefined;
  readonly reason: SamplingReason;
}

/** What a span record has of a sample whatever its protocol is: all but protocol, operation, status and detail. */
export function spanFields(sample: Sample) {
  const { key, name, edge, client, server } = sample;
  return {
    kind: sample.kind,
    startUnixNano: sample.startUnixNano,
    endUnixNano: sample.endUnixNano,
    client: edge.client,
    server: edge.server,
    serverAddress: server.address,
    serverPort: server.port,
    clientAddress: client.address,
    ...(client.port === 0 ? {} : { clientPort: client.port }),
    ...(name === '' ? {} : { target: name }),
    ...(key.error === '' ? {} : { broken: key.error }),
    context: sample.context,
    traceId: sample.traceId,
    spanId: sample.spanId,
    parent: sample.parent,
    reason: sample.reason,
    requestBytes: sample.requestBytes,
    responseBytes: sample.responseBytes,
  };
}

export interface SamplesOptions {
  readonly btf: Btf;
  readonly records: RequestRecords;
  readonly names: Names | undefined;
  readonly directory: Pick<EdgeDirectory, 'name'>;
  readonly sink: SpanSink;
  /** Takes in edges that are newer than the last collection. */
  readonly learn: () => void;
  /** The span of a sample, in the words of its protocol. */
  readonly record: (sample: Sample) => SpanRecord;
  /** The span was accepted: leaves its id at the histogram that counts the request. */
  readonly exemplar: (sample: Sample, record: SpanRecord, identity: SpanIdentity) => void;
  /** A sampled request whose edge has no name. */
  readonly unnamed: () => void;
}

/** Where the fields of `struct request_span_event` stand. */
class Fields {
  readonly #layout: StructLayout;
  readonly #at = new Map<string, number>();
  #batch = Buffer.alloc(0);
  #start = 0;

  constructor(layout: StructLayout) {
    this.#layout = layout;
  }

  over(batch: Buffer, start: number): this {
    this.#batch = batch as Buffer<ArrayBuffer>;
    this.#start = start;
    return this;
  }

  #offset(name: string): number {
    let at = this.#at.get(name);
    if (at === undefined) {
      at = this.#layout.offset(name);
      this.#at.set(name, at);
    }
    return this.#start + at;
  }

  u8 = (name: string): number => this.#batch.readUInt8(this.#offset(name));
  u16 = (name: string): number => this.#batch.readUInt16LE(this.#offset(name));
  u32 = (name: string): number => this.#batch.readUInt32LE(this.#offset(name));
  u64 = (name: string): bigint => this.#batch.readBigUInt64LE(this.#offset(name));
  bytes = (name: string, length: number): Buffer =>
    this.#batch.subarray(this.#offset(name), this.#offset(name) + length);
  text = (name: string, length: number): string => this.bytes(name, length).toString('latin1');
}

const TRACEPARENT = 55;

/** The trace context that the request carried. A tracestate that was cut loses its last member. */
function contextOf(event: Fields): TraceContext | undefined {
  if (event.u8('has_traceparent') === 0) return undefined;
  const length = event.u16('tracestate_length');
  let state = length === 0 ? undefined : event.text('tracestate', length);
  if (state !== undefined && length >= 240 && state.includes(','))
    state = state.slice(0, state.lastIndexOf(','));
  return parseTraceContext(event.text('traceparent', TRACEPARENT), state);
}

/** The server span that the asking thread was serving. */
function linkOf(event: Fields): ServerSpanLink | undefined {
  const seed = event.u64('link_id');
  if (seed === 0n) return undefined;
  const ids = idsOf(seed, event.u64('link_request'));
  const parent =
    event.u8('link_traceparent') === 0
      ? undefined
      : parseTraceparent(event.text('link_traceparent', TRACEPARENT));
  return parent === undefined
    ? ids
    : { ...ids, traceId: parent.traceId, parentSpanId: parent.parentSpanId, flags: parent.flags };
}

/**
 * The Unix epoch on CLOCK_MONOTONIC. The wall clock is read in whole milliseconds, so the true difference is the largest
 * one seen; a wall clock that was set back by more than that is followed.
 */
class EpochClock {
  #best: bigint | undefined;

  offset(): bigint {
    const now = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
    if (this.#best === undefined || now > this.#best || now < this.#best - 2_000_000n) this.#best = now;
    return this.#best;
  }
}

/** Makes the function that takes one event of a batch. One for each protocol. */
export function createSampleReader(options: SamplesOptions): (batch: Buffer, at: number) => void {
  const { btf, records, names, directory, sink, learn, record, exemplar, unnamed } = options;
  const fields = new Fields(btf.layout('request_span_event'));
  const clock = new EpochClock();

  return (batch, at) => {
    const event = fields.over(batch, at);
    const key = keyOf(event, records);
    if (directory.name(key.edgeId) === undefined) learn();
    const edge = directory.name(key.edgeId);
    const reason = REASONS[event.u8('reason')];
    if (edge === undefined || reason === undefined) {
      unnamed();
      return;
    }
    const name = (key.name === 0 ? names?.resolve(key) : names?.nameOf(key.name)) ?? '';
    const sample = sampleOf(event, { key, name, edge, reason, offset: clock.offset() });
    const span = record(sample);
    const identity = sink.accept(span);
    if (identity !== undefined) exemplar(sample, span, identity);
  };
}

function keyOf(event: Fields, records: RequestRecords): RequestKey {
  return {
    edgeId: event.u32('edge_id'),
    name: event.u32('name'),
    nameHash: event.u64('name_hash'),
    status: event.u16('status'),
    operation: event.u8('operation'),
    detail: event.u8('detail'),
    error: records.error(event.u8('error')),
  };
}

function sampleOf(
  event: Fields,
  { offset, ...known }: Pick<Sample, 'key' | 'name' | 'edge' | 'reason'> & { readonly offset: bigint },
): Sample {
  const kind = event.u8('role') === ROLE_CLIENT ? 'client' : 'server';
  const start = event.u64('start_ns');
  const first = event.u64('first_byte_ns');
  const duration = event.u64('end_ns') - start;
  const local = { address: addressText(event.bytes('local', 16)), port: event.u16('local_port') };
  const remote = { address: addressText(event.bytes('remote', 16)), port: event.u16('remote_port') };
  const [client, server] = kind === 'client' ? [local, remote] : [remote, local];
  return {
    ...known,
    kind,
    startUnixNano: start + offset,
    // an answer may be seen before the call that asked returns
    endUnixNano: start + (duration > 0n ? duration : 0n) + offset,
    firstByteNanos: first > start ? first - start : undefined,
    client,
    server,
    requestBytes: Number(event.u64('request_bytes')),
    responseBytes: Number(event.u64('response_bytes')),
    context: contextOf(event),
    ...idsOf(event.u64('id'), event.u64('request')),
    parent: linkOf(event),
  };
}
