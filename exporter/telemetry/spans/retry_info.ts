// Reads google.rpc.RetryInfo out of the trailer `grpc-status-details-bin` (a google.rpc.Status), by which an OTLP
// receiver says when to come back. The bytes come from the network: everything is checked, nothing throws.

const RETRY_INFO = 'google.rpc.RetryInfo';
const WIRE_VARINT = 0;
const WIRE_FIXED64 = 1;
const WIRE_BYTES = 2;
const WIRE_FIXED32 = 5;

interface Field {
  readonly number: number;
  readonly bytes?: Uint8Array;
  readonly varint?: bigint;
}

function readVarint(data: Uint8Array, at: number): { value: bigint; next: number } | undefined {
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    const byte = data[at + i];
    if (byte === undefined) return undefined;
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) return { value: BigInt.asUintN(64, value), next: at + i + 1 };
  }
  return undefined;
}

/** The fields of one message in order; ends early where the bytes make no sense. */
function* fields(data: Uint8Array): Generator<Field> {
  let at = 0;
  while (at < data.length) {
    const tag = readVarint(data, at);
    if (tag === undefined) return;
    const number = Number(tag.value >> 3n);
    const wire = Number(tag.value & 7n);
    if (wire === WIRE_VARINT) {
      const varint = readVarint(data, tag.next);
      if (varint === undefined) return;
      yield { number, varint: varint.value };
      at = varint.next;
    } else if (wire === WIRE_BYTES) {
      const length = readVarint(data, tag.next);
      if (length === undefined || length.value > BigInt(data.length - length.next)) return;
      at = length.next + Number(length.value);
      yield { number, bytes: data.subarray(length.next, at) };
    } else if (wire === WIRE_FIXED64) at = tag.next + 8;
    else if (wire === WIRE_FIXED32) at = tag.next + 4;
    else return;
  }
}

function field(data: Uint8Array, number: number): Field | undefined {
  let found: Field | undefined;
  for (const each of fields(data)) if (each.number === number) found = each;
  return found;
}

/** google.protobuf.Duration in milliseconds; undefined when negative or out of its range of 10,000 years. */
function durationMillis(data: Uint8Array): number | undefined {
  const seconds = BigInt.asIntN(64, field(data, 1)?.varint ?? 0n);
  const nanos = BigInt.asIntN(64, field(data, 2)?.varint ?? 0n);
  if (seconds < 0n || seconds > 315_576_000_000n || nanos < 0n || nanos > 999_999_999n) return undefined;
  return Number(seconds) * 1000 + Math.ceil(Number(nanos) / 1e6);
}

/**
 * The delay that the receiver asks for, in milliseconds. Undefined when there is no RetryInfo in `status`; 0 when it is
 * there without a usable delay (it still says that trying again is welcome).
 */
export function retryDelayMillis(status: Uint8Array): number | undefined {
  for (const detail of fields(status)) {
    if (detail.number !== 3 || detail.bytes === undefined) continue;
    const type = field(detail.bytes, 1)?.bytes;
    if (type === undefined || !Buffer.from(type).toString('latin1').endsWith(`/${RETRY_INFO}`)) continue;
    const delay = field(field(detail.bytes, 2)?.bytes ?? new Uint8Array(), 1)?.bytes;
    return (delay === undefined ? undefined : durationMillis(delay)) ?? 0;
  }
  return undefined;
}
