// What the tests of the native layer share: compiling their programs, the driven process, what bpftool sees, children.
import { type ChildProcessWithoutNullStreams, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { patience } from '../../guests/scale.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const OUT = `${ROOT}build/test/native/`;
const HEADERS = [`${HERE}programs/test.h`, `${HERE}include/linux/types.h`];

function newer(output: string, inputs: string[]): boolean {
  if (!existsSync(output)) return false;
  const made = statSync(output).mtimeMs;
  return inputs.every((input) => statSync(input).mtimeMs <= made);
}

function build(output: string, inputs: string[], command: string, args: string[]): string {
  if (newer(output, inputs)) return output;
  mkdirSync(OUT, { recursive: true });
  const temporary = `${output}.${process.pid}`;
  execFileSync(command, [...args, '-o', temporary], { stdio: 'inherit' });
  renameSync(temporary, output);
  return output;
}

/** Compiles programs/NAME.bpf.c if it changed; returns the object's path. Debug sections stay, for other tools to read. */
export function compile(name: string): string {
  const source = `${HERE}programs/${name}.bpf.c`;
  const arch = process.arch === 'arm64' ? 'arm64' : 'x86';
  const flags = ['-g', '-O2', '-Wall', '-Werror', '-target', 'bpf', '-mcpu=v3', `-D__TARGET_ARCH_${arch}`];
  const include = ['-nostdinc', `-I${HERE}include`, '-isystem', `${ROOT}native/vendor/include`];
  const uapi = ['-isystem', `${ROOT}native/vendor/libbpf/include/uapi`];
  const args = [...flags, ...include, ...uapi, '-c', source];
  return build(`${OUT}${name}.bpf.o`, [source, ...HEADERS], 'clang', args);
}

/** The directory that `compile` writes to, for the loader. */
export const OBJECTS = new URL(`file://${OUT}`);

/** Compiles programs/getppid.c. */
export function compileTarget(): string {
  const source = `${HERE}programs/getppid.c`;
  return build(`${OUT}getppid`, [source], 'gcc', ['-O1', '-g', '-rdynamic', source]);
}

/** Where knpt_target begins in the file of `compileTarget`, from the tables of symbols and segments as binutils read them. */
export function targetOffset(): number {
  const path = compileTarget();
  const symbols = execFileSync('nm', [path], { encoding: 'utf8' });
  const address = Number(`0x${/^([0-9a-f]+) T knpt_target$/m.exec(symbols)?.[1]}`);
  const headers = execFileSync('readelf', ['-lW', path], { encoding: 'utf8' });
  const segment = [...headers.matchAll(/LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+)/g)]
    .map((m) => m.slice(1, 4).map(Number) as [number, number, number])
    .find(([, virtual, size]) => address >= virtual && address < virtual + size);
  if (!segment) throw new Error('knpt_target is in no segment');
  return address - segment[1] + segment[0];
}

/** A process that makes getppid calls when told to. */
export class Driven {
  readonly pid: number;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcessWithoutNullStreams, lines: AsyncIterator<string>) {
    this.#child = child;
    this.#lines = lines;
    this.pid = child.pid as number;
  }

  /** @param command what becomes the process; default: the program where it was compiled */
  static async start(command: readonly string[] = [compileTarget()]): Promise<Driven> {
    const child = spawn(command[0] as string, command.slice(1), { stdio: 'pipe' });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    await lines.next();
    return new Driven(child, lines);
  }

  async call(times: number): Promise<void> {
    this.#child.stdin.write(`${times}\n`);
    const { value } = await this.#lines.next();
    if (!String(value).startsWith('done')) throw new Error(`the driven process said ${value}`);
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }

  async ended(): Promise<void> {
    this.stop();
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit');
  }
}

/** Makes `times` getppid calls in this very process. */
export function callGetppid(times: number): void {
  for (let i = 0; i < times; i++) void process.ppid;
}

interface BpftoolProgram {
  id: number;
  name?: string;
  type: string;
}
interface BpftoolLink {
  id: number;
  type: string;
  prog_id: number;
}

export function bpftool<T>(...args: string[]): T {
  return JSON.parse(
    execFileSync('bpftool', ['-j', ...args], { encoding: 'utf8', maxBuffer: 256 << 20 }),
  ) as T;
}

/** Ids of loaded programs with these names (of at most 15 characters), as bpftool sees them. */
export function programIds(...names: string[]): number[] {
  const programs = bpftool<BpftoolProgram[]>('prog', 'show');
  return programs.filter((p) => p.name !== undefined && names.includes(p.name)).map((p) => p.id);
}

/** Ids of links of these programs, as bpftool sees them. */
export function linkIds(programs: number[]): number[] {
  return bpftool<BpftoolLink[]>('link', 'show')
    .filter((l) => programs.includes(l.prog_id))
    .map((l) => l.id);
}

/** Waits until `condition` holds; throws with `what` after a minute, longer in a guest. The kernel frees programs a moment after the fd. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + patience(60_000);
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A u64 of an array map. */
export function u64(bytes: Buffer | undefined): number {
  if (!bytes) throw new Error('no such element');
  return Number(bytes.readBigUInt64LE(0));
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Runs children/NAME.ts; `prefix` puts it elsewhere (`ip netns exec ...`). Returns what it printed, as JSON. */
export function runChild<T>(
  name: string,
  options: { args?: string[]; prefix?: string[]; node?: string[] } = {},
): T {
  const { args = [], prefix = [], node = [] } = options;
  const command = [...prefix, process.execPath, ...node, `${HERE}children/${name}.ts`, ...args];
  const result = spawnSync(command[0] as string, command.slice(1), { encoding: 'utf8', maxBuffer: 64 << 20 });
  if (result.status !== 0) {
    throw new Error(
      `child ${name} ended with ${result.status ?? result.signal}: ${result.stderr}${result.stdout}`,
    );
  }
  return JSON.parse(result.stdout) as T;
}

export function spawnChild(name: string, ...args: string[]): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [`${HERE}children/${name}.ts`, ...args], { stdio: 'pipe' });
}

/** First line of a child's output. Throws with what it said where it ends before. */
export async function firstLine(child: ChildProcessWithoutNullStreams): Promise<string> {
  let errors = '';
  child.stderr.on('data', (data) => {
    errors += data;
  });
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error(`the child ended without a word: ${errors}`);
}

/** Open file descriptors of this process. */
export function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Mount point of the cgroup v2 hierarchy. */
export function cgroup2Mount(): string {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const found = mounts.map((line) => line.split(' ')).find((fields) => fields[2] === 'cgroup2');
  if (!found?.[1]) throw new Error('cgroup v2 is not mounted');
  return found[1];
}
