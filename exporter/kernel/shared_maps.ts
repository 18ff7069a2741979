// Which maps of an object are another object's: those that its definition names, laid out alike to the last member. A name
// that is equal by accident is an error, since the objects would count past each other. Called by the loader.
import type { Btf } from './btf.ts';
import { typeDifference } from './btf_compare.ts';
import type { MapDescription } from './map.ts';
import type { BpfMap } from './native.ts';

/** An object that is loaded already. */
export interface MapOwner {
  readonly name: string;
  readonly btf: Btf;
  readonly object: { readonly closed: boolean; readonly maps: readonly MapDescription[] };
  map(name: string): BpfMap;
}

/** An object that is about to be. */
export interface MapSharer {
  readonly name: string;
  readonly btf: Btf;
  readonly maps: readonly MapDescription[];
  /** Maps that belong to an object loaded before. */
  readonly shares: readonly string[];
  /** Maps of its own although another object has one of the same name. */
  readonly own: readonly string[];
}

/** The maps to reuse, by name; or why that cannot be, as a sentence. */
export type SharedMaps = { readonly maps: Readonly<Record<string, BpfMap>> } | { readonly problem: string };

function ownerOf(owners: readonly MapOwner[], name: string): MapOwner | undefined {
  return owners.find(({ object }) => !object.closed && object.maps.some((map) => map.name === name));
}

/** Finds the shared maps of an object among those that are loaded. */
export function sharedMaps(sharer: MapSharer, owners: readonly MapOwner[]): SharedMaps {
  const maps: Record<string, BpfMap> = {};
  const missing = sharer.shares.find((name) => !sharer.maps.some((map) => map.name === name));
  if (missing !== undefined)
    return { problem: `${sharer.name} is said to share the map ${missing}, which it does not have.` };
  for (const map of sharer.maps.filter(({ initialSize }) => initialSize === 0)) {
    const owner = ownerOf(owners, map.name);
    if (!sharer.shares.includes(map.name)) {
      if (owner === undefined || sharer.own.includes(map.name)) continue;
      return {
        problem: `${sharer.name} and ${owner.name} both have a map ${map.name}, and it is not said whether they share it.`,
      };
    }
    if (owner === undefined)
      return { problem: `${sharer.name} shares the map ${map.name}, which no loaded object has.` };
    const difference = mapDifference(sharer, map, owner);
    if (difference !== undefined)
      return {
        problem: `${sharer.name} (here) shares the map ${map.name} of ${owner.name} (there), but they differ: ${difference}.`,
      };
    maps[map.name] = owner.map(map.name);
  }
  return { maps };
}

function mapDifference(sharer: MapSharer, here: MapDescription, owner: MapOwner): string | undefined {
  const there = owner.object.maps.find(({ name }) => name === here.name) as MapDescription;
  if (here.type !== there.type) return `its type is ${here.type} here and ${there.type} there`;
  if (here.keySize !== there.keySize)
    return `a key has ${here.keySize} bytes here and ${there.keySize} there`;
  const types = [sharer.btf.mapTypes(here.name), owner.btf.mapTypes(here.name)];
  for (const part of ['key', 'value'] as const) {
    const [a, b] = [types[0]?.[part], types[1]?.[part]];
    if (a === undefined || b === undefined) continue; // given by size alone
    const difference = typeDifference({ btf: sharer.btf, id: a }, { btf: owner.btf, id: b }, part);
    if (difference !== undefined) return difference;
  }
  return here.valueSize === there.valueSize
    ? undefined
    : `a value has ${here.valueSize} bytes here and ${there.valueSize} there`;
}
