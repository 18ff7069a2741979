// Tables of text for the terminal: columns that share the width, every cell exactly as wide as its column.
import { padded, textWidth } from './text.ts';

export interface Column<Row> {
  title: string;
  align: 'left' | 'right';
  /** Narrowest width; a column of names grows beyond it while there is room. */
  width: number;
  grows?: boolean;
  /** Left out first when the terminal is too narrow; the lowest stays longest. */
  priority: number;
  cell: (row: Row) => string;
}

const GAP = '  ';

interface Placed<Row> {
  column: Column<Row>;
  width: number;
}

function total(placed: readonly { width: number }[]): number {
  return placed.reduce((sum, { width }) => sum + width, 0) + GAP.length * Math.max(0, placed.length - 1);
}

/** Which columns fit into `width`, and how wide each is. */
function place<Row>(
  columns: readonly Column<Row>[],
  cells: readonly string[][],
  width: number,
): Placed<Row>[] {
  let kept = columns.map((column, index) => {
    const content = Math.max(column.width, ...cells.map((line) => textWidth(line[index] ?? '')));
    return { column, width: column.width, wanted: column.grows === true ? content : column.width };
  });
  while (kept.length > 1 && total(kept) > width) {
    const last = kept.reduce((worst, entry) =>
      entry.column.priority >= worst.column.priority ? entry : worst,
    );
    kept = kept.filter((entry) => entry !== last);
  }
  let spare = width - total(kept);
  // One column of width each in turn, so that names of both ends get the same.
  for (let grew = true; grew && spare > 0; ) {
    grew = false;
    for (const entry of kept) {
      if (spare <= 0 || entry.width >= entry.wanted) continue;
      entry.width++;
      spare--;
      grew = true;
    }
  }
  for (const entry of kept) entry.width = Math.min(entry.width, Math.max(1, width));
  return kept;
}

/** Lines of a table, its header first; none is wider than `width`. */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  width: number,
): string[] {
  const cells = rows.map((row) => columns.map(({ cell }) => cell(row)));
  const placed = place(columns, [columns.map(({ title }) => title), ...cells], width);
  const line = (texts: readonly string[]) =>
    placed
      .map(({ column, width: own }) => padded(texts[columns.indexOf(column)] ?? '', own, column.align))
      .join(GAP)
      .trimEnd();
  return [line(columns.map(({ title }) => title)), ...cells.map(line)];
}
