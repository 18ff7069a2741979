// Reads the HTTP probe's map elements and events: offsets come from the object's own BTF (bpf/requests/records.h), names
// of numbers from its enumerations. Used by everything else in this folder.
import type { Btf } from '../../kernel/btf.ts';

/** `struct request_key`. */
export interface RequestKey {
  readonly edgeId: number;
  readonly route: number;
  /** Only while the route is not known; 0 else. */
  readonly pathHash: bigint;
  /** 0: no answer. */
  readonly status: number;
  readonly method: string;
  /** '1.0' or '1.1'. */
  readonly version: string;
  /** Why there was no complete answer; '' where there was one. */
  readonly error: string;
}

/** Values of `error.type`, by the kernel's names. */
const ERRORS: Readonly<Record<string, string>> = {
  NO_ERROR: '',
  ERROR_CLOSED: 'connection_closed',
  ERROR_RESET: 'connection_reset',
  ERROR_TIMED_OUT: 'connection_timed_out',
  ERROR_INCOMPLETE: 'response_incomplete',
  ERROR_IDLE: 'no_response',
};

/** `STREAM_HTTP1` of bpf/core/stream_state.h. */
export const HTTP1 = 1;

/** A 64-bit count, exact up to 2^53. */
export function readCount(values: Buffer, at: number): number {
  return values.readUInt32LE(at) + values.readUInt32LE(at + 4) * 0x1_0000_0000;
}

/** Names of an enumeration's values in order, without its prefix; the last one, which counts them, left out. */
function names(btf: Btf, type: string, prefix: string): string[] {
  const found = btf.find(type, 'enum');
  if (found === undefined) throw new Error(`the HTTP object has no enum ${type}`);
  return found.values.map(({ name }) => name.replace(prefix, ''));
}

/** Where things stand in the records of one loaded object. */
export class Records {
  readonly key: {
    size: number;
    edge: number;
    route: number;
    hash: number;
    status: number;
    method: number;
    minor: number;
    error: number;
    protocol: number;
  };
  readonly totals: {
    size: number;
    duration: number;
    durations: number;
    firstByte: number;
    firstBytes: number;
    requestBytes: number;
    requestSizes: number;
    responseBytes: number;
    responseSizes: number;
    /** Bytes from one element of a histogram to the next. */
    bucketStride: number;
    /** Elements of the size histograms. */
    sizeBuckets: number;
    /** Elements of the duration histograms, of which as many are used as there are bounds, and one more. */
    durationBuckets: number;
  };
  readonly active: { edge: number; method: number; protocol: number };
  readonly routeKey: { size: number; hash: number; edge: number; protocol: number };
  readonly shared: { counters: number };
  readonly control: { size: number; started: number; sampling: number; protocols: number };
  /** `enum request_counter` in lower case: `lost_malformed`, `connections`, ... */
  readonly counters: readonly string[];
  readonly #methods: readonly string[];
  readonly #errors: readonly string[];

  constructor(btf: Btf) {
    const key = btf.layout('request_key');
    this.key = {
      size: key.size,
      edge: key.offset('edge_id'),
      route: key.offset('name'),
      hash: key.offset('name_hash'),
      status: key.offset('status'),
      method: key.offset('operation'),
      minor: key.offset('detail'),
      error: key.offset('error'),
      protocol: key.offset('protocol'),
    };
    const totals = btf.layout('request_totals');
    const times = btf.layout('request_times');
    const sizes = btf.layout('request_sizes');
    this.totals = {
      size: totals.size,
      duration: totals.offset('duration_ns'),
      durations: totals.offset('times') + times.offset('duration'),
      firstByte: totals.offset('first_byte_ns'),
      firstBytes: totals.offset('times') + times.offset('first_byte'),
      requestBytes: totals.offset('request_bytes'),
      requestSizes: totals.offset('sizes') + sizes.offset('request'),
      responseBytes: totals.offset('response_bytes'),
      responseSizes: totals.offset('sizes') + sizes.offset('response'),
      bucketStride: times.size,
      sizeBuckets: totals.field('sizes').size / sizes.size,
      durationBuckets: totals.field('times').size / times.size,
    };
    const active = btf.layout('request_active_key');
    this.active = {
      edge: active.offset('edge_id'),
      method: active.offset('operation'),
      protocol: active.offset('protocol'),
    };
    const routeKey = btf.layout('request_name_key');
    this.routeKey = {
      size: routeKey.size,
      hash: routeKey.offset('name_hash'),
      edge: routeKey.offset('edge_id'),
      protocol: routeKey.offset('protocol'),
    };
    this.shared = { counters: btf.layout('request_state').offset('counters') };
    const control = btf.layout('request_control');
    this.control = {
      size: control.size,
      started: control.offset('started_ns'),
      sampling: control.offset('sampling'),
      protocols: control.offset('protocols'),
    };
    this.counters = names(btf, 'request_counter', 'REQUEST_')
      .slice(0, -1)
      .map((name) => name.toLowerCase());
    this.#methods = names(btf, 'http1_method', 'HTTP1_').map((name) =>
      name.startsWith('METHOD_') ? '_OTHER' : name,
    );
    this.#errors = names(btf, 'request_error', 'REQUEST_')
      .slice(0, -1)
      .map((name) => ERRORS[name] ?? name.toLowerCase());
  }

  method(number: number): string {
    return this.#methods[number] ?? '_OTHER';
  }

  error(number: number): string {
    return this.#errors[number] ?? 'unknown';
  }

  /** Is the key at byte `at` of HTTP? Protocols share the map. */
  isHttp(keys: Buffer, at: number): boolean {
    return keys.readUInt8(at + this.key.protocol) === HTTP1;
  }

  /** The key that starts at byte `at`. */
  decodeKey(keys: Buffer, at: number): RequestKey {
    const { key } = this;
    return {
      edgeId: keys.readUInt32LE(at + key.edge),
      route: keys.readUInt32LE(at + key.route),
      pathHash: keys.readBigUInt64LE(at + key.hash),
      status: keys.readUInt16LE(at + key.status),
      method: this.method(keys.readUInt8(at + key.method)),
      version: keys.readUInt8(at + key.minor) === 0x30 ? '1.0' : '1.1',
      error: this.error(keys.readUInt8(at + key.error)),
    };
  }

  /** A key of the map of routes, written at `at` of `into`, whose other bytes there must be zero. */
  encodeRouteKey(edgeId: number, pathHash: bigint, into = Buffer.alloc(this.routeKey.size), at = 0): Buffer {
    into.writeBigUInt64LE(pathHash, at + this.routeKey.hash);
    into.writeUInt32LE(edgeId, at + this.routeKey.edge);
    into.writeUInt32LE(HTTP1, at + this.routeKey.protocol);
    return into;
  }
}
