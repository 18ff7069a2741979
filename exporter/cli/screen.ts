// Takes over the terminal for a live view and gives it back whatever happens: normal end, signal, crash. One at a time.
import { writeSync } from 'node:fs';
import type { ReadStream, WriteStream } from 'node:tty';

const STDOUT = 1;
const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l';
const LEAVE = '\x1b[?7h\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

export interface Screen {
  size(): { columns: number; rows: number };
  /** Replaces what is shown; lines beyond the screen are cut. Lines must be printable (see text.ts). */
  draw(lines: readonly string[], inverted?: number): void;
  close(): void;
}

export interface ScreenOptions {
  input: ReadStream;
  output: WriteStream;
  onKey(key: string): void;
  onResize(): void;
}

/** Switches to the alternate screen and raw input. */
export function openScreen({ input, output, onKey, onResize }: ScreenOptions): Screen {
  let open = true;
  let waiting = false;
  const keys = (data: Buffer) => {
    for (const key of data.toString('latin1')) onKey(key);
  };
  const restore = () => {
    if (!open) return;
    open = false;
    try {
      input.setRawMode(false);
    } catch {
      // The terminal is gone.
    }
    try {
      // Synchronous: this also runs while the process exits.
      writeSync(STDOUT, LEAVE);
    } catch {
      // As above.
    }
  };
  process.on('exit', restore);
  input.setRawMode(true);
  input.on('data', keys);
  input.resume();
  output.on('resize', onResize);
  output.write(ENTER);
  return {
    size: () => ({ columns: Math.max(1, output.columns || 80), rows: Math.max(1, output.rows || 24) }),
    draw(lines, inverted) {
      // A terminal that does not keep up skips pictures, it does not collect them.
      if (!open || waiting) return;
      const { rows } = this.size();
      const text = lines
        .slice(0, rows)
        .map((line, index) => `${index === inverted ? `\x1b[7m${line}\x1b[0m` : line}${CLEAR_LINE}`)
        .join('\r\n');
      waiting = !output.write(`${HOME}${text}${CLEAR_BELOW}`, () => {
        waiting = false;
      });
    },
    close() {
      restore();
      process.off('exit', restore);
      input.off('data', keys);
      input.pause();
      output.off('resize', onResize);
    },
  };
}
