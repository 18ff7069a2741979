// BTF, the type information of BPF objects and of the kernel, as data. native.ts finds variables in it, decode.ts makes
// decoders from it, probes look up what the running kernel calls things (enum values, fields, functions).
// Format: Documentation/bpf/btf.rst of the kernel.

const MAGIC = 0xeb9f;

/** Kinds as numbered by the format; the name of a kind is its index. */
const KINDS = [
  'void',
  'int',
  'pointer',
  'array',
  'struct',
  'union',
  'enum',
  'forward',
  'typedef',
  'volatile',
  'const',
  'restrict',
  'function',
  'prototype',
  'variable',
  'section',
  'float',
  'declaration_tag',
  'type_tag',
  'enum64',
] as const;

export type BtfKind = (typeof KINDS)[number];

/** A member of a struct or union. `bitOffset` counts from the start of the struct; `bitSize` is 0 but for bit fields. */
export interface BtfMember {
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  readonly bitSize: number;
}

/** One variable of a data section, `.maps` included. */
export interface BtfSectionEntry {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

export interface BtfType {
  readonly id: number;
  readonly kind: BtfKind;
  readonly name: string;
  /** Bytes; of int, struct, union, enum, float, section. */
  readonly size: number;
  /** The type referred to; of pointer, typedef, modifiers, function, prototype (return type), variable, array (element). */
  readonly type: number;
  /** Of int and enum. */
  readonly signed: boolean;
  /** Elements of an array. */
  readonly length: number;
  readonly members: readonly BtfMember[];
  readonly values: readonly { readonly name: string; readonly value: bigint }[];
  readonly entries: readonly BtfSectionEntry[];
  readonly parameters: readonly { readonly name: string; readonly type: number }[];
}

/** Bytes that follow the 12 of a type, by kind. */
function extraBytes(kind: BtfKind, vlen: number): number {
  switch (kind) {
    case 'int':
    case 'variable':
    case 'declaration_tag':
      return 4;
    case 'array':
      return 12;
    case 'struct':
    case 'union':
    case 'section':
    case 'enum64':
      return 12 * vlen;
    case 'enum':
    case 'prototype':
      return 8 * vlen;
    default:
      return 0;
  }
}

/** Parsed type information. Types are decoded when asked for: the kernel has more than a hundred thousand. */
export class Btf {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #stringsAt: number;
  readonly #stringsEnd: number;
  readonly #offsets: number[] = [0]; // by type id; id 0 is void
  readonly #cache = new Map<number, BtfType>();

  /** @param raw the bytes of a `.BTF` section or of /sys/kernel/btf/vmlinux (little-endian). Throws on a malformed one. */
  constructor(raw: Uint8Array) {
    this.#bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    this.#view = view;
    if (raw.byteLength < 24 || view.getUint16(0, true) !== MAGIC) {
      throw new Error('not BTF: it does not begin with the magic number 0xeb9f');
    }
    const header = view.getUint32(4, true);
    const typesAt = header + view.getUint32(8, true);
    const typesEnd = typesAt + view.getUint32(12, true);
    this.#stringsAt = header + view.getUint32(16, true);
    this.#stringsEnd = this.#stringsAt + view.getUint32(20, true);
    if (typesEnd > raw.byteLength || this.#stringsEnd > raw.byteLength) {
      throw new Error('truncated BTF: its header speaks of more bytes than there are');
    }
    for (let at = typesAt; at < typesEnd; ) {
      const info = view.getUint32(at + 4, true);
      const kind = KINDS[(info >>> 24) & 0x1f];
      if (kind === undefined)
        throw new Error(`BTF type ${this.#offsets.length} has unknown kind ${info >>> 24}`);
      this.#offsets.push(at);
      at += 12 + extraBytes(kind, info & 0xffff);
      if (at > typesEnd) throw new Error('truncated BTF: the last type is cut off');
    }
  }

  /** Number of types; ids run from 1 to this. */
  get count(): number {
    return this.#offsets.length - 1;
  }

  #string(offset: number): string {
    const start = this.#stringsAt + offset;
    const end = this.#bytes.indexOf(0, start);
    return this.#bytes.toString('utf8', start, end < 0 || end > this.#stringsEnd ? this.#stringsEnd : end);
  }

  /** The type with this id. Throws RangeError where there is none. */
  type(id: number): BtfType {
    let type = this.#cache.get(id);
    if (!type) {
      type = this.#decode(id);
      this.#cache.set(id, type);
    }
    return type;
  }

