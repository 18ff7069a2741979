// BPF objects: options checked and applied, load, maps and programs by name. Reached through native.ts.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { call, type External, KernelError, misuse, requireInteger, U32_MAX } from './addon.ts';
import { Btf } from './btf.ts';
import { BpfMap, type MapDescription } from './map.ts';
import { BpfProgram, type ProgramDescription } from './program.ts';

/** A value for a global variable: integers by the variable's size and sign, or its bytes. */
export type VariableValue = number | bigint | boolean | Uint8Array;

export interface OpenOptions {
  /** Name in messages and, cut to 15 characters, in the kernel. Default: the file's name up to the first dot. */
  readonly name?: string;
  /** Values of `const volatile` globals, by name. */
  readonly rodata?: Readonly<Record<string, VariableValue>>;
  /** Programs to load (true) or leave out (false), by name. Default: what SEC() says, `?` meaning out. */
  readonly autoload?: Readonly<Record<string, boolean>>;
  readonly maxEntries?: Readonly<Record<string, number>>;
  /** Maps to share: this object's map of that name becomes the given one. Type and sizes must agree. */
  readonly reuseMaps?: Readonly<Record<string, BpfMap>>;
  /** Maps not to create, for programs that are left out too. */
  readonly withoutMaps?: readonly string[];
  /** Collect libbpf's debug messages too. */
  readonly debug?: boolean;
}

/**
 * Opens a BPF object file without loading it.
 * @param source path of the ELF file, or its bytes.
 * @throws KernelError where it is no BPF object, or an option names what the object does not have.
 */
export function openObject(source: string | Uint8Array, options: OpenOptions = {}): BpfObject {
  let bytes: Uint8Array;
  if (typeof source === 'string') {
    try {
      bytes = readFileSync(source);
    } catch (error) {
      const errno = -((error as NodeJS.ErrnoException).errno ?? 0);
      throw new KernelError(`cannot read BPF object ${source}`, errno);
    }
  } else if (source instanceof Uint8Array) {
    bytes = source;
  } else {
    return misuse('openObject needs a path or the bytes of an ELF file');
  }
  const name = options.name ?? (typeof source === 'string' ? basename(source).split('.', 1)[0] : 'buffer');
  const external: External = call.objectOpen(bytes, name, options.debug === true);
  const object = new BpfObject(external, name as string, options.debug === true);
  try {
    configure(object, external, options);
  } catch (error) {
    object.close();
    throw error;
  }
  return object;
}

function configure(object: BpfObject, external: External, options: OpenOptions): void {
  const maps = new Set(object.maps.map((m) => m.name));
  const programs = new Set(object.programs.map((p) => p.name));
  const known = (names: Set<string>, name: string, option: string, what: string) => {
    if (names.has(name)) return;
    misuse(
      `${option}: BPF object '${object.name}' has no ${what} '${name}'; it has ${[...names].join(', ') || 'none'}`,
    );
  };
  for (const [program, on] of Object.entries(options.autoload ?? {})) {
    known(programs, program, 'autoload', 'program');
    if (typeof on !== 'boolean') misuse(`autoload.${program} must be true or false`);
    call.objectSetAutoload(external, program, on);
  }
  for (const [map, entries] of Object.entries(options.maxEntries ?? {})) {
    known(maps, map, 'maxEntries', 'map');
    call.objectSetMaxEntries(external, map, requireInteger(entries, `maxEntries.${map}`, 1, U32_MAX));
  }
  for (const map of options.withoutMaps ?? []) {
    known(maps, map, 'withoutMaps', 'map');
    call.objectSetAutocreate(external, map, false);
  }
  for (const [map, other] of Object.entries(options.reuseMaps ?? {})) {
    known(maps, map, 'reuseMaps', 'map');
    if (!(other instanceof BpfMap)) misuse(`reuseMaps.${map} must be a BpfMap`);
    call.objectReuseMap(external, map, other.external);
  }
  setReadOnlyData(object, external, options.rodata ?? {});
}

/** Encodes a value for a variable of `size` bytes; integers may use the signed or the unsigned range. */
function encodeVariable(name: string, value: VariableValue, size: number): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.byteLength > size) misuse(`rodata.${name}: ${value.byteLength} bytes do not fit in ${size}`);
    const padded = new Uint8Array(size);
    padded.set(value);
    return padded;
  }
  if (![1, 2, 4, 8].includes(size)) misuse(`rodata.${name} has ${size} bytes: give a Uint8Array`);
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    misuse(`rodata.${name} must be a whole number`);
  const integer = BigInt(value);
  const bits = BigInt(size * 8);
  if (integer < -(1n << (bits - 1n)) || integer >= 1n << bits) {
    misuse(`rodata.${name}: ${integer} does not fit in ${size} bytes`);
  }
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, integer));
  return bytes.subarray(0, size);
}

function setReadOnlyData(
  object: BpfObject,
  external: External,
  values: Readonly<Record<string, VariableValue>>,
): void {
  if (Object.keys(values).length === 0) return;
  const raw = object.btf();
  const btf = raw && new Btf(raw);
  const sections = object.maps.filter((m) => /\.rodata(\.|$)/.test(m.name)).map((m) => m.name);
  const variables = new Map(
    sections.flatMap((map) =>
      (btf?.variables(map.slice(map.indexOf('.'))) ?? []).map((v) => [v.name, { ...v, map }] as const),
    ),
  );
  for (const [name, value] of Object.entries(values)) {
    const variable = variables.get(name);
    if (!variable) {
      const known = [...variables.keys()].join(', ') || 'none';
      misuse(`rodata: BPF object '${object.name}' has no read-only variable '${name}'; it has ${known}`);
    }
    const bytes = encodeVariable(name, value, variable.size);
    call.objectSetInitialValue(external, variable.map, variable.offset, bytes);
  }
}

/** A BPF object file, and once loaded its maps and programs in the kernel. Made by `openObject`. */
export class BpfObject {
  readonly name: string;
  readonly #external: External;
  readonly #debug: boolean;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();

  /** Use `openObject`. */
  constructor(external: External, name: string, debug: boolean) {
    this.#external = external;
    this.name = name;
    this.#debug = debug;
  }

  /** Creates maps and loads programs. Returns what libbpf printed. Throws KernelError with the verifier's log. */
  load(): string {
    return call.objectLoad(this.#external, this.#debug);
  }

  get programs(): readonly ProgramDescription[] {
    return call.objectPrograms(this.#external);
  }

  get maps(): readonly MapDescription[] {
    return call.objectMaps(this.#external);
  }

  /** The object's type information (data section offsets filled in), or undefined where it has none. */
  btf(): Buffer | undefined {
    return call.objectBtf(this.#external);
  }

  /** A loaded program. Throws where the object has none of this name. */
  program(name: string): BpfProgram {
    let program = this.#programs.get(name);
    if (!program) {
      const description = this.programs.find((p) => p.name === name);
      if (!description) return misuse(`BPF object '${this.name}' has no program '${name}'`);
      program = new BpfProgram(this, this.#external, description);
      this.#programs.set(name, program);
    }
    return program;
  }

  /** A map of the loaded object. Throws where the object has none of this name. */
  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (!map) {
      map = new BpfMap(this, call.objectMap(this.#external, name));
      this.#maps.set(name, map);
    }
    return map;
  }

  get closed(): boolean {
    return call.objectIsClosed(this.#external);
  }

  /** Detaches every link, stops every ring reader, unloads. Idempotent. */
  close(): void {
    call.objectClose(this.#external);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
