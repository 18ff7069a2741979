// Turns what the kernel counted of one protocol's requests into its series at every collection, and tells what the kernel
// lost of them. The collector calls it, after the source of the edges and that of all requests (stream.ts); the protocol's
// probe makes it, and says what its series are.
import { runPaced } from '../../telemetry/pacing.ts';
import type { Counter } from '../../telemetry/store.ts';
import type { RequestKey } from './records.ts';
import type { ProtocolRequests } from './stream.ts';
import type { RequestSeries, RequestTable, RequestTableOptions } from './table.ts';

/** Prefix of the kernel's counters of losses. */
const LOST = 'lost_';

export interface RequestSourceOptions<S extends RequestSeries>
  extends Pick<RequestTableOptions<S>, 'series' | 'active'> {
  /** The probe's: unique among the sources, and prefix of what is lost. */
  readonly name: string;
  readonly requests: ProtocolRequests;
  /** Series that a counter of the kernel feeds, by its name (`enum request_counter` in lower case). */
  readonly fed?: Readonly<Record<string, Counter>>;
}

export class RequestSource<S extends RequestSeries> {
  readonly name: string;
  readonly owns: readonly string[];
  readonly #requests: ProtocolRequests;
  readonly #table: RequestTable<S>;
  readonly #fed: Readonly<Record<string, Counter>>;
  #counters: Readonly<Record<string, number>>;
  #running: Promise<void> | undefined;

  constructor({ name, requests, fed = {}, ...table }: RequestSourceOptions<S>) {
    this.name = name;
    this.owns = [name, 'service_graph'];
    this.#requests = requests;
    this.#table = requests.table(table);
    this.#fed = fed;
    this.#counters = requests.counters();
  }

  /**
   * The kernel's counters as last read, by name: `connections`, `lost_malformed`, ... With those of connections that are
   * of no protocol.
   */
  get counters(): Readonly<Record<string, number>> {
    const { unclassified } = this.#requests;
    return Object.fromEntries(
      Object.entries(this.#counters).map(([name, count]) => [name, count + (unclassified[name] ?? 0)]),
    );
  }

  /** What was lost since the start, by stage: in the kernel, as last read, and here. */
  lost(): Readonly<Record<string, number>> {
    const lost = Object.entries(this.#counters).filter(([name]) => name.startsWith(LOST));
    return {
      ...Object.fromEntries(lost.map(([name, count]) => [`${this.name}_${name.slice(LOST.length)}`, count])),
      [`${this.name}_edge_gone`]: this.#table.edgeGone,
    };
  }

  /** Adds to the store what was counted since the last call. A call meanwhile waits for the same end. */
  collect(): Promise<void> {
    this.#running ??= runPaced(this.#steps()).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** The series that count requests of this kind, if they were made: for exemplars. */
  seriesOf(key: RequestKey, name: string): S | undefined {
    return this.#table.seriesOf(key, name);
  }

  /** In steps of well under a millisecond, but for the reading of the maps. */
  *#steps(): Generator<void, void, void> {
    yield* this.#table.account(this.#requests.batch());
    const counters = this.#requests.counters();
    for (const [name, now] of Object.entries(counters)) {
      const grown = now - (this.#counters[name] ?? 0);
      if (grown > 0) this.#fed[name]?.add(grown);
    }
    this.#counters = counters;
  }
}
