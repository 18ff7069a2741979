// Metrics about the kernel side of the agent: what its BPF programs cost, how full its maps are, what was lost there,
// and what identity could not name. Read last in every collection.
import { arch, release } from 'node:os';
import { type BpfProgram, type BpfStats, enableBpfStats } from '../kernel/native.ts';
import type { TcpProbe } from '../probes/tcp/index.ts';
import type { Collector, Source } from '../telemetry/collector.ts';
import type { SeriesStore } from '../telemetry/store.ts';
import type { MapStatus } from './status.ts';
import { version } from './version.ts';

export interface KernelSource extends Source {
  /** Adds a probe's programs and maps. */
  watch(probe: TcpProbe): void;
  maps(): MapStatus[];
  lost(): Record<string, number>;
  /** Share of open connections that have an edge of their own; null while there are none. */
  coverage(): number | null;
  close(): void;
}

export interface KernelSourceOptions {
  readonly store: SeriesStore;
  readonly collector: Collector;
  /** Measure what programs cost. */
  readonly stats: boolean;
}

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
  readonly seconds: Growth;
  readonly runs: Growth;
}

class Kernel implements KernelSource {
  readonly name = 'kernel';
  readonly #store: SeriesStore;
  readonly #collector: Collector;
  readonly #stats: BpfStats | undefined;
  readonly #programs: WatchedProgram[] = [];
  readonly #losses = new Map<string, Growth>();
  #tcp: TcpProbe | undefined;

  constructor({ store, collector, stats }: KernelSourceOptions) {
    this.#store = store;
    this.#collector = collector;
    this.#stats = stats ? enableBpfStats() : undefined;
    const build = { version: version(), runtime_version: process.versions.node };
    store.gauge('knp.build.info', { ...build, kernel_release: release(), arch: arch() }).set(1);
  }

  watch(probe: TcpProbe): void {
    this.#tcp = probe;
    for (const { name, autoload } of probe.object.programs) {
      if (!autoload) continue;
      const program = probe.object.program(name);
      this.#programs.push({
        program,
        seconds: new Growth(this.#store.counter('knp.bpf.program.seconds', { program: name })),
        runs: new Growth(this.#store.counter('knp.bpf.program.runs', { program: name })),
      });
    }
  }

  collect(): void {
    const store = this.#store;
    for (const { program, seconds, runs } of this.#programs) {
      const info = program.info();
      seconds.to(info.runTimeNs / 1e9);
      runs.to(info.runCount);
    }
    for (const { name, entries, capacity } of this.maps()) {
      store.gauge('knp.bpf.map.entries', { map: name }).set(entries);
      store.gauge('knp.bpf.map.capacity', { map: name }).set(capacity);
    }
    for (const [stage, total] of Object.entries(this.lost())) {
      let growth = this.#losses.get(stage);
      if (growth === undefined) {
        growth = new Growth(store.counter('knp.agent.lost', { stage }));
        this.#losses.set(stage, growth);
      }
      growth.to(total);
    }
    if (this.#tcp !== undefined) {
      const read = this.#collector.wasRead('tcp');
      store.gauge('knp.probe.ready', { probe: 'tcp' }).set(read ? 1 : 0);
    }
    const coverage = this.coverage();
    if (coverage !== null) store.gauge('knp.agent.coverage_ratio', {}).set(coverage);
  }

  maps(): MapStatus[] {
    const tcp = this.#tcp;
    if (tcp === undefined) return [];
    return [
      { name: 'edges', entries: tcp.source.edges, capacity: tcp.table.capacity },
      {
        name: 'owners',
        entries: tcp.directory.knownOwners().length,
        capacity: tcp.sharedMaps.owners?.maxEntries ?? 0,
      },
    ];
  }

  lost(): Record<string, number> {
    return this.#tcp?.table.lost() ?? {};
  }

  coverage(): number | null {
    let all = 0;
    let other = 0;
    for (const { labels, value } of this.#store.family('knp.tcp.connections').points) {
      all += value;
      if (labels.includes('_kind="other"')) other += value;
    }
    return all > 0 ? (all - other) / all : null;
  }

  close(): void {
    this.#stats?.close();
  }
}

/** Reads what the kernel says about the agent's own programs and maps. */
export function createKernelSource(options: KernelSourceOptions): KernelSource {
  return new Kernel(options);
}
