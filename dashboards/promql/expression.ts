// PromQL expressions that know their labels: an aggregation can keep only labels that are there, a binary operation
// needs the same labels on both sides. Text is all that an expression holds at run time.
import type { Duration, Range } from './names.ts';
import type { Cumulative } from './select.ts';

declare const labels: unique symbol;

/** An instant vector whose series have the labels `L` at most. */
export interface Vector<L extends string> {
  readonly promql: string;
  /** Needs no parentheses as an operand. */
  readonly atomic: boolean;
  readonly [labels]?: (label: L) => L;
}

/** A number, or a name that is replaced by one later (see alerts/thresholds.ts). */
export type Scalar = number | { readonly placeholder: string };

export const atom = <L extends string>(promql: string): Vector<L> => ({ promql, atomic: true });
const compound = <L extends string>(promql: string): Vector<L> => ({ promql, atomic: false });
const operand = (vector: Vector<never> | { promql: string; atomic: boolean }): string =>
  vector.atomic ? vector.promql : `(${vector.promql})`;
export const scalarText = (scalar: Scalar): string =>
  typeof scalar === 'number' ? String(scalar) : scalar.placeholder;

const overTime = (selector: string, range: Range, offset?: Duration): string =>
  `${selector}[${range}]${offset === undefined ? '' : ` offset ${offset}`}`;

/** Per second, over a window. */
export function rate<L extends string>(of: Cumulative<L>, range: Range, offset?: Duration): Vector<L> {
  return atom(`rate(${overTime(of.selector, range, offset)})`);
}

type Aggregation = 'sum' | 'min' | 'max' | 'avg' | 'count';

function aggregate<L extends string, K extends L>(
  operator: Aggregation,
  of: Vector<L>,
  by: readonly K[],
): Vector<K> {
  const grouping = by.length === 0 ? '' : ` by (${by.join(', ')}) `;
  return atom(`${operator}${grouping}(${of.promql})`);
}

export const sum = <L extends string, K extends L = never>(of: Vector<L>, by: readonly K[] = []): Vector<K> =>
  aggregate('sum', of, by);
export const max = <L extends string, K extends L = never>(of: Vector<L>, by: readonly K[] = []): Vector<K> =>
  aggregate('max', of, by);
export const min = <L extends string, K extends L = never>(of: Vector<L>, by: readonly K[] = []): Vector<K> =>
  aggregate('min', of, by);
export const count = <L extends string, K extends L = never>(
  of: Vector<L>,
  by: readonly K[] = [],
): Vector<K> => aggregate('count', of, by);

/** The `k` largest; at most `k` series leave, whatever their number. */
export const topk = <L extends string>(k: number, of: Vector<L>): Vector<L> =>
  atom(`topk(${k}, ${of.promql})`);

/** The `k` smallest. */
export const bottomk = <L extends string>(k: number, of: Vector<L>): Vector<L> =>
  atom(`bottomk(${k}, ${of.promql})`);

/** A quantile of classic buckets, in the unit of the metric. */
export const quantile = <L extends string>(q: number, of: Vector<L | 'le'>): Vector<Exclude<L, 'le'>> =>
  atom(`histogram_quantile(${q}, ${of.promql})`);

/** One series when there is none. */
export const absent = <L extends string, K extends string = never>(of: Vector<L>): Vector<K> =>
  atom(`absent(${of.promql})`);

const binary = <L extends string>(operator: string, a: Vector<L>, b: Vector<L> | Scalar): Vector<L> => {
  const right = typeof b === 'object' && 'promql' in b ? operand(b) : scalarText(b);
  return compound(`${operand(a)} ${operator} ${right}`);
};

export const add = <L extends string>(a: Vector<L>, b: Vector<NoInfer<L>>): Vector<L> => binary('+', a, b);
export const subtract = <L extends string>(a: Vector<L>, b: Vector<NoInfer<L>>): Vector<L> =>
  binary('-', a, b);
export const multiply = <L extends string>(a: Vector<L>, b: Scalar): Vector<L> => binary('*', a, b);
export const divide = <L extends string>(a: Vector<L>, b: Vector<NoInfer<L>> | Scalar): Vector<L> =>
  binary('/', a, b);
export const above = <L extends string>(a: Vector<L>, b: Vector<NoInfer<L>> | Scalar): Vector<L> =>
  binary('>', a, b);
export const below = <L extends string>(a: Vector<L>, b: Scalar): Vector<L> => binary('<', a, b);
export const equals = <L extends string>(a: Vector<L>, b: Scalar): Vector<L> => binary('==', a, b);
/** Series of `a` whose labels `b` has too. */
export const and = <L extends string>(a: Vector<L>, b: Vector<NoInfer<L>>): Vector<L> => binary('and', a, b);
/** Series of `a` whose labels `b` has not. */
export const unless = <L extends string>(a: Vector<L>, b: Vector<NoInfer<L>>): Vector<L> =>
  binary('unless', a, b);
export const or = <L extends string>(a: Vector<L>, b: Vector<NoInfer<L>>): Vector<L> => binary('or', a, b);

/** Series of all of them; of those with the same labels the first. */
export const union = <L extends string>(vectors: readonly Vector<L>[]): Vector<L> => {
  const [first, ...others] = vectors;
  if (first === undefined) throw new Error('a union of nothing');
  return others.reduce((all, each) => or(all, each), first);
};

/** `a`, and zero for series of `b` that `a` lacks. */
export const orZeroOf = <L extends string>(a: Vector<L>, b: Vector<NoInfer<L>>): Vector<L> =>
  or(a, multiply(b, 0));

/** The label `D` with the same value on all series. */
export const withLabel = <L extends string, const D extends string>(
  of: Vector<L>,
  label: D,
  value: string,
): Vector<L | D> => atom(`label_replace(${of.promql}, "${label}", "${value}", "", "")`);

/** A new label `D` made of the others: `template` has `$1` … for the values of `from`, which `separator` joins. */
export function labelFrom<L extends string, const D extends string>(
  of: Vector<L>,
  label: D,
  from: readonly L[],
  separator = '/',
): Vector<L | D> {
  const sources = from.map((each) => `"${each}"`).join(', ');
  return atom(`label_join(${of.promql}, "${label}", "${separator}", ${sources})`);
}
