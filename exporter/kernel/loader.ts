// Loads the probes' BPF objects: picks, purpose by purpose, the first alternative that this kernel allows, shares the maps
// that a definition names, attaches, puts programs where another object's call them, and accounts for what it all costs.
// Called by probes and by doctor.
//
// Nothing is pinned and only links are used, so everything is gone when the process is, also after kill -9.
import { existsSync } from 'node:fs';
import {
  type Alternative,
  blamed,
  Candidates,
  type Choice,
  list,
  ProbeError,
  type Purpose,
  refusal,
  type Skipped,
} from './alternatives.ts';
import { Btf } from './btf.ts';
import { KernelFeatures } from './features.ts';
import {
  type BpfLink,
  type BpfMap,
  type BpfObject,
  type BpfProgram,
  KernelError,
  openObject,
} from './native.ts';
import type { VariableValue } from './object.ts';
import { sharedMaps } from './shared_maps.ts';
import { closeWithTailCalls, type PlacedCall, placeTailCalls, type TailCall } from './tail_calls.ts';

export { type Alternative, type Choice, ProbeError, type Purpose, type Skipped, type TailCall };

export interface ProbeDefinition {
  /** Name of the object: `core` for build/bpf/core.bpf.o. */
  readonly object: string;
  readonly programs: readonly Purpose[];
  /** Values of `const volatile` globals. */
  readonly rodata?: Readonly<Record<string, VariableValue>>;
  readonly maxEntries?: Readonly<Record<string, number>>;
  /** Maps that belong to an object loaded before. Their layouts must agree to the last member. */
  readonly shares?: readonly string[];
  /** Maps that stay this object's own though another object has one of the same name. Any other such is an error. */
  readonly privateMaps?: readonly string[];
  /** In place before anything of this object is attached, taken out before it closes. */
  readonly tailCalls?: readonly TailCall[];
  /** Fills maps after loading and before anything is attached. Again for every attempt. */
  readonly prepare?: (object: BpfObject) => void;
}

export interface ProgramUsage {
  readonly probe: string;
  readonly program: string;
  readonly id: number;
  readonly runTimeNs: number;
  readonly runCount: number;
  readonly verifiedInstructions: number;
}

export interface MapUsage {
  readonly map: string;
  readonly type: string;
  /** Undefined for types that cannot be counted (ring buffers, socket storage). */
  readonly entries: number | undefined;
  readonly capacity: number;
}

/** What a program cost that others reach by tail calls; the kernel accounts it to these. */
export interface CalledProgram {
  readonly program: string;
  /** An estimate from some of the runs. */
  readonly runTimeNs: number;
  readonly runCount: number;
}

/** A loaded and attached probe. */
export interface LoadedProbe {
  readonly name: string;
  readonly object: BpfObject;
  /** The object's own type information, for decoders. */
  readonly btf: Btf;
  readonly choices: readonly Choice[];
  /** Links by program, of what the loader attached. */
  readonly links: ReadonlyMap<string, BpfLink>;
  map(name: string): BpfMap;
  program(name: string): BpfProgram;
  /** What its programs cost that are reached by tail calls, since the start. */
  readonly called?: () => readonly CalledProgram[];
  close(): void;
}

function typeInformation(name: string, raw: Uint8Array | undefined): Btf {
  if (raw === undefined)
    throw new ProbeError(`Probe ${name} was built without type information (-g).`, [], '');
  return new Btf(raw);
}

/**
 * Opens an object to see what is in it.
 * @throws ProbeError where the file is no BPF object: that is of this probe alone, like any other refusal.
 */
function describe(name: string, path: string): BpfObject {
  try {
    return openObject(path, { name });
  } catch (error) {
    if (!(error instanceof KernelError) || error.code === 'MISUSE') throw error;
    const why = error.reason || error.code;
    throw new ProbeError(
      `Probe ${name} cannot be loaded: ${path} is no BPF object (${why}).`,
      [],
      error.log,
      error,
    );
  }
}

