// Random trace and span ids, drawn in blocks: one call into the random generator per few hundred ids.

import { randomFillSync } from 'node:crypto';
import { isSpanId, isTraceId } from './trace_context.ts';

const block = Buffer.allocUnsafe(8192);
let used = block.length;

function randomHex(bytes: number): string {
  if (used + bytes > block.length) {
    randomFillSync(block);
    used = 0;
  }
  used += bytes;
  return block.toString('hex', used - bytes, used);
}

/** A random trace id: 32 lower-case hexadecimal digits, never all zero. */
export function randomTraceId(): string {
  for (;;) {
    const id = randomHex(16);
    if (isTraceId(id)) return id;
  }
}

/** A random span id: 16 lower-case hexadecimal digits, never all zero. */
export function randomSpanId(): string {
  for (;;) {
    const id = randomHex(8);
    if (isSpanId(id)) return id;
  }
}
