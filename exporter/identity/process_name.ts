// What to call a process that lives outside containers and units. Called by host.ts for owners from the kernel, which
// still has these names when the process is long gone.
import { kernelText, sanitise } from './text.ts';
import { type KernelName, OWNER_FLAGS } from './types.ts';

/** comm is TASK_COMM_LEN = 16 with its NUL: a name of 15 bytes may have lost its end. */
const COMM_LIMIT = 15;

// Titles that runtimes give to the thread that the kernel takes as the process' name: they tell the role of a thread,
// not the program. Node >= 24 and Deno: MainThread; Firefox, Chromium, CLR, Go and Rust test harnesses: the others.
const THREAD_TITLE =
  /^(?:main|main[ _-]?thread|thread[ _-]?\d*|worker(?:[ _-]?\d+)?|pool[ _-]?\d*|tokio-.*|\.net .*|libuv-worker|crbrowsermain|unknown|\(.*\))$/i;
const DELETED = / \(deleted\)$/;

export interface ProcessNames {
  readonly comm: KernelName;
  /** Basename or path of the executable; '' when there is none. */
  readonly exe: KernelName;
  readonly flags?: number;
}

function basename(path: string): string {
  const clean = path.replace(DELETED, '');
  return clean.slice(clean.lastIndexOf('/') + 1);
}

/**
 * Name of a process: its comm (which programs choose: `gunicorn`, `postgres`, a script's file name), but the
 * executable's where comm is a thread's title or the cut form of the executable. Kernel threads are all `kernel`.
 * Never empty: `unknown` when nothing readable was given.
 */
export function processName({ comm, exe, flags = 0 }: ProcessNames): string {
  if (flags & OWNER_FLAGS.kernelThread) return 'kernel';
  if (flags & OWNER_FLAGS.self) return 'kubenetprobe';
  const title = sanitise(kernelText(comm));
  const program = sanitise(basename(kernelText(exe)));
  if (program === '') return title === '' ? 'unknown' : title;
  if (title === '' || THREAD_TITLE.test(title)) return program;
  const length = typeof comm === 'string' ? Buffer.byteLength(title) : commLength(comm);
  if (length >= COMM_LIMIT && program.startsWith(title)) return program;
  return title;
}

function commLength(comm: Uint8Array): number {
  const end = comm.indexOf(0);
  return end < 0 ? comm.length : end;
}
