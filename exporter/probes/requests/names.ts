// Answers the kernel's question what a learnt name is called (an HTTP route, for one): names come in as events, their
// numbers go into the map `request_names`. One for each protocol that learns names. Called by the event reader, and by
// table.ts for what is counted under a name's hash.
import type { BpfMap } from '../../kernel/native.ts';
import type { EdgeDirectory, NamedEdge } from '../edges.ts';
import type { RequestKey, RequestRecords } from './records.ts';

/** `enum request_fixed_name`. */
const NAME_OVERFLOW = 1;
const NAME_FIRST = 2;

/** A name seen for the first time on an edge (`struct request_name_event`). */
export interface NameEvent {
  readonly protocol: number;
  readonly edgeId: number;
  readonly nameHash: bigint;
  readonly text: string;
  /** Longer than what is looked at of a name. */
  readonly cut: boolean;
}

/** What names of one protocol are called, in bounded memory. */
export interface NameBook {
  /** What is beyond its limits. */
  readonly overflow: string;
  /** Names learnt so far. */
  readonly size: number;
  /** Of what the server is asked for. */
  learn(server: { readonly name: string; readonly key: string }, text: string, cut: boolean): string;
  /** A number for a name that was learnt, from `first` on. */
  number(name: string, first: number): number;
  name(number: number, first: number): string | undefined;
}

export interface NamesOptions {
  readonly protocol: number;
  /** `request_names`. */
  readonly map: BpfMap;
  readonly records: RequestRecords;
  readonly book: NameBook;
  readonly directory: Pick<EdgeDirectory, 'name'>;
  /** Takes in edges that are newer than the last collection. */
  readonly learn: () => void;
}

/**
 * Events whose edge has no name yet wait for it, at most so many and so long; beyond that they are answered without their
 * server's name. An edge may be gone for good, and as long as one waits all edges are read for it.
 */
const MAX_WAITING = 1024;
const PATIENCE_MILLIS = 10_000;

interface WaitingName {
  readonly event: NameEvent;
  readonly sinceMillis: number;
}

export class Names {
  readonly #options: NamesOptions;
  #waiting: WaitingName[] = [];
  /** Events taken in, for tests and the agent's own metrics. */
  received = 0;

  constructor(options: NamesOptions) {
    this.#options = options;
  }

  get overflow(): string {
    return this.#options.book.overflow;
  }

  /** Takes in a batch of events and answers those whose edge is known. */
  take(events: readonly NameEvent[]): void {
    this.received += events.length;
    const sinceMillis = performance.now();
    for (const event of events) this.#waiting.push({ event, sinceMillis });
    this.answer();
  }

  /** Answers what waits for the name of its edge, and has it by now or waited long enough. */
  answer(): void {
    if (this.#waiting.length === 0) return;
    const { protocol, directory, learn, map, records } = this.#options;
    if (this.#waiting.some(({ event }) => directory.name(event.edgeId) === undefined)) learn();
    const still: WaitingName[] = [];
    const oldest = performance.now() - PATIENCE_MILLIS;
    const { size } = records.nameKey;
    const keys = Buffer.alloc(size * this.#waiting.length);
    const values = Buffer.alloc(4 * this.#waiting.length);
    let answered = 0;
    for (const [i, waiting] of this.#waiting.entries()) {
      const { event, sinceMillis } = waiting;
      const named = directory.name(event.edgeId);
      if (named === undefined && sinceMillis > oldest && this.#waiting.length - i <= MAX_WAITING) {
        still.push(waiting);
        continue;
      }
      records.encodeNameKey(protocol, event, keys, answered * size);
      values.writeUInt32LE(this.#numberOf(event, named), 4 * answered++);
    }
    this.#waiting = still;
    if (answered > 0)
      map.updateMany(keys.subarray(0, answered * size), values.subarray(0, 4 * answered), answered);
  }

  #numberOf(event: NameEvent, named: NamedEdge | undefined): number {
    const { book } = this.#options;
    const { name = '', namespace = '' } = named?.server ?? {};
    const learnt = book.learn({ name, key: `${namespace}/${name}` }, event.text, event.cut);
    return learnt === book.overflow ? NAME_OVERFLOW : book.number(learnt, NAME_FIRST);
  }

  /** What a number stands for. */
  nameOf(number: number): string {
    const { book } = this.#options;
    return number === NAME_OVERFLOW ? book.overflow : (book.name(number, NAME_FIRST) ?? book.overflow);
  }

  /** The name that a hash stands for, if the kernel knows its number by now. */
  resolve(key: Pick<RequestKey, 'edgeId' | 'nameHash'>): string | undefined {
    const { map, records, protocol } = this.#options;
    const number = map.lookup(records.encodeNameKey(protocol, key))?.readUInt32LE(0) ?? 0;
    return number === 0 ? undefined : this.nameOf(number);
  }
}
