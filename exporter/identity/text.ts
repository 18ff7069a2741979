// Names come from processes, the network and the API server, so they are hostile until they went through here.
// Used by everything in identity/ that makes a string of foreign bytes.
import type { KernelName } from './types.ts';

/** Longest name that leaves this package: the longest that Kubernetes allows for an object (RFC 1123 subdomain). */
export const MAX_NAME_LENGTH = 253;

const decoder = new TextDecoder('utf-8');
// Controls, format characters (bidirectional overrides, zero-width joiners), lone surrogates, private use, line and
// paragraph separators: none of them is part of a name that a person can read.
const UNREADABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
const PLAIN = /^[\x20-\x7e]*$/;

/** Text of a kernel string: up to its first NUL, invalid UTF-8 replaced by U+FFFD. Not yet sanitised. */
export function kernelText(name: KernelName): string {
  if (typeof name === 'string') {
    const end = name.indexOf('\0');
    return end < 0 ? name : name.slice(0, end);
  }
  const end = name.indexOf(0);
  return decoder.decode(end < 0 ? name : name.subarray(0, end));
}

/** A well-formed, printable, trimmed string of at most `limit` UTF-16 units; '' when nothing readable is left. */
export function sanitise(text: string, limit = MAX_NAME_LENGTH): string {
  // Bound first: replacing costs time by length, and the input may be megabytes.
  let result = text.length > limit * 4 ? text.slice(0, limit * 4) : text;
  if (!PLAIN.test(result)) result = result.toWellFormed().replace(UNREADABLE, '\uFFFD');
  result = result.trim();
  if (result.length > limit)
    result = result
      .slice(0, limit)
      .toWellFormed()
      .replace(/\uFFFD$/, '');
  return /^\uFFFD*$/.test(result) ? '' : result;
}
