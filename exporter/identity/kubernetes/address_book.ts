// Who had which pod address when. Addresses are reused within a second, so the answer depends on the time that is asked
// about. Filled by cluster.ts from pods and EndpointSlices; bounded.

/** Released addresses are remembered this long: connections and their last numbers outlive their pods. */
const KEEP_MILLIS = 10 * 60_000;
/** So long a released address still names its last holder, when asked about a time after the release. */
const ENDED_MILLIS = 60_000;
const MAX_RELEASED = 20_000;

interface Tenure<Holder> {
  readonly uid: string;
  holder: Holder;
  from: number;
  certain: boolean;
  /** How many sources (the pod itself, slices) say so. */
  claims: number;
  /** When the last source withdrew. */
  to: number | undefined;
}

interface Released<Holder> {
  readonly address: string;
  readonly tenure: Tenure<Holder>;
}

export class AddressBook<Holder> {
  readonly #tenures = new Map<string, Tenure<Holder>[]>();
  /** Released tenures, oldest first. */
  #released: Released<Holder>[] = [];
  #releasedStart = 0;

  get size(): number {
    return this.#tenures.size;
  }

  /**
   * @param uid of the pod, so that several sources may speak of one holder
   * @param since when it began; -Infinity for what was there before the watch
   * @param certain the pod's own object says so, not a slice, which may lag behind
   */
  claim(address: string, uid: string, holder: Holder, since: number, certain: boolean): void {
    let list = this.#tenures.get(address);
    if (list === undefined) {
      list = [];
      this.#tenures.set(address, list);
    }
    const last = list.at(-1);
    const mine = list.findLast(
      (tenure) => tenure.uid === uid && (tenure.to === undefined || tenure === last),
    );
    if (mine === undefined) {
      const from = last === undefined ? since : Math.max(since, last.from);
      const tenure: Tenure<Holder> = { uid, holder, from, claims: 1, to: undefined, certain };
      // Of two that were there from the start, the pod's own word counts more than a slice's.
      if (last?.certain && !certain && since === Number.NEGATIVE_INFINITY) list.splice(-1, 0, tenure);
      else list.push(tenure);
      return;
    }
    mine.claims = mine.to === undefined ? mine.claims + 1 : 1;
    mine.to = undefined;
    if (!certain) return;
    mine.holder = holder;
    mine.certain = true;
    if (mine === last) return;
    list.splice(list.indexOf(mine), 1);
    mine.from = Math.max(since, last?.from ?? since);
    list.push(mine);
  }

  release(address: string, uid: string, at: number): void {
    const list = this.#tenures.get(address);
    const tenure = list?.findLast((entry) => entry.uid === uid && entry.to === undefined);
    if (tenure === undefined || --tenure.claims > 0) return;
    tenure.to = at;
    this.#released.push({ address, tenure });
    this.#prune(at);
  }

  /**
   * Who held the address at that time. `ended`: the holder has given it up by then and no other holder is known,
   * which is still the best answer for a minute (last numbers of closed connections); later there is none.
   */
  holder(
    address: string,
    at: number,
  ): { readonly holder: Holder; readonly ended: number | undefined } | undefined {
    const list = this.#tenures.get(address);
    if (list === undefined) return undefined;
    // Before the first: the first.
    let index = list.length - 1;
    while (index > 0 && (list[index] as Tenure<Holder>).from > at) index--;
    const tenure = list[index] as Tenure<Holder>;
    const { to } = tenure;
    if (to === undefined || at <= to) return { holder: tenure.holder, ended: undefined };
    return at > to + ENDED_MILLIS ? undefined : { holder: tenure.holder, ended: to };
  }

  #prune(now: number): void {
    while (this.#releasedStart < this.#released.length) {
      const entry = this.#released[this.#releasedStart] as Released<Holder>;
      const many = this.#released.length - this.#releasedStart > MAX_RELEASED;
      const { to } = entry.tenure;
      if (to !== undefined && !many && now - to < KEEP_MILLIS) break;
      this.#releasedStart++;
      if (to === undefined) continue; // Claimed again since.
      const list = this.#tenures.get(entry.address)?.filter((tenure) => tenure !== entry.tenure) ?? [];
      if (list.length === 0) this.#tenures.delete(entry.address);
      else this.#tenures.set(entry.address, list);
    }
    if (this.#releasedStart > 1024 && this.#releasedStart * 2 > this.#released.length) {
      this.#released = this.#released.slice(this.#releasedStart);
      this.#releasedStart = 0;
    }
  }
}
