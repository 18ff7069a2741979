// Maps of a loaded object: elements, whole contents, per-CPU sums. Reached through native.ts.
import { call, type External, misuse, requireInteger, U32_MAX } from './addon.ts';
import type { BpfObject } from './object.ts';
import type { BpfProgram } from './program.ts';

export interface MapDescription {
  readonly name: string;
  readonly type: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Bytes of initial value; of data sections only. */
  readonly initialSize: number;
}

/** `u64`, `u32`: values of per-CPU maps are taken as arrays of such words and added up over the CPUs, modulo 2^64, 2^32. */
export type SumWidth = 'u64' | 'u32';

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(requireInteger(value, 'index', 0, U32_MAX));
  return bytes;
}

function sumBytes(sum: SumWidth | undefined): number {
  if (sum === undefined) return 0;
  if (sum === 'u64' || sum === 'u32') return sum === 'u64' ? 8 : 4;
  return misuse(`sum must be 'u64' or 'u32', not ${String(sum)}`);
}

const UPDATE_FLAGS = ['any', 'noexist', 'exist'] as const;
const READ_METHODS = ['auto', 'batch', 'next_key'] as const;

export interface ReadAllOptions {
  /** Add up the CPUs of a per-CPU map; without it `values` holds every CPU's value, each padded to 8 bytes. */
  readonly sum?: SumWidth;
  /**
   * Take the elements out of the map, each in one step with its reading. What a program adds to an element that it
   * looked up just before is lost; where that matters leave elements in the map and take differences.
   */
  readonly remove?: boolean;
  /** Default: batch commands, and key by key where the kernel has none for this map type. */
  readonly method?: (typeof READ_METHODS)[number];
}

/** Elements back to back: `keys` in strides of `keySize`, `values` in strides of `values.length / count`. */
export interface MapContents {
  readonly count: number;
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly method: 'batch' | 'next_key';
}

/** A map of a loaded object. Keys and values are bytes; decode.ts knows their fields. */
export class BpfMap {
  readonly name: string;
  /** libbpf's name: `hash`, `percpu_hash`, `lru_hash`, `array`, `ringbuf`, `lpm_trie`, ... */
  readonly type: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly perCpu: boolean;
  readonly fd: number;
  readonly id: number;
  readonly object: BpfObject;
  /** For this module: what the addon knows the map by. */
  readonly external: External;

  /** Use `BpfObject.map`. */
  constructor(object: BpfObject, external: External) {
    const info = call.mapInfo(external);
    this.object = object;
    this.external = external;
    this.name = info.name;
    this.type = info.type;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
    this.perCpu = info.perCpu;
    this.fd = info.fd;
    this.id = info.id;
  }

  /** The value, or undefined. Of a per-CPU map: all CPUs', or with `sum` one value. */
  lookup(key: Uint8Array, options: { readonly sum?: SumWidth } = {}): Buffer | undefined {
    return call.mapLookup(this.external, key, sumBytes(options.sum), false);
  }

  /** Like lookup, taking the element out in the same step. */
  lookupAndDelete(key: Uint8Array, options: { readonly sum?: SumWidth } = {}): Buffer | undefined {
    return call.mapLookup(this.external, key, sumBytes(options.sum), true);
  }

  /** Returns false where `flags` forbids it: `noexist` and the key exists, `exist` and it does not. E2BIG when full. */
  update(key: Uint8Array, value: Uint8Array, flags: (typeof UPDATE_FLAGS)[number] = 'any'): boolean {
    const flag = UPDATE_FLAGS.indexOf(flags);
    if (flag < 0) misuse(`flags must be one of ${UPDATE_FLAGS.join(', ')}, not ${String(flags)}`);
    return call.mapUpdate(this.external, key, value, flag);
  }

  /** Writes many elements, laid out as in MapContents. Not atomic: an error leaves some written. */
  updateMany(keys: Uint8Array, values: Uint8Array, count: number): void {
    call.mapUpdateMany(this.external, keys, values, requireInteger(count, 'count', 0, U32_MAX));
  }

  /**
   * Of a `prog_array`: tail calls to `index` run this program from now on. Throws where it has another type or prototype
   * than the programs that call it (EINVAL).
   */
  setProgram(index: number, program: BpfProgram): void {
    this.#requirePrograms();
    call.mapUpdate(this.external, u32(index), u32(program.fd), 0);
  }

  /** Of a `prog_array`: empties the slot, if this program is in it. */
  clearProgram(index: number, program: BpfProgram): void {
    this.#requirePrograms();
    const id = call.mapLookup(this.external, u32(index), 0, false)?.readUInt32LE(0);
    if (id === program.info().id) call.mapDelete(this.external, u32(index));
  }

  #requirePrograms(): void {
    if (this.type !== 'prog_array') misuse(`map '${this.name}' is a ${this.type} and holds no programs`);
  }

  /** Returns false where there was no such key. */
  delete(key: Uint8Array): boolean {
    return call.mapDelete(this.external, key);
  }

  /** All elements. Those that exist throughout are in it exactly once; those that come or go meanwhile may be. */
  readAll(options: ReadAllOptions = {}): MapContents {
    const method = READ_METHODS.indexOf(options.method ?? 'auto');
    if (method < 0) misuse(`method must be one of ${READ_METHODS.join(', ')}, not ${String(options.method)}`);
    return call.mapReadAll(this.external, sumBytes(options.sum), options.remove === true, method);
  }

  /** Elements now, found by walking the keys (about 0.5 µs each); undefined where the type cannot be walked. */
  count(): number | undefined {
    return call.mapCount(this.external);
  }

  /** Deletes every element; zeroes those of an array. */
  clear(): void {
    call.mapClear(this.external);
  }
}
