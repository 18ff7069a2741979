// Text of unknown origin (process names, label values, paths) on one line that a terminal does not act on. Used by the
// log and by everything that prints for people.

/**
 * One line without anything that a terminal acts on: control, format and bidirectional characters, line and
 * paragraph separators, lone surrogates and private characters become `·`.
 */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '·');
}
