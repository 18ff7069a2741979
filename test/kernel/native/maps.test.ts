// Maps of every kind: what is written is read back, by batch and key by key, and as bpftool sees it.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BpfMap, type BpfObject, openObject, possibleCpus } from '../../../exporter/kernel/native.ts';
import { scaled } from '../../guests/scale.ts';
import { bpftool, compile, u32 } from './support.ts';

let object: BpfObject;
beforeAll(() => {
  object = openObject(compile('maps'));
  object.load();
});
afterAll(() => object.close());

/** Deterministic numbers, so that a failure can be repeated. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}

/** Fills a map with `count` distinct random keys and random values; returns what was written, as hex. */
function fill(map: BpfMap, count: number, valueBytes: number, seed: number): Map<string, string> {
  const next = random(seed);
  const written = new Map<string, string>();
  const keys: Buffer[] = [];
  const values: Buffer[] = [];
  while (written.size < count) {
    const key = u32(next());
    if (written.has(key.toString('hex'))) continue;
    const value = Buffer.alloc(valueBytes);
    for (let at = 0; at < valueBytes; at += 4) value.writeUInt32LE(next(), at);
    written.set(key.toString('hex'), value.toString('hex'));
    keys.push(key);
    values.push(value);
  }
  map.updateMany(Buffer.concat(keys), Buffer.concat(values), count);
  return written;
}

function contents(map: BpfMap, method: 'batch' | 'next_key'): Map<string, string> {
  const { count, keys, values, method: used } = map.readAll({ method });
  expect(used).toBe(method);
  const stride = values.length / count;
  const read = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const key = keys.toString('hex', i * map.keySize, (i + 1) * map.keySize);
    expect(read.has(key)).toBe(false);
    read.set(key, values.toString('hex', i * stride, (i + 1) * stride));
  }
  return read;
}

