// One exposition for all scrapes that asked for it at the same time: written once, at the pace of the fastest reader,
// freed behind the slowest. Used by the server's scrape handler.
import { once } from 'node:events';
import { setImmediate as immediate } from 'node:timers/promises';
import { constants, createGzip, type Gzip } from 'node:zlib';
import { SLICE_MILLIS } from '../pacing.ts';

/** Level 1: exposition text compresses to about 5 % at any level, and this one costs a third of the default. */
const GZIP_LEVEL = constants.Z_BEST_SPEED;

/** Chunks of a body that several readers share. */
export class SharedBody {
  private readonly pieces: Iterator<string>;
  private readonly gzip: Gzip | undefined;
  private readonly positions = new Map<object, number>();
  private readonly chunks: (Buffer | undefined)[] = [];
  private freed = 0;
  private done = false;
  private producing: Promise<void> | undefined;
  private sliceEnd = 0;

  constructor(pieces: Iterator<string>, compressed: boolean) {
    this.pieces = pieces;
    if (compressed) {
      this.gzip = createGzip({ level: GZIP_LEVEL });
      this.gzip.on('data', (chunk: Buffer) => this.chunks.push(chunk));
      // Destroyed when the last reader left: the rest has no reader.
      this.gzip.on('error', () => {});
    }
  }

  /** A new reader can still see the whole body. */
  get joinable(): boolean {
    return this.freed === 0 && !(this.done && this.positions.size === 0);
  }

  /** Reads the whole body. Leaving the loop early is fine: the reader then no longer counts. */
  async *read(): AsyncGenerator<Buffer, void, void> {
    const reader = {};
    this.positions.set(reader, 0);
    try {
      for (let i = 0; ; i++) {
        while (i >= this.chunks.length && !this.done) await this.more();
        const chunk = this.chunks[i];
        if (chunk === undefined) return;
        this.positions.set(reader, i + 1);
        this.free();
        yield chunk;
      }
    } finally {
      this.positions.delete(reader);
      if (this.positions.size === 0) this.stop();
      else this.free();
    }
  }

  private more(): Promise<void> {
    this.producing ??= this.produce().finally(() => {
      this.producing = undefined;
    });
    return this.producing;
  }

  private async produce(): Promise<void> {
    if (performance.now() >= this.sliceEnd) {
      await immediate();
      this.sliceEnd = performance.now() + SLICE_MILLIS;
    }
    const { value, done } = this.pieces.next();
    if (this.gzip === undefined) {
      if (done) this.done = true;
      else this.chunks.push(Buffer.from(value, 'utf8'));
    } else if (this.gzip.destroyed) {
      this.done = true;
    } else if (done) {
      this.gzip.end();
      await once(this.gzip, 'end');
      this.done = true;
    } else if (!this.gzip.write(value, 'utf8')) await once(this.gzip, 'drain');
  }

  private free(): void {
    const slowest = Math.min(...this.positions.values());
    for (; this.freed < slowest; this.freed++) this.chunks[this.freed] = undefined;
  }

  private stop(): void {
    this.done = true;
    this.pieces.return?.();
    this.gzip?.destroy();
    this.chunks.length = 0;
  }
}