/** The programs to load: the candidates' current ones, and those for tail calls that no purpose chooses among. */
function wantedPrograms(definition: ProbeDefinition, candidates: readonly Candidates[]): Set<string> {
  const chosen = new Set(definition.programs.flatMap((p) => p.alternatives.flatMap((a) => list(a.program))));
  const called = (definition.tailCalls ?? []).map(({ program }) => program).filter((p) => !chosen.has(p));
  return new Set([...candidates.flatMap((c) => c.programs), ...called]);
}

/** Loads probes and keeps them; one per agent. */
export class BpfLoader {
  readonly features: KernelFeatures;
  readonly #directory: URL;
  readonly #loaded: LoadedProbe[] = [];

  /** @param options `directory`: where the `.bpf.o` files are, default build/bpf beside the code. */
  constructor(options: { readonly features?: KernelFeatures; readonly directory?: URL } = {}) {
    this.features = options.features ?? new KernelFeatures();
    this.#directory = options.directory ?? new URL('../../build/bpf/', import.meta.url);
  }

  /** What is loaded now, in order. */
  get probes(): readonly LoadedProbe[] {
    return this.#loaded;
  }

  /**
   * Loads and attaches one probe.
   * @throws ProbeError where a purpose that is not optional has no alternative that this kernel allows.
   */
  load(definition: ProbeDefinition): LoadedProbe {
    const file = new URL(`${definition.object}.bpf.o`, this.#directory);
    if (!existsSync(file)) {
      throw new ProbeError(`Probe ${definition.object} is not built: there is no ${file.pathname}.`, [], '');
    }
    const candidates = definition.programs.map((purpose) => new Candidates(purpose, this.features));
    for (;;) {
      for (const candidate of candidates) this.#requireOne(definition, candidate);
      const probe = this.#attempt(definition, file.pathname, candidates);
      if (probe) {
        this.#loaded.push(probe);
        return probe;
      }
    }
  }

  #requireOne(definition: ProbeDefinition, candidate: Candidates): void {
    if (candidate.current || candidate.purpose.optional) return;
    const reasons = candidate.skipped.map((s) => s.reason).join(' ');
    throw new ProbeError(
      `Probe ${definition.object} cannot run on this kernel: nothing is left for its ${candidate.purpose.purpose}. ${reasons}`,
      candidate.skipped,
      candidate.lastLog,
    );
  }

  /** One try with the current alternatives. Undefined: one of them was refused, another round is due. */
  #attempt(definition: ProbeDefinition, path: string, candidates: Candidates[]): LoadedProbe | undefined {
    const object = this.#open(definition, path, candidates);
    const placed: PlacedCall[] = [];
    let probe: LoadedProbe | undefined;
    try {
      if (!this.#loadObject(definition, object, candidates)) return undefined;
      definition.prepare?.(object);
      const calls = definition.tailCalls ?? [];
      placeTailCalls(
        calls,
        object,
        wantedPrograms(definition, candidates),
        (name) => this.#findMap(name),
        placed,
      );
      const links = new Map<string, BpfLink>();
      for (const candidate of candidates) {
        if (!this.#attach(definition, candidate, object, links)) return undefined;
      }
      probe = this.#probe(definition, object, { candidates, links, placed });
      return probe;
    } finally {
      if (!probe) closeWithTailCalls(object, placed);
    }
  }

  #open(definition: ProbeDefinition, path: string, candidates: Candidates[]): BpfObject {
    const wanted = wantedPrograms(definition, candidates);
    const described = describe(definition.object, path);
    const { maps } = described;
    const programs = described.programs.map((p) => p.name);
    const raw = described.btf();
    described.close();
    const shared = sharedMaps(
      {
        name: definition.object,
        btf: typeInformation(definition.object, raw),
        maps,
        shares: definition.shares ?? [],
        own: definition.privateMaps ?? [],
      },
      this.#loaded,
    );
    if ('problem' in shared) throw new ProbeError(`The BPF object ${shared.problem}`, [], '');
    return openObject(path, {
      name: definition.object,
      rodata: definition.rodata ?? {},
      maxEntries: definition.maxEntries ?? {},
      reuseMaps: shared.maps,
      autoload: Object.fromEntries([...new Set([...programs, ...wanted])].map((p) => [p, wanted.has(p)])),
    });
  }

