// Label matchers of a selector, typed by the metric they are for.
import type { MetricName } from '../../exporter/telemetry/catalogue.ts';
import type { LabelOf, LabelValueOf } from './names.ts';

interface Special {
  readonly operator: '=~' | '!~' | '!=' | '=';
  readonly text: string;
}
/** All but these values. */
interface Not<V> extends Special {
  readonly not: readonly V[];
}
interface Pattern extends Special {
  readonly pattern: true;
}
interface AnyValue extends Special {
  readonly anyValue: true;
}

/** What a label with values `V` may be compared with; a pattern only where the set of values is open. */
export type Match<V> = V | readonly V[] | Not<V> | AnyValue | (string extends V ? Pattern : never);

/** Matchers of metric `N`. */
export type Matchers<N extends MetricName> = { readonly [L in LabelOf<N>]?: Match<LabelValueOf<N, L>> };

const escapeRegex = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
const quote = (text: string): string => `"${text.replace(/\\/g, '\\\\').replace(/"/g, '\\"')}"`;
const alternatives = (values: readonly (string | number)[]): string =>
  values.map((each) => escapeRegex(String(each))).join('|');

export function not<const V extends string>(...values: readonly V[]): Not<V> {
  if (values.length === 1) return { operator: '!=', text: String(values[0]), not: values };
  return { operator: '!~', text: alternatives(values), not: values };
}

/** A regular expression (RE2, anchored at both ends). */
export const matches = (regex: string): Pattern => ({ operator: '=~', text: regex, pattern: true });

/** The value, or values, chosen in a variable of the dashboard. */
export const variable = (name: string): AnyValue => ({ operator: '=~', text: `$${name}`, anyValue: true });

/** The label is there. */
export const present: AnyValue = { operator: '!=', text: '', anyValue: true };

/** `{a="b",…}`, '' without matchers; in the order given. */
export function matcherText(matchers: Readonly<Record<string, unknown>>): string {
  const parts = Object.entries(matchers)
    .filter(([, match]) => match !== undefined)
    .map(([label, match]) => label + comparison(match));
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

function comparison(match: unknown): string {
  if (Array.isArray(match)) return `=~${quote(alternatives(match as string[]))}`;
  if (typeof match === 'object') {
    const special = match as Special;
    return special.operator + quote(special.text);
  }
  return `=${quote(String(match))}`;
}
