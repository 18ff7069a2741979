// Paths become routes of low cardinality: what the user's patterns say, else the path with its identifiers replaced,
// as long as there is room. Called by source.ts for every path that the kernel sees for the first time.
//
// Paths are hostile. Whatever they are, memory is bounded by the limits, and a route holds printable ASCII only and
// nothing that looks like an identifier or a secret.

/** A route that the user wrote: `{name}` stands for one segment, `*` as the last one for all the rest. */
export interface RoutePattern {
  readonly pattern: string;
  /** Only for this server workload; left out: for all. */
  readonly service?: string | undefined;
}

export interface RouteBookOptions {
  readonly patterns: readonly RoutePattern[];
  /** Routes learnt for one server workload; what comes later is `OVERFLOW_ROUTE`. */
  readonly maxRoutes: number;
  /** Server workloads that learn at all; what comes later is `OVERFLOW_ROUTE`. */
  readonly maxServices?: number;
}

/** What is beyond the limit of routes. */
export const OVERFLOW_ROUTE = '/*';

/** Segments of a learnt route; what is deeper becomes `*`. */
const MAX_SEGMENTS = 12;
/** A longer segment is no name that somebody gave to a resource. */
const MAX_SEGMENT = 40;

const ID = '{id}';
const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const HEX = /^[0-9a-f-]+$/i;
const NUMBER = /^[+-]?[0-9]+(?:[.,:_-][0-9]+)*$/;
const DATE = /^\d{4}-?\d{2}(?:-?\d{2})?(?:T[\d:.+Z-]+)?$/i;
const PLAIN = /^[A-Za-z0-9._~!$'()+,;=:@-]*$/;
/** Short, in lower case, without digits. */
const WORD = /^[a-z_-]{1,15}$/;
const VERSION = /^v\d{1,3}(?:\.\d{1,3}){0,2}(?:(?:alpha|beta|rc)\d{0,3})?$/i;

/** What a character is to looksRandom. */
const OTHER = 0;
const DIGIT = 1;
const LOWER = 2;
const UPPER = 3;
function kindOf(code: number): number {
  if (code >= 0x61 && code <= 0x7a) return LOWER;
  if (code >= 0x30 && code <= 0x39) return DIGIT;
  return code >= 0x41 && code <= 0x5a ? UPPER : OTHER;
}

/** Letters that change to digits and back, or between cases, as no written word does. */
function looksRandom(segment: string): boolean {
  let changes = 0;
  let digits = 0;
  let before = OTHER;
  for (let i = 0; i < segment.length; i++) {
    const kind = kindOf(segment.charCodeAt(i));
    if (kind === DIGIT) digits++;
    if (kind !== OTHER && before !== OTHER && kind !== before && !(before === UPPER && kind === LOWER))
      changes++;
    before = kind; // a separator begins a new word
  }
  if (segment.length >= 8 && digits >= 4) return true;
  if (segment.length >= 10 && digits >= 1 && changes >= 2) return true;
  return segment.length >= 16 && (changes >= 4 || !/[aeiouy]/i.test(segment));
}

/** Is this segment an identifier, a date, an address, a token: anything but a name that the service's author chose? */
export function isIdentifier(segment: string): boolean {
  if (WORD.test(segment)) return false; // most are: nothing below holds for them
  if (segment === '' || VERSION.test(segment)) return false;
  if (NUMBER.test(segment) || UUID.test(segment) || DATE.test(segment)) return true;
  if (segment.length > MAX_SEGMENT || !PLAIN.test(segment)) return true; // also everything percent-encoded
  if (segment.includes('@')) return true;
  if (segment.length >= 8 && HEX.test(segment) && /[0-9]/.test(segment)) return true;
  if (segment.includes('=')) return true; // matrix parameters and base64
  // A file name is judged without its extension.
  const stem = segment.replace(/\.[A-Za-z]{1,5}$/, '');
  if (stem !== segment && (NUMBER.test(stem) || UUID.test(stem))) return true;
  // every long number inside, and what surrounds it, names one thing among many: order-18823, inv_2024_17
  if (/\d{3,}/.test(stem)) return true;
  return looksRandom(stem);
}

const withoutQuery = (path: string): string => {
  const end = path.search(/[?#]/);
  return end < 0 ? path : path.slice(0, end);
};

/** The path with its identifiers replaced. `cut`: it goes on, so its last segment says nothing. */
export function normalisePath(path: string, cut = false): string {
  if (path === '*' || path === '') return path;
  const segments = withoutQuery(path).replace(/^\/+/, '').split('/');
  const rest = cut || segments.length > MAX_SEGMENTS;
  const kept = segments.slice(0, Math.min(cut ? segments.length - 1 : segments.length, MAX_SEGMENTS));
  const route = `/${kept.map((segment) => (isIdentifier(segment) ? ID : segment)).join('/')}`;
  if (!rest) return route;
  return route === '/' ? OVERFLOW_ROUTE : `${route}/*`;
}

/** A pattern as a function of a path's segments. */
function matcher(pattern: string): (segments: readonly string[]) => boolean {
  const wanted = pattern.replace(/^\//, '').split('/');
  const open = wanted.at(-1) === '*';
  if (open) wanted.pop();
  const fits = (want: string, segment: string | undefined) =>
    segment !== undefined && (/^\{[^}]*\}$/.test(want) ? segment !== '' : want === segment);
  return (segments) =>
    (open ? segments.length >= wanted.length : segments.length === wanted.length) &&
    wanted.every((want, i) => fits(want, segments[i]));
}

/** Do the kernel's own marks for identifiers hide what a pattern tells apart? Then it must not use them. */
export function needsExactPaths(patterns: readonly RoutePattern[]): boolean {
  return patterns.some(({ pattern }) =>
    pattern.split('/').some((s) => /^[0-9]+$/.test(s) || (s.length >= 16 && HEX.test(s) && /[0-9]/.test(s))),
  );
}

/** All routes: the user's, and those learnt by server workload. */
export class RouteBook {
  readonly #patterns: readonly {
    route: string;
    service: string | undefined;
    matches: (s: readonly string[]) => boolean;
  }[];
  readonly #maxRoutes: number;
  readonly #maxServices: number;
  readonly #learnt = new Map<string, Set<string>>();
  readonly #numbers = new Map<string, number>();
  readonly #names: string[] = [];
  #routes = 0;

  constructor({ patterns, maxRoutes, maxServices = 1024 }: RouteBookOptions) {
    this.#patterns = patterns.map(({ pattern, service }) => ({
      route: pattern,
      service,
      matches: matcher(pattern),
    }));
    this.#maxRoutes = maxRoutes;
    this.#maxServices = maxServices;
  }

  /** Routes learnt so far, of all workloads. */
  get size(): number {
    return this.#routes;
  }

  /**
   * The route of a path without query, for requests to a server workload.
   * @param server its name, for patterns, and a key that is its own
   * @param cut the path is longer than what is given
   */
  route(server: { readonly name: string; readonly key: string }, path: string, cut = false): string {
    if (this.#patterns.length > 0) {
      const segments = withoutQuery(path).replace(/^\//, '').split('/');
      for (const { route, service, matches } of this.#patterns) {
        if ((service === undefined || service === server.name) && matches(segments)) return route;
      }
    }
    return this.#learn(server.key, normalisePath(path, cut));
  }

  #learn(service: string, route: string): string {
    let known = this.#learnt.get(service);
    if (known === undefined) {
      if (this.#learnt.size >= this.#maxServices) return OVERFLOW_ROUTE;
      known = new Set();
      this.#learnt.set(service, known);
    }
    if (known.has(route)) return route;
    if (route === '' || route === OVERFLOW_ROUTE) return OVERFLOW_ROUTE;
    if (known.size >= this.#maxRoutes) return OVERFLOW_ROUTE;
    known.add(route);
    this.#routes++;
    return route;
  }

  /** The number that stands for a route in the kernel; `first` is the lowest that may be given. */
  number(route: string, first: number): number {
    let number = this.#numbers.get(route);
    if (number === undefined) {
      number = first + this.#names.length;
      this.#numbers.set(route, number);
      this.#names.push(route);
    }
    return number;
  }

  /** The route of a number, if it was given. */
  name(number: number, first: number): string | undefined {
    return this.#names[number - first];
  }
}
