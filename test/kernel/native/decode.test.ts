// Decoders: values that a BPF program wrote come out as it wrote them; every size and offset that they use is the one that
// other tools read from the same object.
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Btf } from '../../../exporter/kernel/btf.ts';
import { fullSpec, structDecoder } from '../../../exporter/kernel/decode.ts';
import { type BpfObject, kernelBtf, openObject } from '../../../exporter/kernel/native.ts';
import { bpftool, compile } from './support.ts';

const path = compile('layout');

describe('values written by a program', () => {
  let object: BpfObject;
  let btf: Btf;
  beforeAll(() => {
    object = openObject(path);
    object.load();
    object.program('knpt_sample').testRun({ data: Buffer.alloc(64) });
    btf = new Btf(object.btf() as Buffer);
  });
  afterAll(() => object.close());

  test('each kind of field, 64 bits exactly', () => {
    const { count, keys, values } = object.map('samples').readAll();
    expect(count).toBe(1);
    const decoder = structDecoder(btf, 'awkward', {
      flag: 'number',
      wide: 'bigint',
      negative: 'bigint',
      small: 'number',
      smaller: 'bigint',
      smallest: 'number',
      comm: 'string',
      path: 'strings',
      inner: { port: 'number', address: 'bytes' },
      by_number: 'number',
      by_bytes: 'bytes',
      truth: 'boolean',
      colour: 'number',
      low: 'number',
      middle: 'bigint',
      high: 'number',
      totals: 'bigints',
      few: 'numbers',
    });
    expect(decoder.size).toBe(object.map('samples').valueSize);
    expect(decoder.decodeAll(values, count)).toEqual([
      {
        flag: 255,
        wide: 0xfedcba9876543210n,
        negative: -1234567890123456789n,
        small: -2000000000,
        smaller: -30000n,
        smallest: -128,
        comm: 'nginx: worker',
        path: ['kubepods', 'béta', ''],
        inner: { port: 65535, address: Buffer.from([1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) },
        by_number: 0x01020304,
        by_bytes: Buffer.from([4, 3, 2, 1]),
        truth: true,
        colour: 300,
        low: 21,
        middle: 100000n,
        high: 1023,
        totals: [0n, 1n, 9007199254740993n, 18446744073709551615n],
        few: [1, 2, 65535],
      },
    ]);
    expect(structDecoder(btf, 'inner', { port: 'number' }).decode(keys)).toEqual({ port: 80 });
  });

  test('64-bit numbers are exact up to 2^53 and the nearest double beyond', () => {
    const { values } = object.map('samples').readAll();
    const decoded = structDecoder(btf, 'awkward', { totals: 'numbers', negative: 'number' }).decode(values);
    expect(decoded.totals).toEqual([0, 1, Number(9007199254740993n), 2 ** 64]);
    expect(decoded.negative).toBe(Number(-1234567890123456789n));
    const max = Buffer.from(values);
    max.writeBigUInt64LE(BigInt(Number.MAX_SAFE_INTEGER), btf.layout('awkward').offset('totals'));
    expect(structDecoder(btf, 'awkward', { totals: 'numbers' }).decode(max).totals[0]).toBe(
      Number.MAX_SAFE_INTEGER,
    );
  });

  test('hostile bytes: no NUL, broken UTF-8', () => {
    const { values } = object.map('samples').readAll();
    const bytes = Buffer.from(values);
    bytes.fill(0xff, btf.layout('awkward').offset('comm'), btf.layout('awkward').offset('path'));
    const { comm } = structDecoder(btf, 'awkward', { comm: 'string' }).decode(bytes);
    expect(comm).toBe('\ufffd'.repeat(16));
  });

  test('what cannot be is refused when the decoder is made', () => {
    expect(() => structDecoder(btf, 'awkwardly', {})).toThrow('the type information has no struct awkwardly');
    expect(() => structDecoder(btf, 'awkward', { wild: 'number' })).toThrow(
      /no field wild; it has flag, wide, neg/,
    );
    expect(() => structDecoder(btf, 'awkward', { comm: 'number' })).toThrow(
      /field comm .* cannot be read as number/,
    );
    expect(() => structDecoder(btf, 'awkward', { wide: 'string' })).toThrow(
      /field wide .* cannot be read as string/,
    );
    expect(() => structDecoder(btf, 'awkward', { inner: { port: 'bigints' } })).toThrow(
      /field inner.port of struct/,
    );
    expect(() => structDecoder(btf, 'awkward', { flag: 'float' as 'number' })).toThrow(
      'no such kind of field: float',
    );
    const decoder = structDecoder(btf, 'inner', { port: 'number' });
    expect(() => decoder.decode(Buffer.alloc(17))).toThrow('struct inner has 18 bytes, 17 are left');
    expect(() => decoder.decode(Buffer.alloc(18), 1)).toThrow(RangeError);
    expect(() => decoder.decodeAll(Buffer.alloc(35), 2)).toThrow(
      '2 records of struct inner do not fit in 35 bytes',
    );
    expect(() => decoder.decodeAll(Buffer.alloc(100), 2, 17)).toThrow(RangeError);
  });
});

interface DumpedType {
  id: number;
  kind: string;
  name: string;
  size?: number;
  members?: { name: string; type_id: number; bits_offset: number; bitfield_size?: number }[];
}

const built = fileURLToPath(new URL('../../../build/bpf/', import.meta.url));
const agentObjects = readdirSync(built)
  .filter((name) => name.endsWith('.bpf.o'))
  .map((name) => built + name);
const ours = ['layout', 'maps', 'hooks', 'ring'].map(compile);

describe('every struct in the objects, as bpftool reads it', () => {
  for (const object of [...agentObjects, ...ours]) {
    test(object.replace(/.*\/build\//, ''), () => {
      const opened = openObject(object);
      const btf = new Btf(opened.btf() as Buffer);
      const maps = opened.maps;
      opened.close();
      const { types } = bpftool<{ types: DumpedType[] }>('btf', 'dump', 'file', object);
      // libbpf adds a dummy variable to an object that names kernel functions.
      expect(btf.count - types.length).toBeOneOf([0, 1]);
      let compared = 0;
      for (const dumped of types) {
        const type = btf.type(dumped.id);
        expect(type.name).toBe(dumped.name === '(anon)' ? '' : dumped.name);
        if (dumped.kind !== 'STRUCT' && dumped.kind !== 'UNION') continue;
        expect(type.size).toBe(dumped.size);
        expect(type.members.map((m) => [m.name, m.type, m.bitOffset, m.bitSize])).toEqual(
          (dumped.members ?? []).map((m) => [
            m.name === '(anon)' ? '' : m.name,
            m.type_id,
            m.bits_offset,
            m.bitfield_size ?? 0,
          ]),
        );
        compared += type.members.length;
      }
      expect(compared).toBeGreaterThan(0);
      // what a map holds is as large as the kernel will be told, and its decoder covers it
      for (const map of maps) {
        const { key, value } = btf.mapTypes(map.name) ?? {};
        if (key !== undefined) expect(btf.sizeOf(key)).toBe(map.keySize);
        if (value === undefined) continue;
        expect(btf.sizeOf(value)).toBe(map.valueSize);
        const type = btf.resolve(value);
        if (type.kind !== 'struct' || type.name === '') continue;
        const decoder = structDecoder(btf, type.name, fullSpec(btf, type.name));
        expect(decoder.size).toBe(map.valueSize);
        expect(Object.keys(decoder.decode(Buffer.alloc(decoder.size)))).toEqual(btf.layout(type.name).names);
      }
    });
  }

  test('and as the compiler wrote it into DWARF', () => {
    const dwarf = execFileSync('llvm-dwarfdump', ['--name=awkward', '--show-children', path], {
      encoding: 'utf8',
    });
    const members = [
      ...dwarf.matchAll(/DW_TAG_member\s+DW_AT_name\s+\("(\w+)"\)([\s\S]*?)(?=DW_TAG|$)/g),
    ].map((m) => [m[1], /DW_AT_data_member_location\s+\((0x\w+)\)/.exec(m[2] ?? '')?.[1]]);
    const opened = openObject(path);
    const layout = new Btf(opened.btf() as Buffer).layout('awkward');
    opened.close();
    const whole = members.filter(([name, at]) => at !== undefined && layout.names.includes(name as string));
    expect(whole.map(([name]) => name)).toEqual(
      expect.arrayContaining(['wide', 'comm', 'inner', 'totals', 'few']),
    );
    // those of a union count from it, those of bit fields from their storage unit
    const other = ['by_number', 'by_bytes', 'low', 'middle', 'high'];
    const outer = whole.filter(([name]) => !other.includes(name as string));
    expect(outer.map(([name, at]) => [name, Number(at)])).toEqual(
      outer.map(([name]) => [name, layout.offset(name as string)]),
    );
  });
});

describe("the kernel's own", () => {
  test('sizes and offsets of a few structs, and enumerators, as bpftool prints them', () => {
    const btf = new Btf(kernelBtf());
    const { types } = bpftool<{ types: DumpedType[] }>('btf', 'dump', 'file', '/sys/kernel/btf/vmlinux');
    expect(btf.count).toBe(types.length);
    for (const name of ['tcp_sock', 'sock', 'task_struct', 'sk_buff']) {
      const dumped = types.find((t) => t.kind === 'STRUCT' && t.name === name) as DumpedType;
      const found = btf.find(name, 'struct');
      expect(found?.id).toBe(dumped.id);
      expect(found?.size).toBe(dumped.size);
      expect(found?.members.map((m) => m.bitOffset)).toEqual(dumped.members?.map((m) => m.bits_offset));
    }
    const enums = types as unknown as {
      name: string;
      kind: string;
      values?: { name: string; val: number }[];
    }[];
    const reasons = enums.find((t) => t.kind === 'ENUM' && t.name === 'bpf_func_id')?.values ?? [];
    expect(reasons.length).toBeGreaterThan(150);
    for (const { name, val } of reasons) expect(btf.enumerator('bpf_func_id', name)).toBe(val);
    expect(btf.find('no_such_struct_anywhere')).toBeUndefined();
    expect(btf.enumerator('bpf_func_id', 'BPF_FUNC_none_such')).toBeUndefined();
  });
});
