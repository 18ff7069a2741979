// BTF that is not what it should be is refused with a reason, never read past its end.
import { describe, expect, test } from 'vitest';
import { Btf } from '../../../exporter/kernel/btf.ts';

/** BTF with the given types (as u32 words) and strings. */
function btf(types: number[], strings: string[]): Buffer {
  const text = Buffer.from(`\0${strings.map((s) => `${s}\0`).join('')}`);
  const bytes = Buffer.alloc(24 + types.length * 4 + text.length);
  bytes.writeUInt16LE(0xeb9f, 0);
  bytes.writeUInt8(1, 2);
  bytes.writeUInt32LE(24, 4);
  bytes.writeUInt32LE(types.length * 4, 12);
  bytes.writeUInt32LE(types.length * 4, 16);
  bytes.writeUInt32LE(text.length, 20);
  types.forEach((word, i) => {
    bytes.writeUInt32LE(word >>> 0, 24 + i * 4);
  });
  text.copy(bytes, 24 + types.length * 4);
  return bytes;
}
const INT = [1, 1 << 24, 4, 32]; // "int", 4 bytes
const kind = (number: number, count = 0, flag = 0) => ((flag << 31) | (number << 24) | count) >>> 0;

describe('well-formed', () => {
  test('nested, anonymous and bit-field members are found by path', () => {
    // 1 int; 2 struct inner { int a; int b; }; 3 anonymous union { int c; struct inner d; }; 4 outer, bit-field encoding
    const names = ['int', 'inner', 'a', 'b', 'c', 'd', 'outer', 'bits', 'typed'];
    const at = (name: string) =>
      1 + names.slice(0, names.indexOf(name)).reduce((sum, n) => sum + n.length + 1, 0);
    const types = new Btf(
      btf(
        [
          ...INT,
          ...[at('inner'), kind(4, 2), 8, at('a'), 1, 0, at('b'), 1, 32],
          ...[0, kind(5, 2), 8, at('c'), 1, 0, at('d'), 2, 0],
          ...[at('outer'), kind(4, 3, 1), 16, at('a'), 1, 0, 0, 3, 32, at('bits'), 1, (5 << 24) | 99],
          ...[at('typed'), kind(8), 4],
        ],
        names,
      ),
    );
    expect(types.count).toBe(5);
    const layout = types.layout('outer');
    expect(layout.size).toBe(16);
    expect(layout.names).toEqual(['a', 'c', 'd', 'bits']);
    expect([layout.offset('a'), layout.offset('c'), layout.offset('d'), layout.offset('d.b')]).toEqual([
      0, 4, 4, 8,
    ]);
    expect(layout.field('bits')).toMatchObject({ offset: 12, bitOffset: 3, bitSize: 5 });
    expect(types.layout('typed').offset('d.b')).toBe(8);
    expect(() => layout.offset('d.x')).toThrow('struct outer has no field d.x; it has a, c, d, bits');
    expect(() => types.layout('int')).toThrow('no struct int');
    expect(types.find('inner', 'union')).toBeUndefined();
  });
});

describe('malformed', () => {
  const cases: [string, Buffer, string][] = [
    ['empty', Buffer.alloc(0), 'not BTF'],
    ['other bytes', Buffer.alloc(100, 1), 'not BTF'],
    ['a header only', btf([], []).subarray(0, 24), 'truncated BTF: its header'],
    ['half of it', btf(INT, ['int']).subarray(0, 30), 'truncated BTF: its header'],
    ['a type that is cut off', btf([1, kind(4, 1000), 4], ['s']), 'truncated BTF: the last type'],
    ['an unknown kind', btf([1, kind(25), 4], ['s']), 'unknown kind'],
  ];
  for (const [name, bytes, message] of cases) {
    test(name, () => {
      expect(() => new Btf(bytes)).toThrow(message);
    });
  }

  test('references to types that are not there, to itself, and things without a size', () => {
    const types = new Btf(btf([1, kind(8), 1, 1, kind(10), 99, 1, kind(12), 0], ['loop']));
    expect(() => types.resolve(1)).toThrow('refers to itself');
    expect(() => types.resolve(2)).toThrow('BTF has no type 99; the last one is 3');
    expect(() => types.sizeOf(3)).toThrow('a function has no size');
    expect(() => types.type(-1)).toThrow(RangeError);
  });
});
