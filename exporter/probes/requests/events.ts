// Reads the ring buffer of all protocols: names seen for the first time, and sampled requests. stream.ts builds it.
import type { Btf } from '../../kernel/btf.ts';
import { forEachRecord } from '../../kernel/native.ts';
import type { NameEvent } from './names.ts';

export interface EventHandlers {
  readonly names: (protocol: number, events: readonly NameEvent[]) => void;
  /** The event stands at `at` in the batch, which is not kept. */
  readonly span: (protocol: number, batch: Buffer, at: number) => void;
}

function kinds(btf: Btf): { name: number; span: number } {
  const name = btf.enumerator('request_event_kind', 'REQUEST_EVENT_NAME');
  const span = btf.enumerator('request_event_kind', 'REQUEST_EVENT_SPAN');
  if (name === undefined || span === undefined) throw new Error('the BPF object has no kinds of events');
  return { name, span };
}

/** Makes the function that takes batches of the ring buffer. */
export function createEventReader(btf: Btf, handlers: EventHandlers): (batch: Buffer) => void {
  const kind = kinds(btf);
  const spanProtocol = btf.layout('request_span_event').offset('protocol');
  const layout = btf.layout('request_name_event');
  const at = {
    hash: layout.offset('name_hash'),
    edge: layout.offset('edge_id'),
    length: layout.offset('length'),
    cut: layout.offset('cut'),
    protocol: layout.offset('protocol'),
    name: layout.offset('name'),
  };
  const nameEvent = (batch: Buffer, start: number): NameEvent => {
    const from = start + at.name;
    return {
      protocol: batch.readUInt8(start + at.protocol),
      edgeId: batch.readUInt32LE(start + at.edge),
      nameHash: batch.readBigUInt64LE(start + at.hash),
      // one character per byte: whatever is no ASCII is replaced by an identifier anyway
      text: batch.toString('latin1', from, from + batch.readUInt16LE(start + at.length)),
      cut: batch.readUInt8(start + at.cut) !== 0,
    };
  };
  return (batch) => {
    const names = new Map<number, NameEvent[]>();
    const spans: number[] = [];
    forEachRecord(batch, (start) => {
      const found = batch.readUInt32LE(start);
      if (found === kind.span) spans.push(start);
      if (found !== kind.name) return;
      const event = nameEvent(batch, start);
      const same = names.get(event.protocol);
      if (same === undefined) names.set(event.protocol, [event]);
      else same.push(event);
    });
    for (const [protocol, events] of names) handlers.names(protocol, events); // first: spans ask for them
    for (const start of spans) handlers.span(batch.readUInt8(start + spanProtocol), batch, start);
  };
}
