// Reads the probe's ring buffer: paths seen for the first time, and sampled requests. index.ts builds it.
import type { Btf } from '../../kernel/btf.ts';
import { forEachRecord } from '../../kernel/native.ts';
import type { PathEvent } from './paths.ts';

/** `enum request_event_kind`. */
const EVENT_PATH = 1;
const EVENT_SPAN = 2;

export interface EventHandlers {
  readonly paths: (events: readonly PathEvent[]) => void;
  /** The event stands at `at` in the batch, which is not kept. */
  readonly span: (batch: Buffer, at: number) => void;
}

/** Makes the function that takes batches of the ring buffer. */
export function createEventReader(btf: Btf, handlers: EventHandlers): (batch: Buffer) => void {
  const layout = btf.layout('request_name_event');
  const at = {
    hash: layout.offset('name_hash'),
    edge: layout.offset('edge_id'),
    length: layout.offset('length'),
    cut: layout.offset('cut'),
    path: layout.offset('name'),
  };
  const pathEvent = (batch: Buffer, start: number): PathEvent => {
    const from = start + at.path;
    return {
      edgeId: batch.readUInt32LE(start + at.edge),
      pathHash: batch.readBigUInt64LE(start + at.hash),
      // one character per byte: whatever is no ASCII is replaced by an identifier anyway
      path: batch.toString('latin1', from, from + batch.readUInt16LE(start + at.length)),
      cut: batch.readUInt8(start + at.cut) !== 0,
    };
  };
  return (batch) => {
    const paths: PathEvent[] = [];
    const spans: number[] = [];
    forEachRecord(batch, (start) => {
      const kind = batch.readUInt32LE(start);
      if (kind === EVENT_PATH) paths.push(pathEvent(batch, start));
      else if (kind === EVENT_SPAN) spans.push(start);
    });
    if (paths.length > 0) handlers.paths(paths); // first: spans ask for the routes
    for (const start of spans) handlers.span(batch, start);
  };
}
