// Where things stand in what the kernel keeps of requests, whatever protocol they are of: offsets come from the object's
// own BTF (bpf/requests/records.h), names of numbers from its enumerations. Used by everything else in this folder.
import type { Btf } from '../../kernel/btf.ts';

/** `struct request_key`. */
export interface RequestKey {
  readonly edgeId: number;
  /** Number of its learnt name; 0: not known yet. */
  readonly name: number;
  /** Only while the number is not known; 0 else. */
  readonly nameHash: bigint;
  /** As the protocol has it; 0: no answer. */
  readonly status: number;
  /** A number of the protocol's enumeration: a method, a command. */
  readonly operation: number;
  /** What else tells requests apart, by protocol: a version, a database. */
  readonly detail: number;
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

/** A 64-bit count, exact up to 2^53. */
export function readCount(values: Buffer, at: number): number {
  return values.readUInt32LE(at) + values.readUInt32LE(at + 4) * 0x1_0000_0000;
}

/** Names of an enumeration's values in order, without their prefix. */
export function enumNames(btf: Btf, type: string, prefix: string): string[] {
  const found = btf.find(type, 'enum');
  if (found === undefined) throw new Error(`the BPF object has no enum ${type}`);
  return found.values.map(({ name }) => name.replace(prefix, ''));
}

/** `struct request_totals`: offsets of the sums and of the first elements of the histograms. */
export interface TotalsLayout {
  readonly size: number;
  readonly duration: number;
  readonly durations: number;
  readonly firstByte: number;
  readonly firstBytes: number;
  readonly requestBytes: number;
  readonly requestSizes: number;
  readonly responseBytes: number;
  readonly responseSizes: number;
  /** Bytes from one element of a histogram to the next. */
  readonly bucketStride: number;
  /** Elements of the size histograms. */
  readonly sizeBuckets: number;
  /** Elements of the duration histograms, of which as many are used as there are bounds, and one more. */
  readonly durationBuckets: number;
}

function totalsLayout(btf: Btf): TotalsLayout {
  const totals = btf.layout('request_totals');
  const times = btf.layout('request_times');
  const sizes = btf.layout('request_sizes');
  return {
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
}

/** Offsets of the named members, and the size of the whole. */
function offsets<M extends string>(btf: Btf, type: string, members: readonly M[]) {
  const layout = btf.layout(type);
  const at = Object.fromEntries(members.map((member) => [member, layout.offset(member)]));
  return { size: layout.size, ...(at as Record<M, number>) };
}

const KEY = ['edge_id', 'name', 'name_hash', 'status', 'operation', 'detail', 'error', 'protocol'] as const;

export class RequestRecords {
  readonly key;
  readonly totals: TotalsLayout;
  readonly active;
  readonly nameKey;
  readonly state;
  /** `enum request_counter` in lower case: `lost_malformed`, `connections`, ... */
  readonly counters: readonly string[];
  readonly #errors: readonly string[];

  constructor(btf: Btf) {
    this.key = offsets(btf, 'request_key', KEY);
    this.totals = totalsLayout(btf);
    this.active = offsets(btf, 'request_active_key', ['edge_id', 'operation', 'protocol']);
    this.nameKey = offsets(btf, 'request_name_key', ['name_hash', 'edge_id', 'protocol']);
    this.state = offsets(btf, 'request_state', ['counters']);
    this.counters = enumNames(btf, 'request_counter', 'REQUEST_')
      .slice(0, -1) // the last one counts them
      .map((name) => name.toLowerCase());
    this.#errors = enumNames(btf, 'request_error', 'REQUEST_')
      .slice(0, -1)
      .map((name) => ERRORS[name] ?? name.toLowerCase());
  }

  error(number: number): string {
    return this.#errors[number] ?? 'unknown';
  }

  /** Number of the protocol that the key at byte `at` is of. */
  protocolOf(keys: Buffer, at: number): number {
    return keys.readUInt8(at + this.key.protocol);
  }

  /** The key that starts at byte `at`. */
  decodeKey(keys: Buffer, at: number): RequestKey {
    const { key } = this;
    return {
      edgeId: keys.readUInt32LE(at + key.edge_id),
      name: keys.readUInt32LE(at + key.name),
      nameHash: keys.readBigUInt64LE(at + key.name_hash),
      status: keys.readUInt16LE(at + key.status),
      operation: keys.readUInt8(at + key.operation),
      detail: keys.readUInt8(at + key.detail),
      error: this.error(keys.readUInt8(at + key.error)),
    };
  }

  /** A key of the map of names, written at `at` of `into`, whose other bytes there must be zero. */
  encodeNameKey(
    protocol: number,
    { edgeId, nameHash }: Pick<RequestKey, 'edgeId' | 'nameHash'>,
    into = Buffer.alloc(this.nameKey.size),
    at = 0,
  ): Buffer {
    into.writeBigUInt64LE(nameHash, at + this.nameKey.name_hash);
    into.writeUInt32LE(edgeId, at + this.nameKey.edge_id);
    into.writeUInt32LE(protocol, at + this.nameKey.protocol);
    return into;
  }
}
