// Text from the network on a terminal: no control characters, exact widths.
import { describe, expect, test } from 'vitest';
import { type Column, renderTable } from '../../../exporter/cli/table.ts';
import { duration, padded, printable, scaled, textWidth } from '../../../exporter/cli/text.ts';

const HOSTILE = [
  '\x1b[2J\x1b[31mred',
  '\x1b]0;title\x07',
  '\x9b31m',
  'a\nb\rc\td\0',
  '\u202edesrever\u202c',
  '\u2028\u2029',
  '\ud800lone',
  '日本語サービス',
  '👩‍👩‍👧‍👦 family',
  `z${'\u0301'.repeat(500)}algo`,
  'ａｂｃ',
  '\u200b\u200bzero width',
  '',
  'x'.repeat(10_000),
];

describe('printable', () => {
  test.each(HOSTILE)('%j holds nothing that a terminal acts on', (text) => {
    expect(printable(text)).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
  });

  test('ordinary text of any script stays as it is', () => {
    for (const text of ['nginx.service', 'prod/web-1', 'Größe', '日本語', '👍', 'a b'])
      expect(printable(text)).toBe(text);
  });
});

describe('padded', () => {
  test.each(HOSTILE)('%j fills exactly the columns that it was given', (text) => {
    for (const width of [1, 2, 3, 7, 20, 80]) {
      for (const align of ['left', 'right'] as const) {
        const result = padded(text, width, align);
        expect(textWidth(result)).toBe(width);
        expect(result.length).toBeLessThan(width * 4 + 8);
      }
    }
    expect(padded(text, 0)).toBe('');
  });

  test('says that something was cut', () => {
    expect(padded('abcdef', 6)).toBe('abcdef');
    expect(padded('abcdef', 5)).toBe('abcd…');
    expect(padded('日本語', 5)).toBe('日本…');
    expect(padded('日本語', 4)).toBe('日… ');
    expect(padded('7', 3, 'right')).toBe('  7');
  });
});

describe('figures', () => {
  test.each([
    [0, '0'],
    [7, '7'],
    [999, '999'],
    [1000, '1.00k'],
    [12_345, '12.3k'],
    [999_499, '999k'],
    [999_500, '1.00M'],
    [4_560_000, '4.56M'],
    [1e18, '1.00E'],
    [1e21, '1000E'],
    [0.5, '0.50'],
    [12.34, '12.3'],
    [-1500, '-1.50k'],
    [Number.NaN, '-'],
    [Number.POSITIVE_INFINITY, '-'],
  ])('%d is %s', (value, text) => {
    expect(scaled(value)).toBe(text);
  });

  test.each([
    [0.00085, '850µs'],
    [0.0012, '1.20ms'],
    [0.25, '250ms'],
    [3.4, '3.40s'],
    [Number.NaN, '-'],
  ])('%d seconds are %s', (value, text) => {
    expect(duration(value)).toBe(text);
  });
});

describe('a table', () => {
  const columns: Column<[string, string, number]>[] = [
    { title: 'FROM', align: 'left', width: 4, grows: true, priority: 0, cell: (row) => row[0] },
    { title: 'TO', align: 'left', width: 4, grows: true, priority: 1, cell: (row) => row[1] },
    { title: 'N', align: 'right', width: 3, priority: 2, cell: (row) => String(row[2]) },
  ];

  test('names grow into the room there is, evenly', () => {
    const rows: [string, string, number][] = [['client-one', 'server-one', 1]];
    expect(renderTable(columns, rows, 80)).toEqual([
      'FROM        TO            N',
      'client-one  server-one    1',
    ]);
    expect(renderTable(columns, rows, 19)).toEqual(['FROM    TO        N', 'clien…  serve…    1']);
  });

  test('the least important columns go first when it is narrow', () => {
    const rows: [string, string, number][] = [['a', 'b', 1]];
    expect(renderTable(columns, rows, 14)).toEqual(['FROM  TO', 'a     b']);
    expect(renderTable(columns, rows, 9)).toEqual(['FROM', 'a']);
    expect(renderTable(columns, rows, 1)).toEqual(['…', 'a']);
  });

  test.each([1, 5, 10, 20, 40, 200])('no line is wider than %d columns, whatever the names', (width) => {
    const rows = HOSTILE.map((name, index): [string, string, number] => [
      name,
      HOSTILE.at(-index) ?? '',
      index,
    ]);
    const lines = renderTable(columns, rows, width);
    expect(lines).toHaveLength(HOSTILE.length + 1);
    for (const line of lines) {
      expect(textWidth(line)).toBeLessThanOrEqual(width);
      expect(line).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    }
  });
});
