// What belongs to no object: statistics, the kernel's type information, trying what the kernel allows. Reached through
// native.ts.
import { readFileSync } from 'node:fs';
import { call, type External, errorName, KernelError } from './addon.ts';

/** Keeps the kernel's BPF run-time statistics enabled while open (Linux 5.8; costs about 20 ns per run). */
export class BpfStats {
  readonly #external: External = call.statsEnable();

  get closed(): boolean {
    return call.statsIsClosed(this.#external);
  }

  close(): void {
    call.statsClose(this.#external);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export function enableBpfStats(): BpfStats {
  return new BpfStats();
}

/** The running kernel's type information, raw. Throws KernelError with what to do where the kernel has none. */
export function kernelBtf(path = '/sys/kernel/btf/vmlinux'): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const errno = -((error as NodeJS.ErrnoException).errno ?? 0);
    throw new KernelError(`cannot read the kernel's type information from ${path}`, errno);
  }
}

/** CPUs that per-CPU values have room for; may be more than are online. */
export function possibleCpus(): number {
  return call.possibleCpus();
}

export function libbpfVersion(): string {
  return call.libbpfVersion();
}

/** What came of loading and attaching a program of raw instructions; nothing of it remains. */
export interface TryResult {
  readonly stage: 'target' | 'load' | 'attach' | 'ok';
  readonly code: string;
  readonly log: string;
}

/**
 * Tries what the kernel allows. Numbers are those of the kernel's `enum bpf_prog_type` and `bpf_attach_type`.
 * @param options `target`: kernel function or tracepoint of a BTF-typed program; `attach`: also attach it.
 */
export function tryProgram(options: {
  readonly type: number;
  readonly attachType?: number;
  readonly target?: string;
  readonly instructions: Uint8Array;
  readonly attach?: boolean;
}): TryResult {
  const { type, attachType = 0, target = '', instructions, attach = false } = options;
  const result = call.tryProgram(type, attachType, target, instructions, attach);
  return {
    stage: result.stage,
    code: result.error === 0 ? '' : errorName(result.error).code,
    log: result.log,
  };
}

/** Tries to open a kprobe on a kernel function. Returns '' or the error's code. */
export function tryKprobe(pmuType: number, kernelFunction: string): string {
  const errno: number = call.tryPerfProbe(pmuType, kernelFunction);
  return errno === 0 ? '' : errorName(errno).code;
}

export function hasMapType(type: number): boolean {
  return call.hasMapType(type);
}

export function hasProgramType(type: number): boolean {
  return call.hasProgramType(type);
}

/** Whether programs of this type may call this helper. Not for tracing programs, which libbpf cannot probe. */
export function hasHelper(programType: number, helper: number): boolean {
  return call.hasHelper(programType, helper);
}

/** The interfaces of one network namespace at one moment. */
export interface NetworkInterfaces {
  /** SO_NETNS_COOKIE: names the namespace and is never used again, unlike its inode number. */
  readonly cookie: bigint;
  readonly interfaces: readonly { readonly index: number; readonly name: string }[];
  /** There are more than were asked for. */
  readonly more: boolean;
}

/**
 * Lists the interfaces of a network namespace without holding the event loop. Entering another one takes CAP_SYS_ADMIN.
 * @param path leads to the namespace (`/proc/PID/ns/net`); undefined: the process's own
 * @throws KernelError as a rejection
 */
export async function networkInterfaces(path: string | undefined, limit: number): Promise<NetworkInterfaces> {
  const { error, cookie, interfaces, more } = await call.netnsInterfaces(path, limit);
  if (error !== 0) throw new KernelError(`cannot list the interfaces of ${path ?? 'this namespace'}`, error);
  return { cookie, interfaces, more };
}

/**
 * What the file system calls the file (name_to_handle_at), the same for every name of it: on an overlay it tells the
 * lower file that two containers share, which device and inode number do not. Undefined where there is none (an
 * overlay before Linux 6.6).
 */
export function fileHandle(fd: number): Buffer | undefined {
  return call.fileHandle(fd);
}

/**
 * Reads files of /proc, which may wait for a lock, without holding the event loop; all in one hop to another thread.
 * @returns for each path its text, of at most `limit` bytes (`more`: there is more), or why not: `ENOENT`, `EACCES`, ...
 */
export async function readFiles(
  paths: readonly string[],
  limit: number,
): Promise<{ readonly code: string; readonly text: string; readonly more: boolean }[]> {
  const files: { error: number; text: string; more: boolean }[] = await call.readFiles(paths, limit);
  return files.map(({ error, text, more }) => ({
    code: error === 0 ? '' : errorName(error).code,
    text,
    more,
  }));
}
