// Runs the commands of the test stages: output comes through, Ctrl-C ends them, root is borrowed where it is needed.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

const running = new Set<ChildProcess>();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    for (const child of running) child.kill(signal);
    setTimeout(() => process.exit(130), 2000); // time for them to clean up
  });
}

/**
 * Runs a command with the terminal's output and no input; answers its exit code (128 + n after signal n ended it).
 * With a `prefix` each line of output begins with it, since other commands run at the same time.
 */
export function runCommand(
  command: readonly string[],
  env: Record<string, string> = {},
  prefix = '',
): Promise<number> {
  const [file, ...args] = command as readonly [string, ...string[]];
  const output = prefix === '' ? 'inherit' : 'pipe';
  return new Promise((done) => {
    const child = spawn(file, args, { stdio: ['ignore', output, output], env: { ...process.env, ...env } });
    for (const stream of [child.stdout, child.stderr]) if (stream !== null) copyLines(stream, prefix);
    running.add(child);
    child.once('error', (error) => {
      console.error(`${file}: ${error.message}`);
      done(127);
    });
    child.once('close', (code, signal) => {
      running.delete(child);
      done(code ?? (signal === null ? 1 : 130));
    });
  });
}

function copyLines(stream: Readable, prefix: string): void {
  createInterface({ input: stream }).on('line', (line) => process.stdout.write(`${prefix}${line}\n`));
}

const isRoot = (): boolean => process.getuid?.() === 0;

const canBecomeRoot = (): boolean => isRoot() || spawnSync('sudo', ['-n', 'true']).status === 0;

/** Why BPF programs cannot be loaded by us on this host, as one sentence; undefined where nothing is in the way. */
export function rootObstacle(): string | undefined {
  if (!canBecomeRoot())
    return 'loading BPF programs needs root: run make test as root, or with passwordless sudo';
  if (!existsSync('/sys/kernel/btf/vmlinux')) {
    return 'this kernel has no BTF (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF), which every probe needs';
  }
  return undefined;
}

/** The command as root would run it: as it is, or behind sudo with our environment. */
export function withRoot(command: readonly string[]): readonly string[] {
  return isRoot() ? command : ['scripts/as-root', ...command];
}
