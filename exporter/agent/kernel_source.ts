// Metrics about the kernel side of the agent: what its BPF programs cost, how full its maps are, what was lost there,
// and what identity could not name. Read last in every collection.
import { arch, release } from 'node:os';
import type { CalledProgram, LoadedProbe } from '../kernel/loader.ts';
import {
  type BpfMap,
  type BpfProgram,
  type BpfStats,
  enableBpfStats,
  KernelError,
} from '../kernel/native.ts';
import type { Source } from '../telemetry/collector.ts';
import type { SeriesStore } from '../telemetry/store.ts';
import type { MapStatus } from './status.ts';
import { version } from './version.ts';

export interface KernelSource extends Source {
  /** Adds a probe's programs and maps; maps that probes share count once. */
  watch(probe: LoadedProbe): void;
  /** As last counted. */
  maps(): MapStatus[];
  close(): void;
}

export interface KernelSourceOptions {
  readonly store: SeriesStore;
  /** Measure what programs cost. */
  readonly stats: boolean;
  /** What the kernel side lost since its start, by stage. */
  readonly lost: () => Readonly<Record<string, number>>;
}

/** Counting the entries of a full map takes milliseconds, so one collection counts for no longer than this. */
const COUNT_MILLIS = 2;

/** Adds what a number grew by since it was last seen. */
class Growth {
  readonly #add: (amount: number) => void;
  #seen = 0;

  constructor(counter: { add(amount: number): void }) {
    this.#add = (amount) => counter.add(amount);
  }

  to(total: number): void {
    if (total > this.#seen) this.#add(total - this.#seen);
    this.#seen = total;
  }
}

interface WatchedProgram {
  readonly program: BpfProgram;
  /** Undefined where the kernel does not measure: then nothing is said, rather than zero. */
  readonly seconds: Growth | undefined;
  readonly runs: Growth | undefined;
  /** Runs that the kernel left out because the program was running on that processor already: events lost. */
  readonly busy: Growth | undefined;
}

/** A program with a backup program (`core_state`, `core_state_backup`) loses nothing when it is busy. */
function hasBackup(program: string, all: readonly string[]): boolean {
  return /_backup\d*$/.test(program) || all.includes(`${program}_backup`);
}

/** The kernel asks for CAP_SYS_ADMIN, which an agent with least rights does not have: its programs' cost stays unknown. */
function statisticsIfAllowed(): BpfStats | undefined {
  try {
    return enableBpfStats();
  } catch (error) {
    if (error instanceof KernelError && error.code === 'EPERM') return undefined;
    throw error;
  }
}

class Kernel implements KernelSource {
  readonly name = 'kernel';
  readonly #store: SeriesStore;
  readonly #lost: KernelSourceOptions['lost'];
  readonly #stats: BpfStats | undefined;
  readonly #programs: WatchedProgram[] = [];
  /** Programs that others reach by tail calls: the kernel accounts them to their callers. */
  readonly #called: (() => readonly CalledProgram[])[] = [];
  readonly #costs = new Map<string, { readonly seconds: Growth; readonly runs: Growth }>();
  readonly #maps = new Map<number, BpfMap>();
  readonly #counted = new Map<number, MapStatus>();
  readonly #losses = new Map<string, Growth>();
  #toCount: BpfMap[] = [];

  constructor({ store, stats, lost }: KernelSourceOptions) {
    this.#store = store;
    this.#lost = lost;
    this.#stats = stats ? statisticsIfAllowed() : undefined;
    const build = { version: version(), runtime_version: process.versions.node };
    store.gauge('knp.build.info', { ...build, kernel_release: release(), arch: arch() }).set(1);
  }

  watch({ object, choices, called }: LoadedProbe): void {
    if (called !== undefined && this.#stats !== undefined) this.#called.push(called);
    const names = choices.flatMap(({ programs }) => programs);
    const caughtUp = new Set(choices.flatMap((choice) => choice.caughtUp));
    for (const name of names) {
      this.#programs.push({
        program: object.program(name),
        seconds: this.#stats && new Growth(this.#store.counter('knp.bpf.program.seconds', { program: name })),
        runs: this.#stats && new Growth(this.#store.counter('knp.bpf.program.runs', { program: name })),
        busy:
          caughtUp.has(name) || hasBackup(name, names)
            ? undefined
            : new Growth(this.#store.counter('knp.agent.lost', { stage: 'program_busy' })),
      });
    }
    for (const { name, initialSize } of object.maps) {
      // Sections of constants and variables are maps too; arrays are always full.
      if (initialSize > 0) continue;
      const map = object.map(name);
      if (!map.type.includes('array')) this.#maps.set(map.id, map);
    }
  }

  collect(): void {
    for (const { program, seconds, runs, busy } of this.#programs) {
      const info = program.info();
      busy?.to(info.recursionMisses);
      seconds?.to(info.runTimeNs / 1e9);
      runs?.to(info.runCount);
    }
    for (const { program, runTimeNs, runCount } of this.#called.flatMap((called) => called())) {
      const { seconds, runs } = this.#costOf(program);
      seconds.to(runTimeNs / 1e9);
      runs.to(runCount);
    }
    this.#countMaps();
    for (const { name, entries, capacity } of this.#counted.values()) {
      this.#store.gauge('knp.bpf.map.entries', { map: name }).set(entries);
      this.#store.gauge('knp.bpf.map.capacity', { map: name }).set(capacity);
    }
    for (const [stage, total] of Object.entries(this.#lost())) {
      let growth = this.#losses.get(stage);
      if (growth === undefined) {
        growth = new Growth(this.#store.counter('knp.agent.lost', { stage }));
        this.#losses.set(stage, growth);
      }
      growth.to(total);
    }
  }

  #costOf(program: string): { readonly seconds: Growth; readonly runs: Growth } {
    let cost = this.#costs.get(program);
    if (cost === undefined) {
      cost = {
        seconds: new Growth(this.#store.counter('knp.bpf.program.seconds', { program })),
        runs: new Growth(this.#store.counter('knp.bpf.program.runs', { program })),
      };
      this.#costs.set(program, cost);
    }
    return cost;
  }

  /** Goes on where the last collection stopped; at least one map each time. */
  #countMaps(): void {
    if (this.#toCount.length === 0) this.#toCount = [...this.#maps.values()];
    const end = performance.now() + COUNT_MILLIS;
    do {
      const map = this.#toCount.shift();
      if (map === undefined) return;
      const entries = map.count();
      if (entries !== undefined && map.maxEntries > 0) {
        this.#counted.set(map.id, { name: map.name, entries, capacity: map.maxEntries });
      }
    } while (performance.now() < end);
  }

  maps(): MapStatus[] {
    return [...this.#counted.values()];
  }

  close(): void {
    this.#stats?.close();
  }
}

/** Reads what the kernel says about the agent's own programs and maps. */
export function createKernelSource(options: KernelSourceOptions): KernelSource {
  return new Kernel(options);
}
