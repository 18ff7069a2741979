// What a testbed puts on the machine (processes, network namespaces, links, cgroups, files) and how it goes away again.
// Each testbed owns a slot directory; whatever it makes is written there first, so that the next start
// can remove what a testbed that was killed could not.
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export type Leftover =
  | { kind: 'process'; pid: number; startTime: string }
  | { kind: 'netns'; name: string }
  | { kind: 'link'; name: string }
  /** `shared`: other testbeds and other software may be below it too; removed only when empty. */
  | { kind: 'cgroup'; path: string; shared: boolean };

/** One testbed's place on this machine. `number` also numbers its networks: 10.(64+number).0.0/16. */
export interface Slot {
  readonly number: number;
  /** `knp-tb-<number>`: every network namespace's name begins with it. */
  readonly name: string;
  readonly directory: string;
  /** Notes something that is about to be made. */
  note(leftover: Leftover): void;
  /** Ends and removes everything noted, newest first, then the directory. Safe to call twice. */
  release(): Promise<void>;
}

const SLOTS = 64;
const PREFIX = 'knp-tb-';

/** Field 22 of /proc/<pid>/stat: tells a process from a later one with the same pid. */
export function processStartTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function isAlive(pid: number, startTime: string): boolean {
  return processStartTime(pid) === startTime;
}

function readOwner(directory: string): { pid: number; startTime: string } | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, 'owner.json'), 'utf8'));
  } catch {
    return undefined;
  }
}

/** Slots whose owner still runs, and those of dead ones. */
export function listSlots(root = tmpdir()): { number: number; directory: string; ownerPid?: number }[] {
  return readdirSync(root)
    .filter((entry) => new RegExp(`^${PREFIX}\\d+$`).test(entry))
    .map((entry) => {
      const directory = join(root, entry);
      const owner = readOwner(directory);
      const number = Number(entry.slice(PREFIX.length));
      return owner && isAlive(owner.pid, owner.startTime)
        ? { number, directory, ownerPid: owner.pid }
        : { number, directory };
    });
}

/** Removes what testbeds left behind whose process is gone. Returns how many there were. */
export async function reap(root = tmpdir()): Promise<number> {
  let reaped = 0;
  for (const slot of listSlots(root)) {
    if (slot.ownerPid !== undefined || !claimForRemoval(slot.directory)) continue;
    await removeAll(slot.directory);
    reaped++;
  }
  return reaped;
}

/** Two tests that start at once must not both clean one slot, nor clean one that is just being taken. */
function claimForRemoval(directory: string): boolean {
  const owner = readOwner(directory);
  if (owner && isAlive(owner.pid, owner.startTime)) return false;
  const madeMillis = statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
  if (!owner && Date.now() - madeMillis < 10_000) return false;
  try {
    mkdirSync(join(directory, `reaped-${owner?.pid ?? 0}`));
    writeOwner(directory);
    return true;
  } catch {
    return false;
  }
}

function writeOwner(directory: string): void {
  const owner = { pid: process.pid, startTime: processStartTime(process.pid) };
  writeFileSync(join(directory, 'owner.json'), JSON.stringify(owner));
}

function usedNetworks(): string {
  try {
    return execFileSync('ip', ['-4', 'route', 'show', 'table', 'all'], { encoding: 'utf8' });
  } catch {
    return '';
  }
}

/** Takes a free slot; the directory's creation is the lock between processes. */
export async function takeSlot(root = tmpdir()): Promise<Slot> {
  await reap(root);
  const routes = usedNetworks();
  for (let number = 0; number < SLOTS; number++) {
    if (routes.includes(` 10.${64 + number}.`) || routes.includes(`\n10.${64 + number}.`)) continue;
    const directory = join(root, `${PREFIX}${number}`);
    try {
      mkdirSync(directory, { mode: 0o755 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw error;
    }
    writeOwner(directory);
    return {
      number,
      name: `${PREFIX}${number}`,
      directory,
      note: (leftover) => appendFileSync(join(directory, 'made.jsonl'), `${JSON.stringify(leftover)}\n`),
      release: () => removeAll(directory),
    };
  }
  throw new Error(`all ${SLOTS} testbed slots under ${root} are taken`);
}

function readLeftovers(directory: string): Leftover[] {
  try {
    const text = readFileSync(join(directory, 'made.jsonl'), 'utf8');
    return text
      .split('\n')
      .filter((line) => line.endsWith('}'))
      .map((line) => JSON.parse(line) as Leftover);
  } catch {
    return [];
  }
}

async function removeAll(directory: string): Promise<void> {
  const made = readLeftovers(directory).reverse();
  await endProcesses(made.filter((leftover) => leftover.kind === 'process'));
  for (const leftover of made) {
    if (leftover.kind === 'netns') quietly('ip', 'netns', 'del', leftover.name);
    if (leftover.kind === 'link') quietly('ip', 'link', 'del', leftover.name);
  }
  const cgroups = new Map(made.flatMap((each) => (each.kind === 'cgroup' ? [[each.path, each.shared]] : [])));
  // Deepest first: a directory's name is longer than its parent's.
  for (const [path, shared] of [...cgroups].sort(([a], [b]) => b.length - a.length)) {
    await removeCgroup(path, shared);
  }
  rmSync(directory, { recursive: true, force: true });
}

function quietly(command: string, ...args: string[]): void {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
  } catch {
    // Gone already: a namespace takes its links along.
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Ended meanwhile.
  }
}

/** Asks each process group to end, waits up to 5 s, then kills. Only processes that are still the ones noted. */
async function endProcesses(processes: { pid: number; startTime: string }[]): Promise<void> {
  const running = () => processes.filter(({ pid, startTime }) => isAlive(pid, startTime));
  for (const { pid } of running()) signal(-pid, 'SIGTERM');
  for (let waited = 0; waited < 5000 && running().length > 0; waited += 20) await sleep(20);
  while (running().length > 0) {
    for (const { pid } of running()) signal(-pid, 'SIGKILL');
    await sleep(20);
  }
}

async function removeCgroup(path: string, shared: boolean): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      rmdirSync(path);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || shared) return;
      killMembers(path);
      await sleep(20);
    }
  }
}

/** Kills what a testbed's program forked and left in its container's cgroup. */
function killMembers(path: string): void {
  const pids = readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  for (const pid of pids) signal(pid, 'SIGKILL');
}
