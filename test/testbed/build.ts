// Builds the testbed's Go programs (kube-apiserver, etcd, the Go peer), once for each content of their module,
// outside the work tree. The API server takes about ten minutes of one core the first time.
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processStartTime } from './leftovers.ts';

const programs = ['apiserver', 'etcd', 'peer'] as const;
export type GoProgram = (typeof programs)[number];

const BUILD_ARGS = ['build', '-trimpath', '-buildvcs=false'];

/** Where this machine keeps what tests built or fetched once. */
export function cacheDirectory(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kubenetprobe', 'testbed');
}

/** Linker flags; without its version the API server calls itself v0.0.0-master. */
function linkerFlags(program: GoProgram): string {
  const module = readFileSync(join(import.meta.dirname, program, 'go.mod'), 'utf8');
  const kubernetes = /k8s\.io\/kubernetes (v\S+)/.exec(module)?.[1];
  return `-s -w${kubernetes ? ` -X k8s.io/component-base/version.gitVersion=${kubernetes}` : ''}`;
}

function inputsHash(program: GoProgram): string {
  const hash = createHash('sha256').update(`${process.arch} ${BUILD_ARGS.join(' ')} ${linkerFlags(program)}`);
  const directory = join(import.meta.dirname, program);
  for (const input of readdirSync(directory).sort()) {
    hash.update(`\0${input}\0`).update(readFileSync(join(directory, input)));
  }
  return hash.digest('hex').slice(0, 16);
}

function builtPath(program: GoProgram): string {
  return join(cacheDirectory(), inputsHash(program), program);
}

/** A Go command of version 1.21 or newer (older ones cannot fetch the toolchain that a module asks for). */
export function findGo(): string | undefined {
  const candidates = [
    'go',
    '/usr/local/go/bin/go',
    ...[26, 25, 24, 23, 22, 21].map((v) => `/usr/lib/go-1.${v}/bin/go`),
  ];
  return candidates.find((go) => {
    try {
      const version = execFileSync(go, ['version'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      return Number(/go1\.(\d+)/.exec(version)?.[1]) >= 21;
    } catch {
      return false;
    }
  });
}

/** Why the programs can be neither found in the cache nor built here; undefined when they can. */
export function cannotBuild(): string | undefined {
  if (programs.every((program) => existsSync(builtPath(program)))) return undefined;
  return findGo() ? undefined : 'no Go 1.21 or newer to build kube-apiserver and etcd with';
}

/** Path of the program, built if need be. One build at a time on this machine; others wait for it. */
export async function buildProgram(program: GoProgram): Promise<string> {
  const path = builtPath(program);
  if (existsSync(path)) return path;
  mkdirSync(join(path, '..'), { recursive: true });
  const unlock = await lock(join(cacheDirectory(), 'lock'), program);
  try {
    if (!existsSync(path)) await goBuild(program, path);
    return path;
  } finally {
    unlock();
  }
}

/** Builds all of them. */
export async function buildAll(): Promise<void> {
  for (const program of programs) await buildProgram(program);
}

async function goBuild(program: GoProgram, path: string): Promise<void> {
  const go = findGo();
  if (!go) throw new Error(cannotBuild());
  const duration = program === 'apiserver' ? ', ten minutes of one core the first time' : '';
  process.stderr.write(`testbed: building ${program} from its Go modules (once${duration})\n`);
  const started = Date.now();
  const partial = `${path}.${process.pid}`;
  // nice: whoever runs tests meanwhile comes first. GOTOOLCHAIN: a Go that is too old fetches the one asked for.
  const child = spawn(
    'nice',
    ['-n', '19', go, ...BUILD_ARGS, '-ldflags', linkerFlags(program), '-o', partial, '.'],
    {
      cwd: join(import.meta.dirname, program),
      env: { ...process.env, GOTOOLCHAIN: 'auto', GOFLAGS: '', CGO_ENABLED: '0' },
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  const progress = setInterval(() => {
    const minutes = Math.round((Date.now() - started) / 60_000);
    process.stderr.write(`testbed: still building ${program} (${minutes} min)\n`);
  }, 60_000);
  try {
    const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
    if (code !== 0) throw new Error(`go build of test/testbed/${program} ended with ${code}`);
    renameSync(partial, path);
  } finally {
    clearInterval(progress);
    rmSync(partial, { force: true });
  }
}

/** A lock file that names its holder, so that a killed build does not block the next. */
async function lock(path: string, purpose: string): Promise<() => void> {
  const content = JSON.stringify({ pid: process.pid, startTime: processStartTime(process.pid) });
  for (let announced = false; ; ) {
    try {
      writeFileSync(path, content, { flag: 'wx' });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (holderIsGone(path)) rmSync(path, { force: true });
    else {
      if (!announced) process.stderr.write(`testbed: waiting for another build before that of ${purpose}\n`);
      announced = true;
      await sleep(500);
    }
  }
}

function holderIsGone(path: string): boolean {
  try {
    const { pid, startTime } = JSON.parse(readFileSync(path, 'utf8'));
    return processStartTime(pid) !== startTime;
  } catch {
    // Being written at this moment, unless it has stood there half written for longer than that takes.
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat !== undefined && Date.now() - stat.mtimeMs > 10_000;
  }
}
