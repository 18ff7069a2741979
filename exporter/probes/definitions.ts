// The registered probes as one list and one type. Data only: no probe's code is loaded by importing this.
import type { z } from 'zod';
import type { AnyProbe } from './probe.ts';
import * as registry from './registry.ts';

type Registry = typeof registry;
/** Names of the exports of registry.ts. */
type Registered = keyof Registry;

/** The definition of any registered probe. */
export type RegisteredProbe = Registry[Registered];
export type ProbeName = RegisteredProbe['name'];
/** Schema of the settings, by probe. */
export type SettingsSchemas = { [P in RegisteredProbe as P['name']]: P['settings'] };
/** Settings, by probe. */
export type AllSettings = { [P in RegisteredProbe as P['name']]: z.output<P['settings']> };

/** All registered probes, by name in alphabetical order. */
export const PROBES: readonly AnyProbe[] = Object.values<AnyProbe>(registry);

/** Attributes that probes declare, of all of them. */
export type ProbeAttributes = UnionToIntersection<NonNullable<RegisteredProbe['attributes']>>;

type UnionToIntersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void
  ? I
  : never;
