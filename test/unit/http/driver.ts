// Runs the HTTP/1 connection logic of bpf/ in user mode (test/fuzz/http1_driver.c, built on demand with sanitizers).
import { execFileSync, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const FUZZ = fileURLToPath(new URL('../../fuzz', import.meta.url));
const DRIVER = fileURLToPath(new URL('../../../build/fuzz/http1_driver', import.meta.url));

/**
 * One call of one thread, a close, a walk that finds the connection idle for too long, bytes that pass unseen, or that
 * the connection had begun before. */
export type Step =
  | { readonly direction: 'request' | 'response'; readonly pieces: readonly Buffer[] }
  | { readonly unseen: 'request' | 'response'; readonly bytes: number }
  | 'close'
  | 'idle'
  | 'midway';

export interface Exchange {
  readonly method: number;
  readonly status: number;
  readonly hash: string;
  readonly minor: number;
  readonly request: number;
  readonly response: number;
  readonly error: number;
  readonly start: number;
  readonly first: number;
  readonly end: number;
}

export interface Outcome {
  readonly exchanges: Exchange[];
  readonly paths: { path: string; hash: string; cut: number }[];
  readonly traceparent: string[];
  readonly tracestate: string[];
  /** `enum http_conn_flags` at the end. */
  readonly flags: number;
  readonly lost: number;
}

export function buildDriver(): void {
  execFileSync('make', ['-s', '-C', FUZZ, 'driver'], { stdio: 'inherit' });
}

function record(kind: number, bytes: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head[0] = kind;
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function encode(step: Step): Buffer[] {
  if (step === 'close') return [record(4, Buffer.alloc(0))];
  if (step === 'midway') return [record(7, Buffer.alloc(0))];
  if (step === 'idle') return [record(6, Buffer.alloc(0))];
  if ('unseen' in step) {
    const payload = Buffer.alloc(5);
    payload[0] = step.unseen === 'response' ? 1 : 0;
    payload.writeUInt32LE(step.bytes, 1);
    return [record(5, payload)];
  }
  const direction = step.direction === 'response' ? 1 : 0;
  return step.pieces.map((piece, i) => record(direction + (i < step.pieces.length - 1 ? 2 : 0), piece));
}

function runDriver(input: Buffer, env: NodeJS.ProcessEnv): Buffer {
  const run = spawnSync(DRIVER, {
    input,
    maxBuffer: 2 ** 30,
    env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0', ...env },
  });
  if (run.status !== 0) throw new Error(`driver: ${run.status ?? run.signal}: ${run.stderr}`);
  return run.stdout;
}

/**
 * What the logic makes of each conversation. Every call takes one nanosecond of its clock.
 * @throws where the fast path (bpf/protocol/http1/http1_fast_path.h) says anything else than going step by step
 */
export function runConversations(conversations: readonly (readonly Step[])[]): Outcome[] {
  const input = Buffer.concat(
    conversations.flatMap((steps) => [...steps.flatMap(encode), record(9, Buffer.alloc(0))]),
  );
  const stdout = runDriver(input, {});
  if (!runDriver(input, { HTTP1_STEP_BY_STEP: '1' }).equals(stdout))
    throw new Error('the fast path and the step loop do not come to the same');
  const outcomes: Outcome[] = [];
  let exchanges: Exchange[] = [];
  let paths: Outcome['paths'] = [];
  let traceparent: string[] = [];
  let tracestate: string[] = [];
  const text = (hex: string) => Buffer.from(hex, 'hex').toString('latin1');
  for (const line of stdout.toString('latin1').split('\n')) {
    if (line === '') continue;
    const value = JSON.parse(line);
    if ('flags' in value) {
      outcomes.push({ exchanges, paths, traceparent, tracestate, flags: value.flags, lost: value.lost });
      exchanges = [];
      paths = [];
      traceparent = [];
      tracestate = [];
    } else if ('path' in value) paths.push({ ...value, path: text(value.path) });
    else if ('traceparent' in value) traceparent.push(text(value.traceparent));
    else if ('tracestate' in value) tracestate.push(text(value.tracestate));
    else exchanges.push(value);
  }
  return outcomes;
}
