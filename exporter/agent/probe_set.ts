// Starts the probes that the configuration enables, each after those that it needs, and keeps them until the end. Knows
// probes only through their interface. Made by measurement.ts.
import type { Config } from '../config/schema.ts';
import { ProbeError } from '../kernel/loader.ts';
import type { CoreFeature, RunningCore } from '../probes/core.ts';
import { PROBES } from '../probes/definitions.ts';
import type { AnyProbe, ProbeContext, ProbeSettings, RunningProbe, StreamSettings } from '../probes/probe.ts';
import type { ProbeStatus } from './status.ts';

/** A probe, or what probes share, that runs. */
export interface StartedProbe {
  readonly name: string;
  readonly running: RunningProbe;
}

/** Why a probe does not run; undefined: it does. */
interface Outcome {
  readonly status: ProbeStatus;
  readonly error?: ProbeError;
}

/** Probes in an order in which each comes after those that it needs, else in that of the list. */
export function startOrder(probes: readonly AnyProbe[]): AnyProbe[] {
  const byName = new Map(probes.map((probe) => [probe.name, probe]));
  const ordered = new Set<AnyProbe>();
  const visit = (probe: AnyProbe, path: readonly string[]): void => {
    if (ordered.has(probe)) return;
    if (path.includes(probe.name))
      throw new Error(`probes need one another: ${[...path, probe.name].join(' → ')}`);
    for (const need of probe.needs) {
      const needed = byName.get(need);
      if (needed === undefined) throw new Error(`probe ${probe.name} needs "${need}", which is no probe`);
      visit(needed, [...path, probe.name]);
    }
    ordered.add(probe);
  };
  for (const probe of probes) visit(probe, []);
  return [...ordered];
}

export class ProbeSet {
  readonly #probes: readonly AnyProbe[];
  readonly #settings: Readonly<Record<string, ProbeSettings>>;
  readonly #outcomes = new Map<string, Outcome>();
  readonly #running: StartedProbe[] = [];
  readonly #shared = new Map<string, RunningProbe | ProbeError>();

  constructor(settings: Config['probes'], probes: readonly AnyProbe[] = PROBES) {
    this.#settings = settings;
    this.#probes = startOrder(probes);
  }

  /** What runs, in the order of its start. */
  get running(): readonly StartedProbe[] {
    return this.#running;
  }

  /** One entry for each registered probe and for whatever probes share, in the order of the start. */
  status(): ProbeStatus[] {
    return [...this.#outcomes.values()].map(({ status }) => status);
  }

  /**
   * Starts all that are enabled. One that fails is reported, and the others go on. The core is started by the first that
   * asks for it, with everything that any of them wants of it.
   * @throws ProbeError where some failed and none is left.
   */
  async start(
    context: Omit<ProbeContext, 'shared' | 'core' | 'stream'>,
    startCore: (features: ReadonlySet<CoreFeature>) => RunningCore,
  ): Promise<void> {
    const share = this.#share.bind(this);
    const features = this.#coreFeatures();
    const whole: ProbeContext = {
      ...context,
      shared: share,
      stream: this.#streamSettings(),
      get core() {
        return share('core', () => startCore(features));
      },
    };
    for (const probe of this.#probes) {
      const outcome = await this.#startOne(probe, whole);
      this.#outcomes.set(probe.name, outcome);
    }
    for (const { running } of this.#running) running.begin?.();
    const outcomes = this.#probes.map(({ name }) => this.#outcomes.get(name));
    const failed = outcomes.find((outcome) => outcome?.error !== undefined)?.error;
    if (failed !== undefined && outcomes.every((outcome) => outcome?.status.state !== 'attached'))
      throw failed;
  }

  #coreFeatures(): ReadonlySet<CoreFeature> {
    const enabled = this.#probes.filter(({ name }) => this.#settings[name]?.enabled === true);
    return new Set(enabled.flatMap(({ core }) => core ?? []));
  }

  #streamSettings(): StreamSettings {
    const wanted = this.#probes.map(({ name, stream }) => {
      const settings = this.#settings[name];
      return settings?.enabled === true ? stream?.(settings) : undefined;
    });
    return Object.assign({}, ...wanted);
  }

  async #startOne(definition: AnyProbe, context: ProbeContext): Promise<Outcome> {
    const { name } = definition;
    const settings = this.#settings[name];
    if (settings?.enabled !== true) return { status: { name, state: 'disabled', hooks: [] } };
    const unmet = this.#unmet(definition);
    if (unmet !== undefined) return { status: { name, state: 'failed', reason: unmet, hooks: [] } };
    try {
      const { probe } = await definition.load();
      const running = await probe.start(context, settings);
      this.#running.push({ name, running });
      return { status: attached(name, running) };
    } catch (error) {
      if (!(error instanceof ProbeError)) throw error;
      const { skipped } = error;
      const hooks = skipped.length === 0 ? [] : [{ purpose: 'required', programs: [], hooks: [], skipped }];
      return { status: { name, state: 'failed', reason: error.message, hooks }, error };
    }
  }

  /** What keeps a probe from starting, as a sentence. */
  #unmet({ needs }: AnyProbe): string | undefined {
    for (const need of needs) {
      const state = this.#outcomes.get(need)?.status.state;
      if (state === 'disabled') return `it needs the probe ${need}, which is off: set probes.${need}.enabled`;
      if (state !== 'attached') return `it needs the probe ${need}, which does not run`;
    }
    return undefined;
  }

  #share<T extends RunningProbe>(name: string, start: () => T): T {
    const known = this.#shared.get(name);
    if (known instanceof ProbeError) throw known;
    if (known !== undefined) return known as T;
    try {
      const running = start();
      this.#shared.set(name, running);
      this.#running.push({ name, running });
      this.#outcomes.set(name, { status: attached(name, running) });
      return running;
    } catch (error) {
      if (error instanceof ProbeError) this.#shared.set(name, error);
      throw error;
    }
  }

  /** What was lost since the start, by stage, of all that run. */
  lost(): Record<string, number> {
    const all: Record<string, number> = {};
    for (const { running } of this.#running) {
      for (const [stage, count] of Object.entries(running.lost())) all[stage] = (all[stage] ?? 0) + count;
    }
    return all;
  }

  problems(): string[] {
    return this.#running.flatMap(({ running }) => running.problems());
  }

  /** Detaches everything, the last started first. Idempotent. */
  async close(): Promise<void> {
    for (let last = this.#running.pop(); last !== undefined; last = this.#running.pop())
      await last.running.close();
  }
}

function attached(name: string, { objects }: RunningProbe): ProbeStatus {
  return { name, state: 'attached', hooks: objects.flatMap(({ choices }) => choices) };
}
