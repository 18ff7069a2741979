// Reads what the API server sends piece by piece, so that a list of ten thousand pods needs the memory of one: a list's
// items one by one, and a watch's lines one by one. Called by reflector.ts and pod_lookup.ts.

/** The bytes are not what the API promises: not JSON, cut, or beyond all bounds. */
export class MalformedResponse extends Error {
  override readonly name = 'MalformedResponse';
}

/** Largest object that is read. etcd refuses objects above 1.5 MiB; a watch's line carries one with a little around it. */
const MAX_OBJECT_BYTES = 8 << 20;
/** What a list holds besides its items: kind, apiVersion, metadata. */
const MAX_ENVELOPE_BYTES = 1 << 20;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COLON = 0x3a;

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new MalformedResponse('not valid JSON');
  }
}

/** Pieces of one token that may span chunks. */
class Pieces {
  readonly #limit: number;
  #list: Buffer[] = [];
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get empty(): boolean {
    return this.#bytes === 0;
  }

  add(piece: Buffer): void {
    if (piece.length === 0) return;
    this.#bytes += piece.length;
    if (this.#bytes > this.#limit) throw new MalformedResponse(`an object of more than ${this.#limit} bytes`);
    this.#list.push(piece);
  }

  take(): Buffer {
    const whole =
      this.#list.length === 1 ? (this.#list[0] as Buffer) : Buffer.concat(this.#list, this.#bytes);
    this.#list = [];
    this.#bytes = 0;
    return whole;
  }
}

/**
 * Splits a Kubernetes list (`{"kind": …, "metadata": …, "items": [ … ]}`, members in any order) into its items.
 * Feed chunks with {@link write}; {@link end} gives the list without its items.
 */
export class ListSplitter {
  readonly #onItem: (item: unknown) => void;
  /** Everything but the items. */
  readonly #envelope = new Pieces(MAX_ENVELOPE_BYTES);
  readonly #item = new Pieces(MAX_OBJECT_BYTES);
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** Inside the top-level array `items`. */
  #inItems = false;
  /** The last string at depth 1, as it may be a member's name. */
  #name = '';
  #nameOpen = false;
  /** The name before the last colon at depth 1. */
  #member = '';

  /** @param onItem called with every parsed item, in order */
  constructor(onItem: (item: unknown) => void) {
    this.#onItem = onItem;
  }

  /** @throws MalformedResponse */
  write(chunk: Buffer): void {
    let start = 0; // Of what belongs to the current token (item or envelope) in this chunk.
    const length = chunk.length;
    for (let index = 0; index < length; index++) {
      const byte = chunk[index] as number;
      if (this.#inString) {
        this.#stringByte(byte);
        continue;
      }
      switch (byte) {
        case QUOTE:
          this.#inString = true;
          if (this.#depth === 1) {
            this.#nameOpen = true;
            this.#name = '';
          }
          break;
        case COLON:
          if (this.#depth === 1) this.#member = this.#name;
          break;
        case OPEN_BRACE:
        case OPEN_BRACKET:
          if (this.#inItems && this.#depth === 2) start = index;
          else if (byte === OPEN_BRACKET && this.#depth === 1 && this.#member === 'items') {
            this.#inItems = true;
            this.#envelope.add(Buffer.from(chunk.subarray(start, index + 1)));
            start = index + 1;
          }
          this.#depth++;
          break;
        case CLOSE_BRACE:
        case CLOSE_BRACKET:
          this.#depth--;
          if (this.#depth < 0) throw new MalformedResponse('a bracket too many');
          if (!this.#inItems) break;
          if (this.#depth === 2) {
            this.#item.add(chunk.subarray(start, index + 1));
            start = index + 1;
            this.#onItem(parse(this.#item.take()));
          } else if (this.#depth === 1) {
            this.#inItems = false;
            start = index;
          }
          break;
      }
    }
    if (!this.#inItems) this.#envelope.add(Buffer.from(chunk.subarray(start)));
    else if (this.#depth > 2) this.#item.add(Buffer.from(chunk.subarray(start)));
  }

  #stringByte(byte: number): void {
    if (this.#escaped) this.#escaped = false;
    else if (byte === BACKSLASH) this.#escaped = true;
    else if (byte === QUOTE) {
      this.#inString = false;
      this.#nameOpen = false;
    } else if (this.#nameOpen && this.#name.length < 16) this.#name += String.fromCharCode(byte);
  }

  /** @throws MalformedResponse when the list is not complete */
  end(): unknown {
    if (this.#depth !== 0 || this.#inString) throw new MalformedResponse('cut before its end');
    return parse(this.#envelope.take());
  }
}

const NEWLINE = 0x0a;

/** Splits a watch's stream (one JSON object per line) into objects. A last line without its end is dropped. */
export class LineSplitter {
  readonly #onLine: (value: unknown) => void;
  readonly #line = new Pieces(MAX_OBJECT_BYTES);

  constructor(onLine: (value: unknown) => void) {
    this.#onLine = onLine;
  }

  /** @throws MalformedResponse */
  write(chunk: Buffer): void {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end < 0) break;
      this.#line.add(chunk.subarray(start, end));
      start = end + 1;
      if (!this.#line.empty) this.#onLine(parse(this.#line.take()));
    }
    this.#line.add(Buffer.from(chunk.subarray(start)));
  }
}
