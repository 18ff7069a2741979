// What a probe's programs are for, the alternatives in order of preference, and which of them are left while an object is
// being loaded. Used by the loader.
import type { Feature, KernelFeatures } from './features.ts';
import type { BpfLink, BpfObject, BpfProgram, KernelError } from './native.ts';

export interface Alternative {
  /** Program of the object, or several that only make sense together (entry and exit). */
  readonly program: string | readonly string[];
  readonly needs?: readonly Feature[];
  /** Those of the programs whose missed runs another makes up for: a run that the kernel leaves out loses nothing. */
  readonly caughtUp?: readonly string[];
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
  /** Programs of which the kernel may leave out a run without a loss. */
  readonly caughtUp: readonly string[];
  readonly skipped: readonly Skipped[];
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

export const list = (program: string | readonly string[]): readonly string[] =>
  typeof program === 'string' ? [program] : program;

/** The alternatives of one purpose while a probe is being loaded. */
export class Candidates {
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
    return {
      purpose: this.purpose.purpose,
      programs,
      hooks,
      caughtUp: this.current?.caughtUp ?? [],
      skipped: [...this.skipped, ...rest],
    };
  }
}

/** The program that libbpf's log blames for a failed load. */
export function blamed(log: string): string | undefined {
  return [
    ...log.matchAll(/prog '([^']+)': (?:BPF program load failed|failed|-- BEGIN|missing|can't|no )/g),
  ].at(-1)?.[1];
}

export function refusal(programs: readonly string[], verb: string, error: KernelError): string {
  const why = error.reason;
  return `${programs.join(' + ')} is not used: the kernel refuses to ${verb} it (${error.code}${why ? `: ${why}` : ''}).`;
}
