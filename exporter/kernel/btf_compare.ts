// Are two types laid out alike? Objects that share a map are compiled apart, perhaps from different versions of a header:
// what one writes the other must read. Called by the loader.
import type { Btf, BtfType } from './btf.ts';

/** A type in its object. */
export interface TypeIn {
  readonly btf: Btf;
  readonly id: number;
}

/**
 * The first difference between two types, as words that follow "they differ:"; undefined where there is none. Compared
 * are sizes, signs, lengths, and of members and enumerators the names, places and values. The names of structs and
 * typedefs may differ, and what a pointer points to is nobody else's business.
 */
export function typeDifference(one: TypeIn, other: TypeIn, path: string): string | undefined {
  const a = one.btf.resolve(one.id);
  const b = other.btf.resolve(other.id);
  if (a.kind !== b.kind) return `${path} is ${a.kind} here and ${b.kind} there`;
  switch (a.kind) {
    case 'struct':
    case 'union':
      return structDifference({ btf: one.btf, type: a }, { btf: other.btf, type: b }, path);
    case 'array':
      if (a.length !== b.length) return `${path} has ${a.length} elements here and ${b.length} there`;
      return typeDifference({ btf: one.btf, id: a.type }, { btf: other.btf, id: b.type }, `${path}[]`);
    case 'enum':
    case 'enum64':
      return sizeDifference(a, b, path) ?? enumDifference(a, b, path);
    default:
      return sizeDifference(a, b, path);
  }
}

function sizeDifference(a: BtfType, b: BtfType, path: string): string | undefined {
  if (a.size !== b.size) return `${path} has ${a.size} bytes here and ${b.size} there`;
  if (a.signed !== b.signed) return `${path} has a sign ${a.signed ? 'here' : 'there'} only`;
  return undefined;
}

function enumDifference(a: BtfType, b: BtfType, path: string): string | undefined {
  const there = new Map(b.values.map(({ name, value }) => [name, value]));
  for (const { name, value } of a.values) {
    if (there.get(name) !== value)
      return `${path}: ${name} is ${value} here and ${there.get(name) ?? 'missing'} there`;
    there.delete(name);
  }
  const [more] = there.keys();
  return more === undefined ? undefined : `${path}: ${more} is missing here`;
}

interface StructIn {
  readonly btf: Btf;
  readonly type: BtfType;
}

function structDifference(one: StructIn, other: StructIn, path: string): string | undefined {
  const [a, b] = [one.type, other.type];
  for (const [i, member] of a.members.entries()) {
    const there = b.members[i];
    const at = member.name === '' ? path : `${path}.${member.name}`;
    if (there === undefined) return `${at} is missing there`;
    if (there.name !== member.name)
      return `member ${i + 1} of ${path} is ${member.name || 'anonymous'} here and ${there.name || 'anonymous'} there`;
    if (there.bitOffset !== member.bitOffset)
      return `${at} is at byte ${member.bitOffset / 8} here and ${there.bitOffset / 8} there`;
    if (there.bitSize !== member.bitSize)
      return `${at} has ${member.bitSize} bits here and ${there.bitSize} there`;
    const difference = typeDifference(
      { btf: one.btf, id: member.type },
      { btf: other.btf, id: there.type },
      at,
    );
    if (difference !== undefined) return difference;
  }
  const more = b.members[a.members.length];
  if (more !== undefined) return `${path}.${more.name} is missing here`;
  return a.size === b.size ? undefined : `${path} has ${a.size} bytes here and ${b.size} there`;
}
