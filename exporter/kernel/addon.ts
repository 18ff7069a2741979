// Loads the addon (native/*.cc), the only module that does: its functions as they are, its errors, and the checks of
// arguments that the wrapping modules (object, program, map, ring, system) share. Every other module imports native.ts.
import { createRequire } from 'node:module';
import { getSystemErrorMap } from 'node:util';

declare const handle: unique symbol;
export type External = { readonly [handle]: never };

// biome-ignore lint/suspicious/noExplicitAny: the addon's functions are typed by the methods that call them
const addon: Record<string, (...args: any[]) => any> = createRequire(import.meta.url)(
  '../../build/native/knp.node',
);

/** What libuv has no name for: the kernel's ENOTSUPP, which reaches userspace from some BPF commands, and ESTALE. */
const UNNAMED: ReadonlyMap<number, [code: string, text: string]> = new Map([
  [524, ['ENOTSUPP', 'not supported by this kernel']],
  [116, ['ESTALE', 'not what it was any more']],
]);

export function errorName(errno: number): { code: string; text: string } {
  if (errno === 0) return { code: 'MISUSE', text: '' };
  const [code, text] = UNNAMED.get(errno) ??
    getSystemErrorMap().get(-errno) ?? [`E${errno}`, `error ${errno}`];
  return { code, text };
}

/** The line of a log that says why: the verifier's last word, else libbpf's. Empty where there is none. */
function lastWord(log: string): string {
  // from Linux 7 on an explanation in prose follows ("Verification failed: ..."), which is for the log
  const verifier =
    /-- BEGIN PROG LOAD LOG --\n([\s\S]*?)(?:\nVerification failed:|processed \d+ insns|-- END PROG LOAD LOG --)/.exec(
      log,
    )?.[1];
  const lines = (verifier ?? log).split('\n').map((line) => line.replace(/^libbpf: /, '').trim());
  const useful = lines.filter(
    (line) =>
      line !== '' && !/^(failed to load object|prog '.*': failed to load|old state:|cur state:)/.test(line),
  );
  return (useful.at(-1) ?? '').slice(0, 300);
}

/** What the kernel, libbpf or this layer refuses. `log` is what libbpf and the verifier had to say, possibly empty. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  /** `EPERM`, `EINVAL`, ... or `MISUSE` where the caller is wrong and the kernel was not asked. */
  readonly code: string;
  readonly errno: number;
  readonly log: string;
  /** The line of the log that says why; empty without a log. */
  readonly reason: string;

  constructor(message: string, errno = 0, log = '') {
    const { code, text } = errorName(errno);
    const reason = lastWord(log);
    super(errno === 0 ? message : `${message}: ${text} (${code})${reason && `: ${reason}`}`);
    this.reason = reason;
    this.code = code;
    this.errno = errno;
    this.log = log;
  }
}
addon.setErrorClass?.(KernelError);

/** The addon's functions; their signatures stand above each in native/*.cc. */
export const call = addon as Record<
  | `object${'Open' | 'Close' | 'IsClosed' | 'Load' | 'Programs' | 'Maps' | 'Btf' | 'SetInitialValue' | 'SetAutoload'}`
  | `object${'SetMaxEntries' | 'SetAutocreate' | 'ReuseMap' | 'Map'}`
  | `program${'Fd' | 'Info' | 'TestRun'}`
  | `attach${'' | 'Iterator' | 'Uprobe' | 'UprobeMulti' | 'Kprobe' | 'Tcx' | 'Tc' | 'Xdp' | 'Cgroup' | 'Netns' | 'Netlink'}`
  | `link${'Read' | 'Request' | 'Info' | 'Close' | 'CloseLater' | 'IsClosed'}`
  | `map${'Info' | 'Lookup' | 'Update' | 'UpdateMany' | 'Delete' | 'ReadAll' | 'Count' | 'Clear'}`
  | `ring${'Open' | 'Take' | 'Ref' | 'Close' | 'IsClosed'}`
  | `stats${'Enable' | 'Close' | 'IsClosed'}`
  | 'possibleCpus'
  | 'libbpfVersion'
  | 'tryProgram'
  | 'tryPerfProbe'
  | 'hasMapType'
  | 'hasProgramType'
  | 'hasHelper'
  | 'netnsInterfaces'
  | 'readFiles'
  | 'fileHandle',
  // biome-ignore lint/suspicious/noExplicitAny: see above
  (...args: any[]) => any
>;

export function misuse(message: string): never {
  throw new KernelError(message);
}

export function requireInteger(value: unknown, what: string, min: number, max: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  return misuse(`${what} must be an integer from ${min} to ${max}, not ${String(value)}`);
}

export function requirePath(value: unknown, what: string): string {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return value;
  return misuse(`${what} must be a path`);
}

export const U32_MAX = 0xffffffff;
export const INT_MAX = 0x7fffffff;
