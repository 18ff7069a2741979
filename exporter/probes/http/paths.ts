// Answers the kernel's question which route a path belongs to: path events come in, route numbers go into the map
// `request_names`. Called by the event reader, and by source.ts for what is counted under a path's hash.
import type { BpfMap } from '../../kernel/native.ts';
import type { EdgeDirectory, NamedEdge } from '../edges.ts';
import type { Records } from './records.ts';
import { REST, type RouteBook } from './routes.ts';

/** `enum request_fixed_name`. */
const ROUTE_REST = 1;
const ROUTE_FIRST = 2;

/** A path seen for the first time on an edge (`struct request_name_event`). */
export interface PathEvent {
  readonly edgeId: number;
  readonly pathHash: bigint;
  readonly path: string;
  readonly cut: boolean;
}

export interface PathsOptions {
  readonly routes: BpfMap;
  readonly records: Records;
  readonly book: RouteBook;
  readonly directory: Pick<EdgeDirectory, 'name'>;
  /** Takes in edges that are newer than the last collection. */
  readonly learn: () => void;
}

/** Events whose edge has no name yet, at most; one beyond this is answered without its server's name. */
const MAX_WAITING = 1024;

export class Paths {
  readonly #options: PathsOptions;
  #waiting: PathEvent[] = [];
  /** Events taken in, for tests and the agent's own metrics. */
  received = 0;

  constructor(options: PathsOptions) {
    this.#options = options;
  }

  /** Takes in a batch of events and answers those whose edge is known. */
  take(events: readonly PathEvent[]): void {
    this.received += events.length;
    this.#waiting.push(...events);
    this.answer();
  }

  /** Answers what waits for the name of its edge. `final`: with or without. */
  answer(final = false): void {
    if (this.#waiting.length === 0) return;
    const { directory, learn, routes, records } = this.#options;
    if (this.#waiting.some((event) => directory.name(event.edgeId) === undefined)) learn();
    const still: PathEvent[] = [];
    const { size } = records.routeKey;
    const keys = Buffer.alloc(size * this.#waiting.length);
    const values = Buffer.alloc(4 * this.#waiting.length);
    let answered = 0;
    for (const [i, event] of this.#waiting.entries()) {
      const named = directory.name(event.edgeId);
      if (named === undefined && !final && this.#waiting.length - i <= MAX_WAITING) {
        still.push(event);
        continue;
      }
      records.encodeRouteKey(event.edgeId, event.pathHash, keys, answered * size);
      values.writeUInt32LE(this.#routeOf(event, named), 4 * answered++);
    }
    this.#waiting = still;
    if (answered > 0)
      routes.updateMany(keys.subarray(0, answered * size), values.subarray(0, 4 * answered), answered);
  }

  #routeOf(event: PathEvent, named: NamedEdge | undefined): number {
    const { book } = this.#options;
    const { name = '', namespace = '' } = named?.server ?? {};
    const route = book.route({ name, key: `${namespace}/${name}` }, event.path, event.cut);
    return route === REST ? ROUTE_REST : book.number(route, ROUTE_FIRST);
  }

  /** The name of a route number. */
  routeName(number: number): string {
    return number === ROUTE_REST ? REST : (this.#options.book.name(number, ROUTE_FIRST) ?? REST);
  }

  /** The route of a path by its hash, if the kernel knows it by now. */
  resolve(edgeId: number, pathHash: bigint): string | undefined {
    const { routes, records } = this.#options;
    const value = routes.lookup(records.encodeRouteKey(edgeId, pathHash));
    const number = value?.readUInt32LE(0) ?? 0;
    return number === 0 ? undefined : this.routeName(number);
  }
}
