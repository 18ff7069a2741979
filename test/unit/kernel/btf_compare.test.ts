// Two objects that share a map must lay it out alike: every way in which they may not is found, and said in words. The
// types are compiled by clang, as those of the programs are.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Btf } from '../../../exporter/kernel/btf.ts';
import { typeDifference } from '../../../exporter/kernel/btf_compare.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'knp-btf-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Type information of `struct value`, defined by `source`. */
function compile(source: string, name: string): { btf: Btf; id: number } {
  const path = join(folder, name);
  const flags = ['-g', '-O2', '-target', 'bpf', '-x', 'c', '-c', '-', '-o', `${path}.o`];
  const input = `typedef unsigned long long u64; typedef unsigned u32; typedef int s32;\n${source}\nstruct value global;\n`;
  execFileSync('clang', flags, { input });
  execFileSync('llvm-objcopy', ['--dump-section', `.BTF=${path}.btf`, `${path}.o`]);
  const btf = new Btf(readFileSync(`${path}.btf`));
  return { btf, id: btf.layout('value').type.id };
}

function difference(here: string, there: string): string | undefined {
  return typeDifference(compile(here, 'here'), compile(there, 'there'), 'value');
}

const STRUCT = 'struct value { u32 first; u32 second; };';

describe('no difference', () => {
  test.each([
    ['the same', STRUCT, STRUCT],
    ['other names of types', 'struct value { u64 a; };', 'typedef u64 count; struct value { count a; };'],
    [
      'nested structs of other names',
      'struct x { u32 a; }; struct value { struct x b; };',
      'struct value { struct y { u32 a; } b; };',
    ],
    ['what pointers point to', 'struct value { u32 *a; };', 'struct value { u64 *a; };'],
    ['qualifiers', 'struct value { volatile u32 a; };', 'struct value { u32 a; };'],
  ])('%s', (_name, here, there) => {
    expect(difference(here, there)).toBeUndefined();
  });
});

describe('a difference', () => {
  test.each([
    ['order', 'struct value { u32 second; u32 first; };', 'member 1 of value is first here and second there'],
    [
      'one member more there',
      'struct value { u32 first; u32 second; u32 third; };',
      'value.third is missing here',
    ],
    ['one member less there', 'struct value { u32 first; };', 'value.second is missing there'],
    ['size', 'struct value { u32 first; u64 second; };', 'value.second is at byte 4 here and 8 there'],
    ['sign', 'struct value { u32 first; s32 second; };', 'value.second has a sign there only'],
    ['kind', 'struct value { u32 first; u32 second[1]; };', 'value.second is int here and array there'],
    ['bits', 'struct value { u32 first; u32 second : 7; };', 'value.second has 0 bits here and 7 there'],
    [
      'room behind',
      'struct value { u32 first; u32 second; } __attribute__((aligned(16)));',
      'value has 8 bytes here and 16 there',
    ],
  ])('%s', (_name, there, expected) => {
    expect(difference(STRUCT, there)).toBe(expected);
  });

  test.each([
    ['length', 'char a[8]', 'char a[16]', 'value.a has 8 elements here and 16 there'],
    ['elements', 'u32 a[2]', 'u64 a[2]', 'value.a[] has 4 bytes here and 8 there'],
    [
      'deep within',
      'struct { u32 b; } a[2]',
      'struct { u32 c; } a[2]',
      'member 1 of value.a[] is b here and c there',
    ],
    ['value', 'enum { ONE = 1 } a', 'enum { ONE = 2 } a', 'value.a: ONE is 1 here and 2 there'],
    ['name less', 'enum { ONE, TWO } a', 'enum { ONE } a', 'value.a: TWO is 1 here and missing there'],
    ['name more', 'enum { ONE } a', 'enum { ONE, TWO } a', 'value.a: TWO is missing here'],
  ])('%s', (_name, here, there, expected) => {
    expect(difference(`struct value { ${here}; };`, `struct value { ${there}; };`)).toBe(expected);
  });
});
