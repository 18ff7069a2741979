// Text of unknown origin (process names, label values, paths) made fit for a terminal: no control characters,
// known width. Used by everything that prints tables for people.

import { printable } from '../agent/printable.ts';

export { printable };

// East Asian wide and fullwidth blocks, and emoji: two columns. Coarse on purpose; the table places each column
// by itself, so that a terminal that disagrees moves one cell and nothing else.
const WIDE =
  /[\u1100-\u115f\u231a\u231b\u2329\u232a\u23e9-\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]/u;

const MARKS = /\p{M}/u;

/** Columns that a character takes: 0, 1 or 2. */
function columns(character: string): number {
  if (MARKS.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}

/** Columns that a printable text takes. */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text) width += columns(character);
  return width;
}

// More marks than this on one letter are no language, but a way to paint over the neighbouring lines.
const MOST_MARKS = 2;

/** Printable text cut or padded to exactly `width` columns; `…` says that something is missing. */
export function padded(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  if (width <= 0) return '';
  let result = '';
  let used = 0;
  let marks = 0;
  let cut = false;
  const clean = printable(text);
  const full = textWidth(clean);
  for (const character of clean) {
    const own = columns(character);
    marks = own === 0 ? marks + 1 : 0;
    if (marks > MOST_MARKS) continue;
    if (used + own > (full > width ? width - 1 : width)) {
      cut = true;
      break;
    }
    result += character;
    used += own;
  }
  if (cut) {
    result += '…';
    used += 1;
  }
  const padding = ' '.repeat(Math.max(0, width - used));
  return align === 'left' ? result + padding : padding + result;
}

const SCALES = ['', 'k', 'M', 'G', 'T', 'P', 'E'] as const;

/** Three significant digits with a decimal prefix: 0, 12.3k, 4.56M. */
export function scaled(value: number): string {
  if (!Number.isFinite(value)) return '-';
  let scale = 0;
  let size = Math.abs(value);
  while (size >= 999.5 && scale < SCALES.length - 1) {
    size /= 1000;
    scale++;
  }
  const digits = Number.isInteger(size) && scale === 0 ? 0 : size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return `${value < 0 ? '-' : ''}${size.toFixed(digits)}${SCALES[scale]}`;
}

/** A duration in seconds as people say it: 850µs, 1.20ms, 3.40s. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-';
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)}µs`;
  if (seconds < 1) return `${(seconds * 1e3).toPrecision(3)}ms`;
  return `${seconds.toFixed(2)}s`;
}
