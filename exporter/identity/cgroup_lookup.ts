// Cgroup id → path, by walking the mounted hierarchy (a directory's inode number is the cgroup's id), for owners whose
// captured names do not tell enough. Called by host.ts; bounded in memory, and a walk is never repeated within a second.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

export interface CgroupLookupOptions {
  readonly mountpoint: string;
  /** Most directories looked at in one walk, and ids remembered. */
  readonly maxDirectories?: number;
  /** Shortest time between two walks. */
  readonly minIntervalMillis?: number;
  readonly now?: () => number;
}

export class CgroupLookup {
  readonly #options: Required<CgroupLookupOptions>;
  #paths = new Map<number, string>();
  /** Ids that a walk did not find. Ids are not reused, so they stay absent; dropped all at once when too many. */
  #absent = new Set<number>();
  #lastWalk = Number.NEGATIVE_INFINITY;
  /** Walks done so far. */
  walks = 0;
  /** True when the last walk stopped at its bound, so that an id may be missing although its cgroup is there. */
  truncated = false;

  constructor(options: CgroupLookupOptions) {
    this.#options = {
      maxDirectories: 16_384,
      minIntervalMillis: 1000,
      now: () => performance.now(),
      ...options,
    };
  }

  get size(): number {
    return this.#paths.size;
  }

  /** Path of the cgroup below the mountpoint (`/` for the root), or undefined when it is not (or no longer) there. */
  path(id: bigint | number): string | undefined {
    const key = Number(id);
    const known = this.#paths.get(key);
    if (known !== undefined || key === 0 || this.#absent.has(key)) return known;
    const now = this.#options.now();
    if (now - this.#lastWalk < this.#options.minIntervalMillis) return undefined;
    this.#lastWalk = now;
    this.#walk();
    const found = this.#paths.get(key);
    if (found === undefined) {
      if (this.#absent.size >= this.#options.maxDirectories) this.#absent.clear();
      this.#absent.add(key);
    }
    return found;
  }

  #walk(): void {
    const { mountpoint, maxDirectories } = this.#options;
    this.walks++;
    this.truncated = false;
    const paths = new Map<number, string>();
    const queue = ['/'];
    // By level: with very many cgroups, the upper ones (units, pods) are the useful ones.
    for (let index = 0; index < queue.length; index++) {
      const path = queue[index] as string;
      try {
        paths.set(statSync(join(mountpoint, path)).ino, path);
        for (const entry of readdirSync(join(mountpoint, path), { withFileTypes: true })) {
          if (!entry.isDirectory()) continue;
          if (queue.length >= maxDirectories) this.truncated = true;
          else queue.push(join(path, entry.name));
        }
      } catch {
        // Removed between the listing and now.
      }
    }
    this.#paths = paths;
  }
}
