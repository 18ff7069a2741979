// Reads all sources into the store, once for all callers at the same time. Called by the server for each scrape
// and by the OTLP exporter for each interval.
import type { MetricDefinition } from './catalogue.ts';
import { type Log, SILENT } from './log.ts';
import { runPaced } from './pacing.ts';
import type { Family, SeriesStore } from './store.ts';

/** Something that yields metrics when asked: every probe is one, and the agent itself. */
export interface Source {
  /** Unique, lower case; the value of the label `source`. */
  readonly name: string;
  /** Parts of the catalogue that are not true without this source: left out of a collection in which it failed. */
  readonly owns?: readonly MetricDefinition['probe'][];
  /** Adds what happened since the last call to the store. A rejection or a throw fails this source only. */
  collect(nowMillis: number): void | Promise<void>;
}

/** What one collection gave. */
export interface Collection {
  readonly startMillis: number;
  readonly endMillis: number;
  /** Sources that failed, with the reason. */
  readonly failures: ReadonlyMap<string, string>;
  /** Something was read that can be shown: at least one source that owns metrics (or, without such, any) succeeded. */
  readonly valid: boolean;
  /** The metrics that are true at this moment. */
  readonly families: readonly Family[];
}

export interface CollectorOptions {
  readonly store: SeriesStore;
  readonly sources?: readonly Source[];
  readonly log?: Log;
  /** A source that takes longer failed, in milliseconds. It is not asked again before it has come back. */
  readonly sourceTimeoutMillis?: number;
  readonly now?: () => number;
}

/** Runs collections. */
export class Collector {
  readonly store: SeriesStore;
  private readonly log: Log;
  private readonly timeoutMillis: number;
  private readonly now: () => number;
  private readonly sources: Source[] = [];
  private readonly readOnce = new Set<string>();
  private readonly failing = new Set<string>();
  private readonly running = new Set<Source>();
  private inFlight: Promise<Collection> | undefined;

  constructor({
    store,
    sources = [],
    log = SILENT,
    sourceTimeoutMillis = 8000, // Prometheus gives up after 10 s unless told otherwise
    now = Date.now,
  }: CollectorOptions) {
    this.store = store;
    this.log = log;
    this.timeoutMillis = sourceTimeoutMillis;
    this.now = now;
    for (const source of sources) this.add(source);
  }

  /** Adds a source; sources are read in the order in which they were added. */
  add(source: Source): void {
    if (this.sources.some((known) => known.name === source.name)) {
      throw new Error(`there is a source "${source.name}" already`);
    }
    this.sources.push(source);
  }

  /** Removes a source (a probe that is being stopped). */
  remove(source: Source): void {
    const index = this.sources.indexOf(source);
    if (index >= 0) this.sources.splice(index, 1);
  }

  /** Whether the source of this name was read successfully at least once. */
  wasRead(name: string): boolean {
    return this.readOnce.has(name);
  }

  /** Reads all sources; a caller that asks while a collection runs shares it. Never rejects. */
  collect(): Promise<Collection> {
    this.inFlight ??= this.run().finally(() => {
      this.inFlight = undefined;
    });
    return this.inFlight;
  }

  private async run(): Promise<Collection> {
    const startMillis = this.now();
    const began = performance.now();
    const failures = new Map<string, string>();
    const { store } = this;
    store.begin(startMillis);
    const sources = [...this.sources];
    for (const source of sources) {
      const sourceBegan = performance.now();
      const failure = await this.read(source, startMillis);
      if (failure !== undefined) failures.set(source.name, failure);
      this.note(source, failure);
      const seconds = (performance.now() - sourceBegan) / 1000;
      store.gauge('knp.agent.source.duration', { source: source.name }).set(seconds);
    }
    await runPaced(store.settle());
    store.histogram('knp.agent.collection.duration', {}).observe((performance.now() - began) / 1000);
    return { startMillis, endMillis: this.now(), failures, ...this.outcome(sources, failures) };
  }

  /** Reads one source; the reason if it failed. */
  private async read(source: Source, nowMillis: number): Promise<string | undefined> {
    if (this.running.has(source)) return 'still busy with an earlier collection';
    let timer: NodeJS.Timeout | undefined;
    try {
      const reading = source.collect(nowMillis);
      if (reading === undefined) return undefined;
      this.running.add(source);
      const done = reading
        .then((failure) => {
          // Also when it comes too late for this collection: on a starved machine it may never come in time.
          if (failure === undefined) this.readOnce.add(source.name);
          return failure;
        })
        .finally(() => this.running.delete(source));
      const late = new Promise<string>((resolve) => {
        timer = setTimeout(() => resolve(`not done after ${this.timeoutMillis} ms`), this.timeoutMillis);
      });
      // If `late` wins, a later rejection of `done` is already handled: race subscribed to it.
      return (await Promise.race([done, late])) ?? undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      clearTimeout(timer);
    }
  }

  private note(source: Source, failure: string | undefined): void {
    const { name } = source;
    const failures = this.store.counter('knp.agent.source.failures', { source: name });
    failures.add(failure === undefined ? 0 : 1);
    if (failure === undefined) {
      this.readOnce.add(name);
      if (this.failing.delete(name)) this.log.info({ source: name }, 'source can be read again');
    } else if (!this.failing.has(name)) {
      // Once per outage: a source that fails at every scrape must not fill the disk.
      this.failing.add(name);
      this.log.error({ source: name, reason: failure }, 'source could not be read; its metrics are left out');
    }
  }

  private outcome(
    sources: readonly Source[],
    failures: ReadonlyMap<string, string>,
  ): Pick<Collection, 'valid' | 'families'> {
    const owners = sources.filter((source) => source.owns !== undefined);
    const counted = owners.length > 0 ? owners : sources;
    const valid = counted.length === 0 || counted.some((source) => !failures.has(source.name));
    const hidden = new Set(owners.filter((s) => failures.has(s.name)).flatMap((s) => s.owns ?? []));
    const families = [...this.store.families()].filter((family) => !hidden.has(family.definition.probe));
    return { valid, families };
  }
}