const sorted = (map: Map<string, string>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

describe('whole maps', () => {
  const cases: [string, number, number][] = [
    ['plain', scaled(20_000), 16],
    ['least_recent', scaled(5_000), 16],
    ['per_cpu', scaled(3_000), 16 * possibleCpus()],
    ['plain', 1, 16],
  ];
  for (const [name, count, bytes] of cases) {
    test(`${name} with ${count} elements: batch and next_key give what was written`, () => {
      const map = object.map(name);
      map.clear();
      expect(map.readAll()).toMatchObject({ count: 0, keys: Buffer.alloc(0), values: Buffer.alloc(0) });
      const written = sorted(fill(map, count, bytes, count));
      expect(map.count()).toBe(count);
      expect(sorted(contents(map, 'batch'))).toEqual(written);
      expect(sorted(contents(map, 'next_key'))).toEqual(written);
    });
  }

  test('arrays', () => {
    const map = object.map('flat');
    const value = Buffer.alloc(16, 7);
    map.update(u32(999), value);
    for (const method of ['batch', 'next_key'] as const) {
      const { count, keys, values } = map.readAll({ method });
      expect(count).toBe(1000);
      expect(keys.readUInt32LE(999 * 4)).toBe(999);
      expect(values.subarray(999 * 16)).toEqual(value);
      expect(values.subarray(0, 999 * 16).every((byte) => byte === 0)).toBe(true);
    }
    map.clear();
    expect(map.lookup(u32(999))).toEqual(Buffer.alloc(16));
    expect(() => map.readAll({ remove: true })).toThrow("map 'flat' is an array");
  });

  test('a trie of prefixes', () => {
    const map = object.map('prefixes');
    const count = scaled(4000);
    const keys = Buffer.alloc(20 * count);
    const values = Buffer.alloc(4 * count);
    for (let i = 0; i < count; i++) {
      keys.writeUInt32LE(128, i * 20);
      keys.writeUInt32BE(i * 7919, i * 20 + 16);
      values.writeUInt32LE(i, i * 4);
    }
    map.updateMany(keys, values, count);
    const batch = contents(map, 'batch');
    expect(batch.size).toBe(count);
    expect(sorted(contents(map, 'next_key'))).toEqual(sorted(batch));
    for (const i of [0, 1, count - 1]) {
      expect(batch.get(keys.toString('hex', i * 20, i * 20 + 20))).toBe(u32(i).toString('hex'));
    }
  });

  test('taking out leaves the map empty and gives every element once', () => {
    for (const method of ['batch', 'next_key'] as const) {
      const map = object.map('plain');
      map.clear();
      const written = sorted(fill(map, scaled(10_000), 16, 99));
      const { count, keys, values } = map.readAll({ remove: true, method });
      const taken = new Map<string, string>();
      for (let i = 0; i < count; i++) {
        taken.set(keys.toString('hex', i * 4, i * 4 + 4), values.toString('hex', i * 16, i * 16 + 16));
      }
      expect(sorted(taken)).toEqual(written);
      expect(map.readAll().count).toBe(0);
    }
  });

  test('agrees with bpftool', () => {
    const map = object.map('plain');
    map.clear();
    fill(map, 500, 16, 5);
    const dump = bpftool<{ key: string[]; value: string[] }[]>('map', 'dump', 'id', String(map.id));
    const hex = (bytes: string[]) => bytes.map((byte) => byte.slice(2)).join('');
    expect(sorted(contents(map, 'batch'))).toEqual(
      sorted(new Map(dump.map((e) => [hex(e.key), hex(e.value)]))),
    );
  });
});

describe('per-CPU values', () => {
  test('u64 sums are the sums of what each CPU has, modulo 2^64', () => {
    const map = object.map('per_cpu');
    map.clear();
    const cpus = possibleCpus();
    fill(map, 2000, 16 * cpus, 3);
    const overflow = Buffer.alloc(16 * cpus);
    overflow.fill(0xff);
    map.update(u32(1), overflow);
    const raw = map.readAll();
    const summed = map.readAll({ sum: 'u64' });
    expect(summed.count).toBe(raw.count);
    expect(summed.keys).toEqual(raw.keys);
    for (let i = 0; i < raw.count; i++) {
      for (const field of [0, 8]) {
        let expected = 0n;
        for (let cpu = 0; cpu < cpus; cpu++)
          expected += raw.values.readBigUInt64LE((i * cpus + cpu) * 16 + field);
        expect(summed.values.readBigUInt64LE(i * 16 + field)).toBe(BigInt.asUintN(64, expected));
      }
    }
    const single = map.lookup(u32(1), { sum: 'u64' });
    expect(single?.readBigUInt64LE(0)).toBe(BigInt.asUintN(64, -BigInt(cpus)));
  });

  test('what programs counted on any CPU adds up to what was run', () => {
    const map = object.map('per_cpu');
    map.clear();
    object.map('per_cpu_narrow').clear();
    const runs = scaled(10_000);
    object.program('knpt_add').testRun({ data: Buffer.alloc(100), repeat: runs });
    const { count, values } = map.readAll({ sum: 'u64' });
    expect(count).toBe(10);
    for (let i = 0; i < 10; i++) {
      expect(values.readBigUInt64LE(i * 16)).toBe(BigInt(runs));
      expect(values.readBigUInt64LE(i * 16 + 8)).toBe(BigInt(runs * 100));
    }
    const narrow = object.map('per_cpu_narrow').lookup(u32(6), { sum: 'u32' });
    expect(Array.from({ length: 4 }, (_, i) => narrow?.readUInt32LE(i * 4))).toEqual([0, 0, runs, 0]);
  });

  test('values that are not made of such words are refused', () => {
    const map = object.map('odd');
    expect(() => map.readAll({ sum: 'u64' })).toThrow('values of 13 bytes are not made of words of 8 bytes');
    expect(() => map.readAll({ sum: 'u16' as 'u32' })).toThrow("sum must be 'u64' or 'u32', not u16");
    expect(map.readAll().count).toBe(0);
  });
});

describe('single elements', () => {
  test('lookup, flags, delete, lookupAndDelete', () => {
    const map = object.map('plain');
    map.clear();
    const value = Buffer.alloc(16, 1);
    expect(map.lookup(u32(1))).toBeUndefined();
    expect(map.update(u32(1), value, 'exist')).toBe(false);
    expect(map.update(u32(1), value, 'noexist')).toBe(true);
    expect(map.update(u32(1), Buffer.alloc(16, 2), 'noexist')).toBe(false);
    expect(map.lookup(u32(1))).toEqual(value);
    expect(map.lookupAndDelete(u32(1))).toEqual(value);
    expect(map.lookupAndDelete(u32(1))).toBeUndefined();
    expect(map.delete(u32(1))).toBe(false);
  });

  test('a full map says E2BIG', () => {
    using small = openObject(compile('maps'), { maxEntries: { plain: 3 } });
    small.load();
    const map = small.map('plain');
    expect(map.maxEntries).toBe(3);
    for (let i = 0; i < 3; i++) map.update(u32(i), Buffer.alloc(16));
    expect(() => map.update(u32(4), Buffer.alloc(16))).toThrow(/update of map 'plain' failed: .*\(E2BIG\)/);
    expect(map.count()).toBe(3);
  });

  test('wrong sizes and types are refused before the kernel is asked', () => {
    const map = object.map('plain');
    expect(() => map.lookup(Buffer.alloc(3))).toThrow("map 'plain': the key has 3 bytes, not 4");
    expect(() => map.update(u32(1), Buffer.alloc(15))).toThrow("map 'plain': the value has 15 bytes, not 16");
    expect(() => map.updateMany(u32(1), Buffer.alloc(16), 2)).toThrow(
      'keys and values do not have 2 elements',
    );
    expect(() => map.lookup('abcd' as unknown as Buffer)).toThrow('must be a Uint8Array');
    expect(() => map.lookup(new Uint16Array(2) as unknown as Buffer)).toThrow('must be a Uint8Array');
    expect(() => map.update(u32(1), Buffer.alloc(16), 'maybe' as 'any')).toThrow(
      'flags must be one of any, noexist',
    );
    expect(() => map.readAll({ method: 'guess' as 'auto' })).toThrow(
      'method must be one of auto, batch, next_key',
    );
    expect(() => object.map('nothing')).toThrow("has no map 'nothing'");
  });
});

describe('opening', () => {
  const path = compile('maps');
  test('options that name what is not there say what is', () => {
    expect(() => openObject(path, { maxEntries: { plane: 1 } })).toThrow(
      /has no map 'plane'; it has .*plain, least_recent/,
    );
    expect(() => openObject(path, { autoload: { knpt_sub: true } })).toThrow(
      /has no program 'knpt_sub'; it has knpt_add/,
    );
    expect(() => openObject(path, { rodata: { target: 1 } })).toThrow(
      /no read-only variable 'target'; it has target_pid/,
    );
    expect(() => openObject(path, { rodata: { target_pid: 2 ** 32 } })).toThrow(
      '4294967296 does not fit in 4 bytes',
    );
    expect(() => openObject(path, { rodata: { target_pid: 1.5 } })).toThrow('must be a whole number');
    expect(() => openObject(path, { maxEntries: { plain: 0 } })).toThrow(
      'maxEntries.plain must be an integer from 1',
    );
    expect(() => openObject('/nonexistent.bpf.o')).toThrow(
      /cannot read BPF object \/nonexistent.bpf.o: .*\(ENOENT\)/,
    );
    expect(() => openObject(Buffer.from('this is no ELF file'))).toThrow(/cannot open BPF object 'buffer'/);
    expect(() => openObject(7 as unknown as string)).toThrow('needs a path or the bytes');
  });

  test('reuse shares one map; a map of another shape is refused', () => {
    using other = openObject(path, { reuseMaps: { plain: object.map('plain') } });
    other.load();
    expect(other.map('plain').id).toBe(object.map('plain').id);
    other.map('plain').update(u32(4242), Buffer.alloc(16, 9));
    expect(object.map('plain').lookup(u32(4242))).toEqual(Buffer.alloc(16, 9));
    expect(() => openObject(path, { reuseMaps: { flat: object.map('plain') } })).toThrow(
      "map 'flat' differs in type",
    );
  });

  test('what the verifier refuses comes with its log', () => {
    using bad = openObject(compile('alternatives'));
    let caught: unknown;
    try {
      bad.load();
    } catch (error) {
      caught = error;
    }
    expect(caught).toMatchObject({ name: 'KernelError', log: expect.stringMatching(/prog 'knpt_/) });
    expect(() => bad.map('shared')).toThrow('is not loaded');
  });
});