  #findMap(name: string): BpfMap | undefined {
    const owner = this.#loaded.find((p) => !p.object.closed && p.object.maps.some((m) => m.name === name));
    return owner?.object.map(name);
  }

  /** False where one alternative was refused and given up. Throws ProbeError where the cause is no alternative's. */
  #loadObject(definition: ProbeDefinition, object: BpfObject, candidates: Candidates[]): boolean {
    try {
      object.load();
      return true;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      const program = blamed(error.log);
      const guilty = candidates.find((c) => program !== undefined && c.programs.includes(program));
      if (guilty) {
        guilty.refuse(refusal(guilty.programs, 'load', error), error.log);
        return false;
      }
      const why = error.reason;
      const message = `Probe ${definition.object} cannot be loaded (${error.code}${why ? `: ${why}` : ''}).`;
      throw new ProbeError(message, [], error.log, error);
    }
  }

  #attach(
    { tailCalls }: ProbeDefinition,
    candidate: Candidates,
    object: BpfObject,
    links: Map<string, BpfLink>,
  ): boolean {
    const attach = candidate.current?.attach ?? 'auto';
    if (!candidate.current || attach === 'manual') return true;
    for (const name of candidate.programs) {
      if (tailCalls?.some(({ program }) => program === name)) continue;
      const program = object.program(name);
      try {
        links.set(name, attach === 'auto' ? program.attach() : attach(program, object));
      } catch (error) {
        if (!(error instanceof KernelError) || error.code === 'MISUSE') throw error;
        candidate.refuse(refusal(candidate.programs, 'attach', error), error.log);
        return false;
      }
    }
    return true;
  }

  #probe(
    definition: ProbeDefinition,
    object: BpfObject,
    {
      candidates,
      links,
      placed,
    }: { candidates: Candidates[]; links: Map<string, BpfLink>; placed: readonly PlacedCall[] },
  ): LoadedProbe {
    const probe: LoadedProbe = {
      name: definition.object,
      object,
      btf: typeInformation(definition.object, object.btf()),
      choices: candidates.map((c) => c.choice(object)),
      links,
      map: (name) => object.map(name),
      program: (name) => object.program(name),
      close: () => {
        closeWithTailCalls(object, placed);
        const at = this.#loaded.indexOf(probe);
        if (at >= 0) this.#loaded.splice(at, 1);
      },
    };
    return probe;
  }

  /** Every loaded program with its run time and count, which stand still unless BPF statistics are enabled. */
  programUsage(): ProgramUsage[] {
    return this.#loaded.flatMap((probe) =>
      probe.choices
        .flatMap((c) => c.programs)
        .map((program) => {
          const { id, runTimeNs, runCount, verifiedInstructions } = probe.program(program).info();
          return { probe: probe.name, program, id, runTimeNs, runCount, verifiedInstructions };
        }),
    );
  }

  /** Every map but data sections, shared ones once. Counts elements, so it costs about 0.5 µs for each. */
  mapUsage(): MapUsage[] {
    const seen = new Map<number, MapUsage>();
    for (const probe of this.#loaded) {
      for (const { name, initialSize } of probe.object.maps) {
        if (initialSize > 0) continue;
        const map = probe.map(name);
        if (seen.has(map.id)) continue;
        seen.set(map.id, { map: name, type: map.type, entries: map.count(), capacity: map.maxEntries });
      }
    }
    return [...seen.values()];
  }

  /** Detaches and unloads everything, the last loaded first. Idempotent. */
  close(): void {
    while (this.#loaded.length > 0) this.#loaded.at(-1)?.close();
  }
}
