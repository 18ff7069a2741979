// Splitting against JSON.parse of the whole, with the bytes cut at every place.
import { describe, expect, it } from 'vitest';
import {
  LineSplitter,
  ListSplitter,
  MalformedResponse,
} from '../../../../exporter/identity/kubernetes/json_stream.ts';

function split(bytes: Buffer, cuts: readonly number[]): { items: unknown[]; envelope: unknown } {
  const items: unknown[] = [];
  const splitter = new ListSplitter((item) => items.push(item));
  let start = 0;
  for (const cut of [...cuts, bytes.length]) {
    // A copy that is overwritten afterwards: the splitter may not hold on to a chunk that the socket uses again.
    const chunk = Buffer.from(bytes.subarray(start, cut));
    splitter.write(chunk);
    chunk.fill(0x7b);
    start = cut;
  }
  return { items, envelope: splitter.end() };
}

const NASTY = {
  kind: 'PodList',
  apiVersion: 'v1',
  metadata: { resourceVersion: '7', continue: 'a"b]}[{\\', items: [1] },
  items: [
    { metadata: { name: 'a"]}', labels: { items: '[' } }, spec: { items: [{ items: [] }], text: '\\"\\\\' } },
    {},
    { unicode: 'žluťoučký 😀 \u2028', deep: [[[[{}]]]] },
  ],
};

describe('ListSplitter', () => {
  const texts = {
    compact: JSON.stringify(NASTY),
    indented: JSON.stringify(NASTY, null, 2),
    'items first': JSON.stringify({
      items: NASTY.items,
      metadata: NASTY.metadata,
      kind: 'PodList',
      apiVersion: 'v1',
    }),
    empty: JSON.stringify({ ...NASTY, items: [] }),
    null: JSON.stringify({ ...NASTY, items: null }),
  };
  it.each(Object.entries(texts))('%s, cut at every byte and at random ones', (_, text) => {
    const bytes = Buffer.from(text);
    const { items, ...rest } = JSON.parse(text);
    const check = (cuts: number[]) => {
      const result = split(bytes, cuts);
      expect(result.items).toEqual(items ?? []);
      const { items: left, ...envelope } = result.envelope as Record<string, unknown>;
      expect(envelope).toEqual(rest);
      expect(left ?? []).toEqual([]);
    };
    check([]);
    for (let cut = 1; cut < bytes.length; cut++) check([cut]);
    check(Array.from({ length: bytes.length - 1 }, (__, index) => index + 1));
  });

  it('a Status instead of a list comes out whole', () => {
    const status = { kind: 'Status', code: 410, reason: 'Expired' };
    expect(split(Buffer.from(JSON.stringify(status)), [5])).toEqual({ items: [], envelope: status });
  });

  it('every cut end is noticed', () => {
    const bytes = Buffer.from(JSON.stringify(NASTY));
    for (let end = 0; end < bytes.length; end++) {
      expect(() => split(bytes.subarray(0, end), []), `cut at ${end}`).toThrow(MalformedResponse);
    }
  });

  it.each(['<html>502</html>', '{"items":[{]}', '}', '{"items":[{"a":}]}', 'null x', '\0\0\0'])(
    'garbage %j',
    (text) => {
      expect(() => split(Buffer.from(text), [])).toThrow(MalformedResponse);
    },
  );

  it('is bounded', () => {
    const splitter = new ListSplitter(() => {});
    splitter.write(Buffer.from('{"items":[{"a":"'));
    expect(() => {
      for (let index = 0; index < 200; index++) splitter.write(Buffer.alloc(65_536, 0x61));
    }).toThrow(/more than/);
    const envelope = new ListSplitter(() => {});
    expect(() => {
      for (let index = 0; index < 200; index++) envelope.write(Buffer.alloc(65_536, 0x20));
    }).toThrow(/more than/);
  });
});

describe('LineSplitter', () => {
  const events = NASTY.items.map((object, index) => ({ type: 'ADDED', object, index }));
  const bytes = Buffer.from(events.map((event) => `${JSON.stringify(event)}\n`).join(''));

  it('gives every line once, cut anywhere; a last line without its end is dropped', () => {
    for (let cut = 0; cut <= bytes.length; cut++) {
      const seen: unknown[] = [];
      const splitter = new LineSplitter((value) => seen.push(value));
      const first = Buffer.from(bytes.subarray(0, cut));
      splitter.write(first);
      first.fill(0);
      const complete = bytes.subarray(0, cut).toString().split('\n').length - 1;
      expect(seen).toEqual(events.slice(0, complete));
      splitter.write(bytes.subarray(cut));
      expect(seen).toEqual(events);
    }
  });

  it('garbage and endless lines are errors, empty lines are not', () => {
    expect(() => new LineSplitter(() => {}).write(Buffer.from('{"a":1\n'))).toThrow(MalformedResponse);
    expect(() => new LineSplitter(() => {}).write(Buffer.from('\n\n'))).not.toThrow();
    const splitter = new LineSplitter(() => {});
    expect(() => {
      for (let index = 0; index < 200; index++) splitter.write(Buffer.alloc(65_536, 0x61));
    }).toThrow(/more than/);
  });
});
