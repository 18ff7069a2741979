// Runs the Redis connection logic of bpf/ in user mode (test/fuzz/redis_driver.c, built on demand with sanitizers).
import { execFileSync, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const FUZZ = fileURLToPath(new URL('../../fuzz', import.meta.url));
const DRIVER = fileURLToPath(new URL('../../../build/fuzz/redis_driver', import.meta.url));

/** One call of one thread, bytes that pass unseen, or something that happens to the connection. */
export type Step =
  | {
      readonly direction: 'request' | 'answer';
      readonly pieces: readonly Buffer[];
      /** The call began so many steps before it was seen to return. */
      readonly began?: number;
    }
  | { readonly unseen: 'request' | 'answer'; readonly bytes: number }
  /** All that waits ends, with one of `enum request_error`. */
  | { readonly ends: number }
  /** Once the first request of the next step is over, in the middle of that: an end with an error, or an answer. */
  | { readonly meanwhile: number | Buffer }
  | 'close'
  | 'midway';

/** A request that is over. Times count steps. */
export interface Over {
  readonly command: string;
  /** `OK`, `QUEUED`, an error's first word, or empty: nothing was answered. */
  readonly status: string;
  /** -1: not known. */
  readonly database: number;
  /** `enum request_error`. */
  readonly error: number;
  readonly start: number;
  readonly first: number;
  readonly end: number;
  readonly number: number;
}

export interface Outcome {
  readonly over: Over[];
  /** `enum request_conn_flags` at the end. */
  readonly flags: number;
  readonly lost: number;
  readonly joined: number;
  /** Requests that wait for an answer; below zero: answers that wait for a request. */
  readonly waiting: number;
}

export interface Names {
  readonly commands: string[];
  readonly statuses: string[];
  /** Bytes of a connection's state, and of one parser in it. */
  readonly size: number;
  readonly parser: number;
}

export function buildDriver(): void {
  execFileSync('make', ['-s', '-C', FUZZ, 'redis-driver'], { stdio: 'inherit' });
}

function record(kind: number, ...bytes: Buffer[]): Buffer {
  const payload = Buffer.concat(bytes);
  const head = Buffer.alloc(5);
  head[0] = kind;
  head.writeUInt32LE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

function encode(step: Step): Buffer[] {
  if (step === 'close') return [record(4)];
  if (step === 'midway') return [record(6)];
  if ('ends' in step) return [record(10, Buffer.from([step.ends]))];
  if ('meanwhile' in step)
    return [
      typeof step.meanwhile === 'number'
        ? record(11, Buffer.from([step.meanwhile]))
        : record(11, Buffer.from([0]), step.meanwhile),
    ];
  if ('unseen' in step) {
    const payload = Buffer.alloc(5);
    payload[0] = step.unseen === 'answer' ? 1 : 0;
    payload.writeUInt32LE(step.bytes, 1);
    return [record(5, payload)];
  }
  const direction = step.direction === 'answer' ? 1 : 0;
  const began = Buffer.alloc(4);
  began.writeUInt32LE(step.began ?? 0);
  return [
    ...(step.began ? [record(8, began)] : []),
    ...step.pieces.map((piece, i) => record(direction + (i < step.pieces.length - 1 ? 2 : 0), piece)),
  ];
}

/** The lines that the driver prints; the first is the names. */
function drive(input: Buffer): Record<string, never>[] {
  const run = spawnSync(DRIVER, {
    input,
    maxBuffer: 2 ** 30,
    env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0' },
  });
  if (run.status !== 0) throw new Error(`driver: ${run.status ?? run.signal}: ${run.stderr}`);
  return run.stdout
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

export function names(): Names {
  return drive(Buffer.alloc(0))[0] as unknown as Names;
}

/** Do these bytes look like the beginning of a Redis connection? */
export function begins(samples: readonly { bytes: Buffer; answer?: boolean }[]): boolean[] {
  const input = samples.map(({ bytes, answer }) => record(7, Buffer.from([answer ? 1 : 0]), bytes));
  return drive(Buffer.concat(input))
    .slice(1)
    .map((line) => line.begins === 1);
}

/** What the logic makes of each conversation. */
export function runConversations(conversations: readonly (readonly Step[])[]): Outcome[] {
  const [table, ...lines] = drive(
    Buffer.concat(conversations.flatMap((steps) => [...steps.flatMap(encode), record(9)])),
  );
  const { statuses } = table as unknown as Names;
  const outcomes: Outcome[] = [];
  let over: Over[] = [];
  for (const line of lines as unknown as (Outcome | (Omit<Over, 'status'> & { status: number }))[]) {
    if ('flags' in line) {
      outcomes.push({ ...line, over });
      over = [];
    } else over.push({ ...line, status: statuses[line.status] ?? `#${line.status}` });
  }
  return outcomes;
}
