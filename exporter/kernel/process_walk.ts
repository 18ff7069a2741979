// Goes through the processes of the host in portions, each scan continuing where the last one ended, so that a scan is
// bounded however many processes there are. Shared by the scanners of targets that are found through processes.
import { readdir } from 'node:fs/promises';

export interface Portion {
  readonly pids: readonly number[];
  /** The round ends with this portion: all processes that were there throughout it have been met. */
  readonly last: boolean;
}

export class ProcessWalk {
  readonly #list: () => Promise<readonly string[]>;
  readonly #perScan: number;
  #after = 0;

  /** @param list names in /proc; replaced in tests */
  constructor(perScan: number, list: () => Promise<readonly string[]> = () => readdir('/proc')) {
    this.#perScan = perScan;
    this.#list = list;
  }

  async portion(): Promise<Portion> {
    const names = await this.#list();
    const pids = names.filter((name) => /^\d+$/.test(name)).map(Number);
    const rest = pids.filter((pid) => pid > this.#after).sort((a, b) => a - b);
    return { pids: rest.slice(0, this.#perScan), last: rest.length <= this.#perScan };
  }

  /** A portion was gone through to its end; one that was not is given again. */
  passed({ pids, last }: Portion): void {
    this.#after = last ? 0 : (pids.at(-1) ?? 0);
  }
}
