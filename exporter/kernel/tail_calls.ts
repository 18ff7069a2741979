// Programs of one object that another object's programs reach by a tail call: put into the arrays before anything is
// attached, taken out before their object closes. Used by the loader.
import { ProbeError } from './alternatives.ts';
import { type BpfMap, type BpfObject, type BpfProgram, KernelError } from './native.ts';

/** A program that another object's programs reach by a tail call. */
export interface TailCall {
  /** A map of type `prog_array`, of an object loaded before. */
  readonly array: string;
  readonly index: number;
  /** Of this object. It is not attached; left out where the purpose that has it chose another. */
  readonly program: string;
}

/** A program in another object's array. */
export interface PlacedCall {
  readonly map: BpfMap;
  readonly index: number;
  readonly program: BpfProgram;
}

/** Finds a map among the objects that are loaded. */
export type FindMap = (name: string) => BpfMap | undefined;

/**
 * Puts the programs of `object` that are loaded where they are called; what is in place is added to `placed`.
 * @throws ProbeError where there is no such array, or the kernel refuses.
 */
export function placeTailCalls(
  calls: readonly TailCall[],
  object: BpfObject,
  loaded: ReadonlySet<string>,
  find: FindMap,
  placed: PlacedCall[],
): void {
  for (const { array, index, program: name } of calls) {
    if (!loaded.has(name)) continue;
    const map = find(array);
    if (map?.type !== 'prog_array') {
      const message = `Probe ${object.name} has a program for ${array}, and no loaded object has such an array.`;
      throw new ProbeError(message, [], '');
    }
    const program = object.program(name);
    try {
      map.setProgram(index, program);
    } catch (error) {
      if (!(error instanceof KernelError) || error.code === 'MISUSE') throw error;
      const message = `Probe ${object.name} cannot run on this kernel: it refuses ${name} in ${array} (${error.code}).`;
      throw new ProbeError(message, [], error.log, error);
    }
    placed.push({ map, index, program });
  }
}

/** First its programs are taken out of the arrays, so that they are called no more, then the object goes. */
export function closeWithTailCalls(object: BpfObject, placed: readonly PlacedCall[]): void {
  try {
    for (const { map, index, program } of placed)
      if (!object.closed && !map.object.closed) map.clearProgram(index, program);
  } finally {
    object.close();
  }
}
