import { defaultTextMapGetter, ROOT_CONTEXT, trace } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { describe, expect, it } from 'vitest';
import {
  ForwardedTraceState,
  parseTraceContext,
  parseTraceparent,
  parseTracestate,
} from '../../../exporter/telemetry/spans/trace_context.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';

describe('traceparent', () => {
  it.each([
    ['sampled', `00-${TRACE}-${PARENT}-01`, 1],
    ['not sampled', `00-${TRACE}-${PARENT}-00`, 0],
    ['all flags', `00-${TRACE}-${PARENT}-ff`, 255],
    ['blanks around', ` \t00-${TRACE}-${PARENT}-03 \t`, 3],
    ['a later version', `cc-${TRACE}-${PARENT}-01`, 1],
    ['a later version with more fields', `cc-${TRACE}-${PARENT}-01-what-the-future-will-be-like`, 1],
  ])('%s is taken', (_what, value, flags) => {
    expect(parseTraceparent(value)).toEqual({ traceId: TRACE, parentSpanId: PARENT, flags });
  });

  it.each([
    ['empty', ''],
    ['version ff', `ff-${TRACE}-${PARENT}-01`],
    ['trace id of zeros', `00-${'0'.repeat(32)}-${PARENT}-01`],
    ['span id of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['upper case', `00-${TRACE.toUpperCase()}-${PARENT}-01`],
    ['upper-case flags', `00-${TRACE}-${PARENT}-0A`],
    ['one flag digit', `00-${TRACE}-${PARENT}-1`],
    ['short trace id', `00-${TRACE.slice(1)}-${PARENT}-01`],
    ['not hexadecimal', `00-${TRACE.slice(1)}g-${PARENT}-01`],
    ['version 00 with more fields', `00-${TRACE}-${PARENT}-01-x`],
    ['version 00 and a trailing dash', `00-${TRACE}-${PARENT}-01-`],
    ['a later version run on without a dash', `cc-${TRACE}-${PARENT}-01x`],
    ['two fields joined', `00-${TRACE}-${PARENT}-01,00-${TRACE}-${PARENT}-01`],
    ['a line break inside', `00-${TRACE}-${PARENT}-01\n`],
    ['NUL', `00-${TRACE}-${PARENT}-01\0`],
    ['full-width digits', `00-${TRACE.slice(1)}４-${PARENT}-01`],
    ['a megabyte', `00-${TRACE}-${PARENT}-01${'-'.repeat(1 << 20)}`],
    ['one version digit', `0-${TRACE}-${PARENT}-01`],
  ])('%s is refused', (_what, value) => {
    expect(parseTraceparent(value)).toBeUndefined();
  });

  it('agrees with OpenTelemetry on single-byte changes of a valid field', () => {
    const propagator = new W3CTraceContextPropagator();
    const valid = `00-${TRACE}-${PARENT}-01`;
    let taken = 0;
    for (let at = 0; at < valid.length; at++)
      for (const byte of [0x00, 0x20, 0x2d, 0x30, 0x31, 0x41, 0x46, 0x61, 0x66, 0x67, 0x7f, 0xff]) {
        const value = valid.slice(0, at) + String.fromCharCode(byte) + valid.slice(at + 1);
        const context = propagator.extract(ROOT_CONTEXT, { traceparent: value }, defaultTextMapGetter);
        const theirs = trace.getSpanContext(context);
        const ours = parseTraceparent(value);
        expect([value, ours?.traceId, ours?.parentSpanId, ours?.flags]).toEqual([
          value,
          theirs?.traceId,
          theirs?.spanId,
          theirs?.traceFlags,
        ]);
        if (ours !== undefined) taken++;
      }
    expect(taken).toBeGreaterThan(50);
  });
});

describe('tracestate', () => {
  it.each([
    ['one member', 'rojo=00f067aa0ba902b7', 'rojo=00f067aa0ba902b7'],
    ['order is kept', 'rojo=1,congo=2', 'rojo=1,congo=2'],
    ['blanks and empty members go', ' rojo=1 ,,\tcongo=2,', 'rojo=1,congo=2'],
    ['blanks inside a value stay', 'a=x y', 'a=x y'],
    ['multi-tenant key', 'fw529a3039@dt=FfVhZjA', 'fw529a3039@dt=FfVhZjA'],
    ['32 members', members(32), members(32)],
  ])('%s', (_what, value, expected) => {
    expect(parseTracestate(value)).toBe(expected);
  });

  it.each([
    ['empty', ''],
    ['only commas', ', ,'],
    ['no value', 'rojo'],
    ['empty value', 'rojo='],
    ['upper-case key', 'Rojo=1'],
    ['key twice', 'rojo=1,rojo=2'],
    ['= in the value', 'rojo=1=2'],
    ['control character', 'rojo=1\u0007'],
    ['line break', 'rojo=1\r\nevil: 1'],
    ['not ASCII', 'rojo=ü'],
    ['33 members', members(33)],
    ['key of 257 characters', `${'a'.repeat(257)}=1`],
    ['value of 257 characters', `a=${'1'.repeat(257)}`],
    ['a megabyte', `a=${'1'.repeat(1 << 20)}`],
  ])('%s is refused as a whole', (_what, value) => {
    expect(parseTracestate(value)).toBeUndefined();
  });

  it('is shortened to 512 characters, long members first, then from the end', () => {
    const long = `long=${'x'.repeat(200)}`;
    const short = (n: number) => `k${n}=${'y'.repeat(60)}`;
    const value = [short(1), long, ...[2, 3, 4, 5, 6, 7, 8, 9].map(short)].join(',');
    const result = parseTracestate(value);
    expect(result).toBe([1, 2, 3, 4, 5, 6, 7, 8].map(short).join(','));
    expect(result?.length).toBeLessThanOrEqual(512);
  });

  it('alone means nothing; with a bad tracestate the traceparent stands', () => {
    expect(parseTraceContext('', 'rojo=1')).toBeUndefined();
    expect(parseTraceContext(`00-${TRACE}-${PARENT}-01`, 'rojo')).toEqual({
      traceId: TRACE,
      parentSpanId: PARENT,
      flags: 1,
    });
  });

  it('can be read and changed as OpenTelemetry demands', () => {
    const state = new ForwardedTraceState('rojo=1,congo=2');
    expect(state.get('congo')).toBe('2');
    expect(state.get('con')).toBeUndefined();
    expect(state.set('congo', '3').serialize()).toBe('congo=3,rojo=1');
    expect(state.unset('rojo').serialize()).toBe('congo=2');
    expect(state.serialize()).toBe('rojo=1,congo=2');
  });
});

function members(count: number): string {
  return Array.from({ length: count }, (_, i) => `k${i}=v`).join(',');
}