  #decode(id: number): BtfType {
    const base = { id, name: '', size: 0, type: 0, signed: false, length: 0 };
    const none = { members: [], values: [], entries: [], parameters: [] };
    if (id === 0) return { ...base, ...none, kind: 'void' };
    const at = this.#offsets[id];
    if (at === undefined) throw new RangeError(`BTF has no type ${id}; the last one is ${this.count}`);
    const view = this.#view;
    const info = view.getUint32(at + 4, true);
    const kind = KINDS[(info >>> 24) & 0x1f] as BtfKind;
    const flag = info >>> 31 === 1;
    const sizeOrType = view.getUint32(at + 8, true);
    const sized = ['int', 'struct', 'union', 'enum', 'float', 'section', 'enum64'].includes(kind);
    const result = { ...base, ...none, kind, name: this.#string(view.getUint32(at, true)) };
    if (sized) result.size = sizeOrType;
    else result.type = sizeOrType;
    return Object.assign(result, this.#tail(kind, at + 12, info & 0xffff, flag));
  }

  /** What follows the common part, by kind. `flag`: signed for enums, bit-field encoding for structs. */
  #tail(kind: BtfKind, at: number, length: number, flag: boolean): Partial<BtfType> {
    const view = this.#view;
    const u32 = (offset: number) => view.getUint32(offset, true);
    const list = <T>(stride: number, read: (offset: number) => T) =>
      Array.from({ length }, (_, i) => read(at + i * stride));
    switch (kind) {
      case 'int':
        return { signed: ((u32(at) >>> 24) & 1) === 1 };
      case 'array':
        return { type: u32(at), length: u32(at + 8) };
      case 'struct':
      case 'union':
        return {
          members: list(12, (o) => ({
            name: this.#string(u32(o)),
            type: u32(o + 4),
            bitOffset: flag ? u32(o + 8) & 0xffffff : u32(o + 8),
            bitSize: flag ? u32(o + 8) >>> 24 : 0,
          })),
        };
      case 'enum':
        return {
          signed: flag,
          values: list(8, (o) => ({
            name: this.#string(u32(o)),
            value: BigInt(flag ? view.getInt32(o + 4, true) : u32(o + 4)),
          })),
        };
      case 'enum64':
        return {
          signed: flag,
          values: list(12, (o) => {
            const value = BigInt(u32(o + 4)) | (BigInt(u32(o + 8)) << 32n);
            return { name: this.#string(u32(o)), value: flag ? BigInt.asIntN(64, value) : value };
          }),
        };
      case 'section':
        return { entries: list(12, (o) => ({ type: u32(o), offset: u32(o + 4), size: u32(o + 8) })) };
      case 'prototype':
        return { parameters: list(8, (o) => ({ name: this.#string(u32(o)), type: u32(o + 4) })) };
      default:
        return {};
    }
  }

  /** The first type of this name (and kind), or undefined. Looks the name up in the string table, so it costs little. */
  find(name: string, kind?: BtfKind): BtfType | undefined {
    if (name === '') return undefined;
    const wanted = Buffer.from(`\0${name}\0`);
    const found = this.#bytes.indexOf(wanted, this.#stringsAt);
    if (found < 0 || found + wanted.length > this.#stringsEnd) return undefined;
    const offset = found + 1 - this.#stringsAt;
    for (let id = 1; id < this.#offsets.length; id++) {
      const at = this.#offsets[id] as number;
      if (this.#view.getUint32(at, true) !== offset) continue;
      if (kind === undefined || KINDS[(this.#view.getUint32(at + 4, true) >>> 24) & 0x1f] === kind)
        return this.type(id);
    }
    return undefined;
  }

  /** Follows typedefs, const, volatile, restrict and type tags to the type itself. */
  resolve(id: number): BtfType {
    let type = this.type(id);
    for (let depth = 0; depth < 64; depth++) {
      if (!['typedef', 'const', 'volatile', 'restrict', 'type_tag', 'declaration_tag'].includes(type.kind))
        return type;
      type = this.type(type.type);
    }
    throw new Error(`BTF type ${id} refers to itself`);
  }

  /** Bytes that a value of this type takes. Throws for types without a size (functions, void). */
  sizeOf(id: number): number {
    const type = this.resolve(id);
    switch (type.kind) {
      case 'int':
      case 'struct':
      case 'union':
      case 'enum':
      case 'enum64':
      case 'float':
      case 'section':
        return type.size;
      case 'pointer':
        return 8;
      case 'array':
        return type.length * this.sizeOf(type.type);
      default:
        throw new Error(`a ${type.kind} has no size`);
    }
  }

  /** Value of an enumerator (`TCP_ESTABLISHED`, a drop reason, a helper's number), whichever enum it belongs to. */
  enumerator(enumName: string, name: string): number | undefined {
    const type = this.find(enumName, 'enum') ?? this.find(enumName, 'enum64');
    const entry = type?.values.find((v) => v.name === name);
    return entry && Number(entry.value);
  }

  /** Variables of a data section (`.rodata`, `.bss`, `.maps`), or an empty list. */
  variables(section: string): { name: string; type: number; offset: number; size: number }[] {
    const found = this.find(section, 'section');
    return (found?.entries ?? []).map((entry) => {
      const variable = this.type(entry.type);
      return { name: variable.name, type: variable.type, offset: entry.offset, size: entry.size };
    });
  }

  /** Type ids of key and value of a map defined in `.maps`; undefined where the definition gives only a size. */
  mapTypes(map: string): { key: number | undefined; value: number | undefined } | undefined {
    const definition = this.variables('.maps').find((v) => v.name === map);
    if (!definition) return undefined;
    const pointee = (member: string) => {
      const found = this.resolve(definition.type).members.find((m) => m.name === member);
      return found && this.resolve(found.type).type;
    };
    return { key: pointee('key'), value: pointee('value') };
  }

  /** Where the fields of a struct (or union, or typedef of one) are. Throws where there is none of this name. */
  layout(name: string): StructLayout {
    const type = this.find(name, 'struct') ?? this.find(name, 'union') ?? this.find(name, 'typedef');
    const struct = type && this.resolve(type.id);
    if (!struct || (struct.kind !== 'struct' && struct.kind !== 'union')) {
      throw new Error(`the type information has no struct ${name}`);
    }
    return new StructLayout(this, struct, name);
  }
}

/** A field found by path: its place in the outermost struct and its type. */
export interface BtfField {
  readonly offset: number;
  readonly size: number;
  readonly type: BtfType;
  /** Bit fields only: first bit counted from `offset`, and how many; else 0. */
  readonly bitOffset: number;
  readonly bitSize: number;
}

/** Sizes and offsets of one struct. Paths go into nested structs (`key.address`); anonymous ones are looked through. */
export class StructLayout {
  readonly name: string;
  /** Bytes of the whole struct. */
  readonly size: number;
  readonly type: BtfType;
  readonly #btf: Btf;
  readonly #fields = new Map<string, BtfField>();

  constructor(btf: Btf, type: BtfType, name: string) {
    this.#btf = btf;
    this.type = type;
    this.name = name;
    this.size = type.size;
  }

  /** Names of the direct fields, those of anonymous members included. */
  get names(): string[] {
    const collect = (type: BtfType): string[] =>
      type.members.flatMap((m) => (m.name === '' ? collect(this.#btf.resolve(m.type)) : [m.name]));
    return collect(this.type);
  }

  /** Throws where the struct has no such field, saying which it has. */
  field(path: string): BtfField {
    let field = this.#fields.get(path);
    if (!field) {
      let at = 0;
      let type = this.type;
      let last: BtfMember | undefined;
      for (const name of path.split('.')) {
        const found = findMember(this.#btf, type, name);
        if (!found)
          throw new Error(`struct ${this.name} has no field ${path}; it has ${this.names.join(', ')}`);
        at += found.bits;
        last = found.member;
        type = this.#btf.resolve(found.member.type);
      }
      const bitSize = last?.bitSize ?? 0;
      const offset = at >>> 3;
      field = { offset, size: this.#btf.sizeOf(type.id), type, bitOffset: bitSize ? at & 7 : 0, bitSize };
      this.#fields.set(path, field);
    }
    return field;
  }

  /** Byte offset of a field from the start of the struct. */
  offset(path: string): number {
    return this.field(path).offset;
  }
}

function findMember(btf: Btf, type: BtfType, name: string): { member: BtfMember; bits: number } | undefined {
  for (const member of type.members) {
    if (member.name === name) return { member, bits: member.bitOffset };
    if (member.name !== '') continue;
    const inner = findMember(btf, btf.resolve(member.type), name);
    if (inner) return { member: inner.member, bits: member.bitOffset + inner.bits };
  }
  return undefined;
}
