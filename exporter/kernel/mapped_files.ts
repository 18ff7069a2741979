// Finds files that processes execute: programs and libraries, in whatever mount namespace, replaced or deleted. A file is
// known by what it is, never by its path: a path leads elsewhere after an update, and every container has its own.
import { closeSync, constants, fstatSync, openSync, readlinkSync, statfsSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { type AttachedLink, type Scan, type Target, TargetGone } from './attachments.ts';
import { fileHandle, readFiles } from './native.ts';
import { ProcessWalk } from './process_walk.ts';

export interface MappedFile {
  readonly key: string;
  /** As the kernel names it, seen from the process; another file may have this name by now. */
  readonly path: string;
  /** One of the processes that map it. */
  readonly pid: number;
}

export interface MappedFileOptions {
  /** Whether files of this path are wanted. Called for each executable mapping of each process: keep it cheap. */
  readonly matches: (path: string) => boolean;
  /** How many links `attach` makes at most. */
  readonly links: number;
  /** Attaches. @param path leads to the very file (/proc/self/fd/N) until `attach` has ended: to be opened and probed */
  readonly attach: (file: MappedFile, path: string) => Iterable<AttachedLink>;
  /** Processes that one scan looks at; the next goes on from there. Default 4096. */
  readonly processesPerScan?: number;
  /** Replaced in tests. */
  readonly read?: typeof readFiles;
  readonly walk?: ProcessWalk;
}

/** Of the last complete round, or of the first one so far. */
export interface MappedFileStatus {
  /** Processes looked at. */
  readonly processes: number;
  /** Processes whose mappings may not be read. */
  readonly unreadable: number;
  /** Processes with more mappings than are looked at. */
  readonly truncated: number;
  /** Mappings of wanted files that could not be opened, or not be shown to be what is mapped. */
  readonly unverified: number;
}

interface Mapping {
  readonly range: string;
  readonly device: string;
  readonly inode: string;
  readonly path: string;
}

/** Processes whose mappings are read and gone through in one turn of the event loop. */
const PROCESSES_PER_TURN = 32;
/** Files that are newly identified in one turn, a few system calls each. */
const FILES_PER_TURN = 32;
/** Of the mappings of one process; 100 bytes each, so 10,000 of them. */
const MAPS_BYTES = 1 << 20;
/** Files remembered from one round to the next. */
const REMEMBERED = 1 << 14;

const NOTHING = { processes: 0, unreadable: 0, truncated: 0, unverified: 0 };

/** Names the file and opens nothing: neither its permissions nor what opening a device does matter. */
const O_PATH = 0o10000000;
const OVERLAYFS = 0x794c7630;

export class MappedFileScanner {
  readonly #options: MappedFileOptions;
  readonly #walk: ProcessWalk;
  readonly #read: typeof readFiles;
  #status = { ...NOTHING };
  #lastStatus: MappedFileStatus | undefined;
  /** What /proc/PID/maps says of a file → its key, so that a library is opened once a round and not once a process. */
  #keys = new Map<string, string>();
  #keysBefore = new Map<string, string>();

  constructor(options: MappedFileOptions) {
    this.#options = options;
    this.#walk = options.walk ?? new ProcessWalk(options.processesPerScan ?? 4096);
    this.#read = options.read ?? readFiles;
  }

  status(): MappedFileStatus {
    return { ...(this.#lastStatus ?? this.#status) };
  }

  readonly scan: Scan = async function* (this: MappedFileScanner): AsyncGenerator<Target, boolean> {
    const portion = await this.#walk.portion();
    let identified = 0;
    for (let at = 0; at < portion.pids.length; at += PROCESSES_PER_TURN) {
      const pids = portion.pids.slice(at, at + PROCESSES_PER_TURN);
      for (const [pid, mappings] of await this.#mappings(pids)) {
        for (const mapping of mappings) {
          const { key, fresh } = this.#keyOf(pid, mapping);
          if (key !== undefined) yield this.#target({ key, path: mapping.path, pid }, mapping);
          if (fresh && ++identified % FILES_PER_TURN === 0) await turn();
        }
      }
    }
    this.#walk.passed(portion);
    if (portion.last) this.#endRound();
    return portion.last;
  }.bind(this);

  #endRound(): void {
    this.#keysBefore = this.#keys;
    this.#keys = new Map();
    this.#lastStatus = this.#status;
    this.#status = { ...NOTHING };
  }

  /** The wanted mappings of each process, each file once. */
  async #mappings(pids: readonly number[]): Promise<(readonly [pid: number, mappings: Mapping[]])[]> {
    const paths = pids.map((pid) => `/proc/${pid}/maps`);
    const files = await this.#read(paths, MAPS_BYTES);
    return files.map(({ code, text, more }, index) => {
      this.#status.processes++;
      if (code === 'EACCES' || code === 'EPERM') this.#status.unreadable++; // otherwise it has ended
      if (more) this.#status.truncated++;
      return [pids[index] as number, executableMappings(text, this.#options.matches)] as const;
    });
  }

  #keyOf(pid: number, mapping: Mapping): { key: string | undefined; fresh: boolean } {
    const shown = `${mapping.device} ${mapping.inode} ${mapping.path}`;
    let key = this.#keys.get(shown) ?? this.#keysBefore.get(shown);
    const fresh = key === undefined;
    if (key === undefined) {
      const opened = openMapped(pid, mapping);
      if (opened === 'gone') return { key, fresh };
      if (opened === 'unverified') this.#status.unverified++;
      else {
        closeSync(opened.fd);
        key = opened.key;
      }
    }
    if (key !== undefined && this.#keys.size < REMEMBERED) this.#keys.set(shown, key);
    return { key, fresh };
  }

  #target(file: MappedFile, mapping: Mapping): Target {
    const { attach, links } = this.#options;
    return {
      key: file.key,
      description: `${file.path} (process ${file.pid})`,
      links,
      *attach() {
        const opened = openMapped(file.pid, mapping);
        if (typeof opened === 'string' || opened.key !== file.key) {
          if (typeof opened !== 'string') closeSync(opened.fd);
          throw new TargetGone(file.path);
        }
        try {
          yield* attach(file, `/proc/self/fd/${opened.fd}`);
        } finally {
          closeSync(opened.fd);
        }
      },
    };
  }
}

/** Wanted executable mappings in the text of /proc/PID/maps, each file once. */
export function executableMappings(text: string, matches: (path: string) => boolean): Mapping[] {
  const found = new Map<string, Mapping>();
  const line = /^([0-9a-f]+-[0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(\/.*)$/gm;
  for (const [, range, device, inode, shown] of text.matchAll(line) as Iterable<string[]>) {
    const path = (shown as string).replace(/ \(deleted\)$/, '');
    const file = `${device} ${inode} ${path}`;
    if (found.has(file) || !matches(path)) continue;
    found.set(file, { range, device, inode, path } as Mapping);
  }
  return [...found.values()];
}

type Opened = { readonly fd: number; readonly key: string } | 'gone' | 'unverified';

/**
 * Opens what a process maps. /proc/PID/map_files leads to exactly that, whatever has become of its path, but takes
 * CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. Without, the path within the process's root serves if device and inode
 * number are those that it maps.
 */
function openMapped(pid: number, mapping: Mapping): Opened {
  // the names in map_files have no leading zeros
  const exact = `/proc/${pid}/map_files/${mapping.range.replace(/\b0+(?=[0-9a-f])/g, '')}`;
  let fd = tryOpen(exact);
  if (typeof fd === 'number') {
    try {
      // the process may have mapped another file there since its mappings were read
      if (readlinkSync(exact).replace(/ \(deleted\)$/, '') === mapping.path) return identified(fd, mapping);
    } catch {
      // it has unmapped it, or ended
    }
    closeSync(fd);
    return 'gone';
  }
  if (fd !== 'EPERM' && fd !== 'EACCES') return 'gone';
  fd = tryOpen(`/proc/${pid}/root${mapping.path}`);
  if (typeof fd === 'string') return 'unverified';
  const { dev, ino } = fstatSync(fd, { bigint: true });
  if (deviceNumber(mapping.device) === dev && BigInt(mapping.inode) === ino) return identified(fd, mapping);
  closeSync(fd);
  return 'unverified';
}

/**
 * The key of an open file. A uprobe sits on the inode of the file system at the bottom. Where containers share an image,
 * an overlay shows the one file under a device number per container, and attaching to each would count every call as
 * often as there are containers; the overlay's handle for it is the same in all. It may lack the file system that it is
 * of, so size and time, which lower layers never change, keep images with equal handles apart. Before Linux 6.6 there is
 * no handle, but there /proc/PID/maps still shows the numbers of the file at the bottom.
 */
function identified(fd: number, mapping: Mapping): Opened {
  const { dev, ino, size, mtimeNs } = fstatSync(fd, { bigint: true });
  if (statfsSync(`/proc/self/fd/${fd}`).type !== OVERLAYFS) return { fd, key: `file:${dev}:${ino}` };
  const handle = fileHandle(fd);
  if (handle !== undefined) return { fd, key: `file:overlay:${handle.toString('hex')}:${size}:${mtimeNs}` };
  return { fd, key: `file:${deviceNumber(mapping.device)}:${mapping.inode}` };
}

function tryOpen(path: string): number | string {
  try {
    return openSync(path, O_PATH | constants.O_NONBLOCK);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown';
  }
}

/** `MAJOR:MINOR` in hexadecimal, as /proc/PID/maps has it, to the number that stat gives. */
function deviceNumber(shown: string): bigint {
  const [major, minor] = shown.split(':').map((part) => BigInt(`0x${part}`)) as [bigint, bigint];
  const low = ((major & 0xfffn) << 8n) | (minor & 0xffn);
  return ((major & ~0xfffn) << 32n) | ((minor & ~0xffn) << 12n) | low;
}
