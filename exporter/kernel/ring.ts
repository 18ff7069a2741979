// Ring buffer readers: whole batches, one callback per turn of the event loop. Reached through native.ts.
import { call, type External, misuse, requireInteger } from './addon.ts';
import type { BpfMap } from './map.ts';

/** Records of a ring buffer batch: a u32 with the size, 4 bytes of zero, the record, padding to 8. */
export const RECORD_HEADER_BYTES = 8;

/** Calls `visit` with offset and size of every record in a batch. */
export function forEachRecord(batch: Buffer, visit: (offset: number, size: number) => void): void {
  for (let at = 0; at < batch.length; ) {
    const size = batch.readUInt32LE(at);
    visit(at + RECORD_HEADER_BYTES, size);
    at += RECORD_HEADER_BYTES + ((size + 7) & ~7);
  }
}

export interface RingBufferOptions {
  /** A batch ends with the record that reaches this size; the rest follows on the next turn. Default 1 MiB. */
  readonly batchBytes?: number;
}

/** Reads one ring buffer; at most one callback per turn of the event loop, which it keeps alive until closed or unref'd. */
export class RingBuffer {
  readonly #external: External;
  readonly #map: BpfMap;

  /** @param onBatch gets the records (see `forEachRecord`) and how many; what it throws is an uncaught exception. */
  constructor(map: BpfMap, onBatch: (batch: Buffer, count: number) => void, options: RingBufferOptions = {}) {
    if (typeof onBatch !== 'function') misuse('RingBuffer needs a callback');
    const limit = requireInteger(options.batchBytes ?? 1 << 20, 'batchBytes', 1, 1 << 30);
    this.#map = map;
    this.#external = call.ringOpen(map.external, onBatch, limit);
  }

  get map(): BpfMap {
    return this.#map;
  }

  /** One batch of what is there now, or undefined, without waiting for the event loop: for the last words at shutdown. */
  take(): { readonly buffer: Buffer; readonly count: number } | undefined {
    return call.ringTake(this.#external);
  }

  /** Lets the process end although this is open. */
  unref(): this {
    call.ringRef(this.#external, false);
    return this;
  }

  ref(): this {
    call.ringRef(this.#external, true);
    return this;
  }

  get closed(): boolean {
    return call.ringIsClosed(this.#external);
  }

  /** Stops reading; records still in the ring stay there. Idempotent. */
  close(): void {
    call.ringClose(this.#external);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
