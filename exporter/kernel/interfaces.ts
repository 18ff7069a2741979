// Finds network interfaces: those of the agent's own network namespace and those of all others in which a process runs.
import { statSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { type AttachedLink, type Scan, type Target, TargetGone } from './attachments.ts';
import { KernelError, type NetnsOption, networkInterfaces } from './native.ts';
import { ProcessWalk } from './process_walk.ts';

export interface NetworkInterface {
  readonly key: string;
  readonly index: number;
  readonly name: string;
  /** For attaching; undefined in the agent's own namespace. */
  readonly netns: NetnsOption | undefined;
}

export interface InterfaceOptions {
  readonly matches: (name: string) => boolean;
  /** `all`: also the namespaces of other processes, which takes CAP_SYS_ADMIN and CAP_SYS_PTRACE. */
  readonly namespaces: 'own' | 'all';
  /** How many links `attach` makes at most. */
  readonly links: number;
  readonly attach: (at: NetworkInterface) => Iterable<AttachedLink>;
  /** Processes that one scan looks at; the next goes on from there. Default 4096. */
  readonly processesPerScan?: number;
  /** Interfaces of one namespace that are looked at. Default 1024. */
  readonly perNamespace?: number;
  /** Replaced in tests. */
  readonly walk?: ProcessWalk;
}

/** Of the last complete round, or of the first one so far. */
export interface InterfaceScannerStatus {
  /** Namespaces whose interfaces were listed. */
  readonly namespaces: number;
  /** Processes or namespaces that may not be looked at. */
  readonly unreadable: number;
  /** Namespaces with more interfaces than are looked at. */
  readonly truncated: number;
}

/** Processes whose namespace is looked up in one turn of the event loop, one system call each. */
const PROCESSES_PER_TURN = 64;
const NOTHING = { namespaces: 0, unreadable: 0, truncated: 0 };
const OWN = '/proc/self/ns/net';

/** The kernel's answers when the namespace or the interface is no more, or the path leads elsewhere by now. */
const GONE = new Set(['ENOENT', 'ESRCH', 'ESTALE', 'ENODEV', 'ENXIO']);
const FORBIDDEN = new Set(['EACCES', 'EPERM']);

export class InterfaceScanner {
  readonly #options: InterfaceOptions;
  readonly #walk: ProcessWalk;
  #status = { ...NOTHING };
  #lastStatus: InterfaceScannerStatus | undefined;
  /** Inode numbers of the namespaces gone through in this round; they are given again, but not while in use. */
  #seen = new Set<bigint>();

  constructor(options: InterfaceOptions) {
    this.#options = options;
    this.#walk = options.walk ?? new ProcessWalk(options.processesPerScan ?? 4096);
  }

  status(): InterfaceScannerStatus {
    return { ...(this.#lastStatus ?? this.#status) };
  }

  readonly scan: Scan = async function* (this: InterfaceScanner): AsyncGenerator<Target, boolean> {
    if (this.#options.namespaces === 'own') {
      yield* await this.#targetsIn(undefined);
      this.#endRound();
      return true;
    }
    if (this.#seen.size === 0) yield* await this.#targetsIn(undefined);
    this.#seen.add(statSync(OWN, { bigint: true }).ino);
    const portion = await this.#walk.portion();
    let looked = 0;
    for (const pid of portion.pids) {
      if (++looked % PROCESSES_PER_TURN === 0) await turn();
      const path = `/proc/${pid}/ns/net`;
      const inode = this.#namespaceOf(path);
      if (inode === undefined || this.#seen.has(inode)) continue;
      try {
        yield* await this.#targetsIn(path);
        this.#seen.add(inode);
      } catch (error) {
        this.#cannotList(error, inode);
      }
    }
    this.#walk.passed(portion);
    if (portion.last) this.#endRound();
    return portion.last;
  }.bind(this);

  #endRound(): void {
    this.#seen = new Set();
    this.#lastStatus = this.#status;
    this.#status = { ...NOTHING };
  }

  #namespaceOf(path: string): bigint | undefined {
    try {
      return statSync(path, { bigint: true }).ino;
    } catch (error) {
      if (FORBIDDEN.has((error as NodeJS.ErrnoException).code ?? '')) this.#status.unreadable++;
      return undefined; // otherwise the process has ended
    }
  }

  /** Where the process ended meanwhile another one may lead there; where it is forbidden, no other will. */
  #cannotList(error: unknown, inode: bigint): void {
    if (!(error instanceof KernelError)) throw error;
    if (FORBIDDEN.has(error.code)) {
      this.#status.unreadable++;
      this.#seen.add(inode);
    } else if (!GONE.has(error.code)) {
      throw error;
    }
  }

  async #targetsIn(path: string | undefined): Promise<Target[]> {
    const { matches, links, attach, perNamespace = 1024 } = this.#options;
    const { cookie, interfaces, more } = await networkInterfaces(path, perNamespace);
    this.#status.namespaces++;
    if (more) this.#status.truncated++;
    const netns = path === undefined ? undefined : { path, cookie };
    return interfaces
      .filter(({ name }) => matches(name))
      .map(({ index, name }) => {
        const at = { key: `interface:${cookie}:${index}`, index, name, netns };
        const where = path === undefined ? 'the own namespace' : `the namespace of ${path}`;
        return {
          key: at.key,
          description: `${name} in ${where}`,
          links,
          attach: () => attaching(at, attach),
        };
      });
  }
}

function* attaching(
  at: NetworkInterface,
  attach: (at: NetworkInterface) => Iterable<AttachedLink>,
): Iterable<AttachedLink> {
  try {
    yield* attach(at);
  } catch (error) {
    if (error instanceof KernelError && GONE.has(error.code)) throw new TargetGone(at.name);
    throw error;
  }
}
