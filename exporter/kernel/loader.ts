// Loads the probes' BPF objects: picks, purpose by purpose, the first alternative that this kernel allows, shares maps
// of the same name between objects, attaches, and accounts for what it all costs. Called by probes and by doctor.
//
// Nothing is pinned and only links are used, so everything is gone when the process is, also after kill -9.
import { existsSync } from 'node:fs';
import { Btf } from './btf.ts';
import { type Feature, KernelFeatures } from './features.ts';
import {
  type BpfLink,
  type BpfMap,
  type BpfObject,
  type BpfProgram,
  KernelError,
  openObject,
} from './native.ts';
import type { VariableValue } from './object.ts';

export interface Alternative {
  /** Program of the object, or several that only make sense together (entry and exit). */
  readonly program: string | readonly string[];
  readonly needs?: readonly Feature[];
  /** `manual`: the probe attaches it itself, with what it alone knows. Default: as SEC() says. */
  readonly attach?: 'auto' | 'manual' | ((program: BpfProgram, object: BpfObject) => BpfLink);
}

export interface Purpose {
  /** What the programs are for, in the field's words: `connection state`, `payload`. */
  readonly purpose: string;
  /** In order of preference. */
  readonly alternatives: readonly Alternative[];
  /** Without any alternative the probe goes on, knowing less. */
  readonly optional?: boolean;
}

export interface ProbeDefinition {
  /** Name of the object: `core` for build/bpf/core.bpf.o. */
  readonly object: string;
  readonly programs: readonly Purpose[];
  /** Values of `const volatile` globals. */
  readonly rodata?: Readonly<Record<string, VariableValue>>;
  readonly maxEntries?: Readonly<Record<string, number>>;
  /** Maps that stay this object's own even if another object has one of the same name. */
  readonly privateMaps?: readonly string[];
  /** Fills maps after loading and before anything is attached. Again for every attempt. */
  readonly prepare?: (object: BpfObject) => void;
}

/** Why an alternative is not in use, as a sentence. */
export interface Skipped {
  readonly programs: readonly string[];
  readonly reason: string;
}

/** What became of a purpose. `hooks` are the SEC() names in use, empty where an optional purpose has none. */
export interface Choice {
  readonly purpose: string;
  readonly programs: readonly string[];
  readonly hooks: readonly string[];
  readonly skipped: readonly Skipped[];
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

/** A probe that cannot be loaded on this kernel; the message is one sentence, `choices` tells all that was tried. */
export class ProbeError extends Error {
  override readonly name = 'ProbeError';
  readonly skipped: readonly Skipped[];
  /** Log of the verifier or of libbpf for the last refusal, possibly empty. */
  readonly log: string;

  constructor(message: string, skipped: readonly Skipped[], log: string, cause?: unknown) {
    super(message, { cause });
    this.skipped = skipped;
    this.log = log;
  }
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
  close(): void;
}

const list = (program: string | readonly string[]): readonly string[] =>
  typeof program === 'string' ? [program] : program;

/** The alternatives of one purpose while a probe is being loaded. */
class Candidates {
  readonly purpose: Purpose;
  readonly skipped: Skipped[] = [];
  lastLog = '';
  #next = 0;

  constructor(purpose: Purpose, features: KernelFeatures) {
    this.purpose = purpose;
    this.#features = features;
    this.#skipImpossible();
  }
  readonly #features: KernelFeatures;

  get current(): Alternative | undefined {
    return this.purpose.alternatives[this.#next];
  }

  get programs(): readonly string[] {
    return this.current ? list(this.current.program) : [];
  }

  /** Gives up the current alternative. */
  refuse(reason: string, log: string): void {
    this.skipped.push({ programs: this.programs, reason });
    this.lastLog = log;
    this.#next++;
    this.#skipImpossible();
  }

  #skipImpossible(): void {
    for (; this.current; this.#next++) {
      const missing = this.current.needs
        ?.map((need) => this.#features.missing(need))
        .find((m) => m !== undefined);
      if (missing === undefined) return;
      this.skipped.push({
        programs: this.programs,
        reason: `${this.programs.join(' + ')} is not used: ${missing}.`,
      });
    }
  }

  choice(object: BpfObject): Choice {
    const { programs } = this;
    const sections = new Map(object.programs.map((p) => [p.name, p.section]));
    const rest = this.purpose.alternatives.slice(this.#next + 1).map((alternative) => ({
      programs: list(alternative.program),
      reason: `${list(alternative.program).join(' + ')} is not needed: ${programs.join(' + ')} works.`,
    }));
    const hooks = programs.map((p) => sections.get(p) ?? p);
    return { purpose: this.purpose.purpose, programs, hooks, skipped: [...this.skipped, ...rest] };
  }
}

/** The program that libbpf's log blames for a failed load. */
function blamed(log: string): string | undefined {
  return [
    ...log.matchAll(/prog '([^']+)': (?:BPF program load failed|failed|-- BEGIN|missing|can't|no )/g),
  ].at(-1)?.[1];
}

function refusal(programs: readonly string[], verb: string, error: KernelError): string {
  const why = error.reason;
  return `${programs.join(' + ')} is not used: the kernel refuses to ${verb} it (${error.code}${why ? `: ${why}` : ''}).`;
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
    let probe: LoadedProbe | undefined;
    try {
      if (!this.#loadObject(definition, object, candidates)) return undefined;
      definition.prepare?.(object);
      const links = new Map<string, BpfLink>();
      for (const candidate of candidates) {
        if (!this.#attach(candidate, object, links)) return undefined;
      }
      probe = this.#probe(definition, object, candidates, links);
      return probe;
    } finally {
      if (!probe) object.close();
    }
  }

  #open(definition: ProbeDefinition, path: string, candidates: Candidates[]): BpfObject {
    const wanted = new Set(candidates.flatMap((c) => c.programs));
    const all = new Set(definition.programs.flatMap((p) => p.alternatives.flatMap((a) => list(a.program))));
    const described = openObject(path, { name: definition.object });
    const maps = described.maps.filter(
      (m) => m.initialSize === 0 && !definition.privateMaps?.includes(m.name),
    );
    const programs = described.programs.map((p) => p.name);
    described.close();
    const shared = maps
      .map((m) => [m.name, this.#sharedMap(m.name)] as const)
      .filter((entry): entry is readonly [string, BpfMap] => entry[1] !== undefined);
    return openObject(path, {
      name: definition.object,
      rodata: definition.rodata ?? {},
      maxEntries: definition.maxEntries ?? {},
      reuseMaps: Object.fromEntries(shared),
      autoload: Object.fromEntries([...new Set([...programs, ...all])].map((p) => [p, wanted.has(p)])),
    });
  }

  #sharedMap(name: string): BpfMap | undefined {
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

  #attach(candidate: Candidates, object: BpfObject, links: Map<string, BpfLink>): boolean {
    const attach = candidate.current?.attach ?? 'auto';
    if (!candidate.current || attach === 'manual') return true;
    for (const name of candidate.programs) {
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
    candidates: Candidates[],
    links: Map<string, BpfLink>,
  ): LoadedProbe {
    const raw = object.btf();
    if (!raw)
      throw new ProbeError(`Probe ${definition.object} was built without type information (-g).`, [], '');
    const probe: LoadedProbe = {
      name: definition.object,
      object,
      btf: new Btf(raw),
      choices: candidates.map((c) => c.choice(object)),
      links,
      map: (name) => object.map(name),
      program: (name) => object.program(name),
      close: () => {
        object.close();
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
