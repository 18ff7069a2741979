// W3C Trace Context (https://www.w3.org/TR/trace-context-2/): strict parsing of the `traceparent` and `tracestate`
// fields as they came from the network. Called by the HTTP probe and the synthesiser.

import type { TraceState } from '@opentelemetry/api';
import type { TraceContext } from './types.ts';

const TRACE_ID = /^(?!0{32})[0-9a-f]{32}$/;
const SPAN_ID = /^(?!0{16})[0-9a-f]{16}$/;
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})/;
const TRACEPARENT_LENGTH = 55;
/** Longest field looked at; anything longer is not a traceparent of any version worth reading. */
const TRACEPARENT_LIMIT = 256;

const STATE_KEY = /^[a-z0-9][a-z0-9_\-*/@]{0,255}$/;
const STATE_VALUE = /^[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;
const STATE_MEMBERS = 32;
/** A platform should propagate at least this much; beyond it, entries longer than 128 go first (section 3.3.1.5). */
const STATE_LENGTH = 512;
const STATE_LONG_MEMBER = 128;
/** Longer fields are not parsed at all: 32 members of the longest key and value fit. */
const STATE_INPUT_LIMIT = 32 * 514;

/** True for 32 lower-case hexadecimal digits that are not all zero. */
export function isTraceId(value: string): boolean {
  return TRACE_ID.test(value);
}

/** True for 16 lower-case hexadecimal digits that are not all zero. */
export function isSpanId(value: string): boolean {
  return SPAN_ID.test(value);
}

function trimOptionalWhitespace(value: string): string {
  let start = 0;
  let end = value.length;
  const blank = (at: number) => value.charCodeAt(at) === 0x20 || value.charCodeAt(at) === 0x09;
  while (start < end && blank(start)) start++;
  while (end > start && blank(end - 1)) end--;
  return value.slice(start, end);
}

/**
 * Parses the value of one `traceparent` field (section 3.2). Version 00 must be exactly 55 characters; later versions
 * may be longer if a '-' follows. Undefined for anything else, including two fields joined by a comma.
 */
export function parseTraceparent(
  value: string,
): { traceId: string; parentSpanId: string; flags: number } | undefined {
  if (value.length > TRACEPARENT_LIMIT) return undefined;
  const text = trimOptionalWhitespace(value);
  const match = TRACEPARENT.exec(text);
  if (match === null) return undefined;
  const [, version, traceId, parentSpanId, flags] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
  ];
  if (text.length > TRACEPARENT_LENGTH && (version === '00' || text[TRACEPARENT_LENGTH] !== '-'))
    return undefined;
  return { traceId, parentSpanId, flags: Number.parseInt(flags, 16) };
}

/**
 * Checks and normalises a `tracestate` field (section 3.3; several fields are joined by ','): blanks around members and
 * empty members go. Undefined when any member is malformed, a key comes twice, there are more than 32 members, or
 * nothing is left; such a field is discarded as a whole, the traceparent stays valid.
 */
export function parseTracestate(value: string): string | undefined {
  if (value.length > STATE_INPUT_LIMIT) return undefined;
  const members: string[] = [];
  const keys = new Set<string>();
  for (const raw of value.split(',')) {
    const member = trimOptionalWhitespace(raw);
    if (member === '') continue;
    const split = member.indexOf('=');
    if (split < 0) return undefined;
    const key = member.slice(0, split);
    if (keys.has(key) || !STATE_KEY.test(key) || !STATE_VALUE.test(member.slice(split + 1))) return undefined;
    if (members.length === STATE_MEMBERS) return undefined;
    keys.add(key);
    members.push(member);
  }
  return shorten(members);
}

function shorten(members: string[]): string | undefined {
  let length = members.reduce((sum, member) => sum + member.length + 1, -1);
  for (const long of [true, false]) {
    for (let i = members.length - 1; i >= 0 && length > STATE_LENGTH; i--) {
      const size = members[i]?.length ?? 0;
      if (long && size <= STATE_LONG_MEMBER) continue;
      members.splice(i, 1);
      length -= size + 1;
    }
  }
  return members.length > 0 ? members.join(',') : undefined;
}

/**
 * Trace context of a request from its two fields as received. Undefined without a valid traceparent: a tracestate alone
 * means nothing. A tracestate cut by a capture window must be left out by the caller, or cut at its last comma.
 */
export function parseTraceContext(traceparent: string, tracestate?: string): TraceContext | undefined {
  const parent = parseTraceparent(traceparent);
  if (parent === undefined) return undefined;
  const state = tracestate === undefined ? undefined : parseTracestate(tracestate);
  return state === undefined ? parent : { ...parent, tracestate: state };
}

/** A checked tracestate handed on as it is. The exporter only calls `serialize`. */
export class ForwardedTraceState implements TraceState {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  get(key: string): string | undefined {
    const member = this.#text.split(',').find((entry) => entry.startsWith(`${key}=`));
    return member?.slice(key.length + 1);
  }

  set(key: string, value: string): TraceState {
    return new ForwardedTraceState([`${key}=${value}`, ...this.#without(key)].join(','));
  }

  unset(key: string): TraceState {
    return new ForwardedTraceState(this.#without(key).join(','));
  }

  serialize(): string {
    return this.#text;
  }

  #without(key: string): string[] {
    return this.#text.split(',').filter((entry) => entry !== '' && !entry.startsWith(`${key}=`));
  }
}
