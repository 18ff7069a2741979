// The logic of sets of links, with links that count themselves: what is held is what is present, whatever the order in
// which targets come, fail, vanish and are closed.
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  AttachmentSet,
  type AttachmentSetOptions,
  type Target,
  TargetGone,
} from '../../../exporter/kernel/attachments.ts';

/** Places that can be attached to, and all links that were ever made. Misuse of either throws into `faults`. */
class World {
  readonly present = new Map<string, { links: number; fails: boolean; gone: boolean }>();
  readonly open = new Map<string, number>();
  readonly closing: (() => void)[] = [];
  readonly faults: string[] = [];
  readonly log: string[] = [];
  readonly dead = new Set<string>();
  /** How many links each place was to get when it was last attached to. */
  readonly ordered = new Map<string, number>();
  /** Closes end by themselves; otherwise when `finishClose` says so. */
  prompt = true;
  complete = true;
  error: Error | undefined;
  scansAtOnce = 0;
  scans = 0;
  closed = false;
  time = 0;

  add(key: string, links = 2): void {
    this.present.set(key, { links, fails: false, gone: false });
  }

  #made = (key: string, index: number) => {
    if (this.closed) this.faults.push(`attached ${key} after close`);
    this.open.set(key, (this.open.get(key) ?? 0) + 1);
    this.log.push(`+${key}.${index}`);
    let asked = false;
    return {
      attached: () => !this.dead.has(key),
      closeLater: async () => {
        if (asked) this.faults.push(`closed ${key}.${index} twice`);
        asked = true;
        if (this.prompt) await turn();
        else await new Promise<void>((resolve) => this.closing.push(resolve));
        this.open.set(key, (this.open.get(key) as number) - 1);
        this.log.push(`-${key}.${index}`);
      },
    };
  };

  target(key: string): Target {
    const world = this;
    const place = this.present.get(key) as { links: number; fails: boolean; gone: boolean };
    return {
      key,
      description: `place ${key}`,
      links: place.links,
      *attach() {
        if ((world.open.get(key) ?? 0) > 0) world.faults.push(`attached ${key} while its old links are open`);
        world.ordered.set(key, place.links);
        for (let index = 0; index < place.links; index++) {
          if (index === place.links - 1 && place.fails) throw new Error(`${key} refuses`);
          if (index === place.links - 1 && place.gone) throw new TargetGone(key);
          yield world.#made(key, index);
        }
      },
    };
  }

  async *scan(): AsyncGenerator<Target, boolean> {
    this.scans++;
    if (++this.scansAtOnce > 1) this.faults.push('two scans at once');
    try {
      for (const key of [...this.present.keys()]) {
        if (this.error) throw this.error;
        if (this.present.has(key)) yield this.target(key);
      }
      await turn();
      return this.complete;
    } finally {
      this.scansAtOnce--;
    }
  }

  set(options: Partial<AttachmentSetOptions> = {}): AttachmentSet {
    return new AttachmentSet({
      name: 'test',
      scan: () => this.scan(),
      maxTargets: 100,
      maxLinks: 1000,
      rescanMillis: 3_600_000,
      retryMillis: 1000,
      attempts: 3,
      now: () => this.time,
      ...options,
    });
  }

  /** As many rounds of scans as it takes to notice that a target is gone. */
  async rounds(set: AttachmentSet): Promise<void> {
    await set.poke();
    await set.poke();
  }

  held(): Record<string, number> {
    return Object.fromEntries([...this.open].filter(([, count]) => count > 0).sort());
  }

  /** Lets every close that waits come to its end, and those that follow. */
  async settle(set: AttachmentSet): Promise<void> {
    this.prompt = true;
    for (let idle = 0; idle < 3; ) {
      for (const resolve of this.closing.splice(0)) resolve();
      await turn();
      idle = this.closing.length + set.status().pendingCloses === 0 ? idle + 1 : 0;
    }
    await set.poke();
  }
}

describe('come and go', () => {
  test('links are where the targets are', async () => {
    const world = new World();
    const set = world.set();
    world.add('a');
    world.add('b', 1);
    await set.poke();
    expect(world.held()).toEqual({ a: 2, b: 1 });
    expect(set.status()).toMatchObject({
      name: 'test',
      targets: ['place a', 'place b'],
      links: 3,
      failed: [],
    });
    world.present.delete('a');
    world.add('c');
    await world.rounds(set);
    await world.settle(set);
    expect(world.held()).toEqual({ b: 1, c: 2 });
    expect(world.log.filter((line) => line.includes('a'))).toEqual(['+a.0', '+a.1', '-a.1', '-a.0']);
    await set.close();
    expect(world.held()).toEqual({});
    expect(set.status().counts).toMatchObject({ attached: 3, detached: 3, failures: 0 });
    expect(world.faults).toEqual([]);
  });

  test('one that returns while its links are being closed is attached to when they are closed, without a new rescan', async () => {
    const world = new World();
    const set = world.set();
    world.add('a');
    await set.poke();
    world.prompt = false;
    world.present.delete('a');
    await world.rounds(set);
    world.add('a');
    await set.poke();
    expect(set.status()).toMatchObject({ targets: [], links: 2, pendingCloses: 2 });
    for (const resolve of world.closing.splice(0)) resolve();
    for (let i = 0; i < 20; i++) await turn();
    expect(set.status()).toMatchObject({ targets: ['place a'], links: 2, pendingCloses: 0 });
    expect(world.faults).toEqual([]);
    world.prompt = true;
    await set.close();
  });

  test('what an unfinished or failed scan did not find stays; what two rounds did not find goes', async () => {
    const world = new World();
    const set = world.set();
    world.add('a');
    world.add('b');
    await set.poke();
    world.complete = false;
    world.present.delete('a');
    await set.poke();
    world.present.delete('b');
    world.add('a'); // a round of three scans: one found b, one a, one nothing
    await set.poke();
    world.complete = true;
    world.error = new Error('/proc is not readable');
    await set.poke();
    expect(set.status().lastError).toBe('/proc is not readable');
    expect(world.held()).toEqual({ a: 2, b: 2 });
    world.error = undefined;
    world.present.clear();
    await world.rounds(set);
    expect(world.held()).toEqual({ a: 2, b: 2 });
    expect(set.status()).toMatchObject({ lastError: undefined, counts: { scanErrors: 1, rescans: 6 } });
    await set.poke();
    await world.settle(set);
    expect(world.held()).toEqual({});
  });

  test('one that the kernel detached is attached to again', async () => {
    const world = new World();
    const set = world.set();
    world.add('a');
    await set.poke();
    world.dead.add('a');
    await set.poke();
    world.dead.delete('a');
    await world.settle(set);
    expect(set.status()).toMatchObject({
      targets: ['place a'],
      counts: { lost: 1, attached: 2, detached: 1 },
    });
    expect(world.log).toEqual(['+a.0', '+a.1', '-a.1', '-a.0', '+a.0', '+a.1']);
    expect(world.faults).toEqual([]);
  });
});

describe('failures', () => {
  test('all or nothing; tried again with growing waits, then given up until it vanishes', async () => {
    const world = new World();
    const set = world.set();
    world.add('a', 3);
    (world.present.get('a') as { fails: boolean }).fails = true;
    const attempts: number[] = [];
    for (let second = 0; second < 10; second++) {
      world.time = second * 1000;
      const before = set.status().counts.failures;
      await set.poke();
      await world.settle(set);
      if (set.status().counts.failures > before) attempts.push(second);
    }
    expect(attempts).toEqual([0, 1, 3]);
    expect(world.held()).toEqual({});
    const failed = [{ description: 'place a', reason: 'a refuses', attempts: 3, givenUp: true }];
    expect(set.status()).toMatchObject({ targets: [], links: 0, failed, counts: { givenUp: 1 } });
    world.present.delete('a');
    await world.rounds(set);
    expect(set.status().failed).toEqual([]);
    world.add('a', 3);
    await set.poke();
    expect(set.status().targets).toEqual(['place a']);
    expect(world.faults).toEqual([]);
  });

  test('a target that vanished while it was attached to is no failure', async () => {
    const world = new World();
    const set = world.set();
    world.add('a');
    (world.present.get('a') as { gone: boolean }).gone = true;
    await set.poke();
    await world.settle(set);
    expect(world.held()).toEqual({});
    expect(set.status()).toMatchObject({ failed: [], counts: { failures: 0, attached: 0 } });
    await set.close();
  });

  test('more links than announced are a failure', async () => {
    const world = new World();
    world.add('a', 3);
    const set = world.set({
      async *scan() {
        yield { ...world.target('a'), links: 2 };
        return true;
      },
    });
    await set.poke();
    await world.settle(set);
    expect(set.status().failed).toMatchObject([{ reason: 'more than the 2 links that it was to have' }]);
    expect(world.held()).toEqual({});
  });
});

describe('bounds', () => {
  test('of targets: the newest are refused, counted once, and attached to when there is room', async () => {
    const world = new World();
    const set = world.set({ maxTargets: 3 });
    for (const key of 'abcde') world.add(key);
    await set.poke();
    await set.poke();
    expect(Object.keys(world.held())).toEqual(['a', 'b', 'c']);
    expect(set.status()).toMatchObject({ refused: 2, counts: { refused: 2 } });
    world.present.delete('b');
    await world.rounds(set);
    await world.settle(set);
    expect(Object.keys(world.held())).toEqual(['a', 'c', 'd']);
    expect(set.status()).toMatchObject({ refused: 1, counts: { refused: 2 } });
  });

  test('of links: those being closed count, for the kernel still has them', async () => {
    const world = new World();
    const set = world.set({ maxLinks: 5 });
    for (const key of 'abc') world.add(key);
    await set.poke();
    expect(set.status()).toMatchObject({ links: 4, refused: 1 });
    world.prompt = false;
    world.present.delete('a');
    await world.rounds(set);
    await set.poke();
    expect(set.status()).toMatchObject({ links: 4, pendingCloses: 2, refused: 1 });
    await world.settle(set);
    expect(world.held()).toEqual({ b: 2, c: 2 });
  });

  test('failures do not crowd out what can be attached to, nor grow without end', async () => {
    const world = new World();
    const set = world.set({ maxTargets: 4 });
    for (let i = 0; i < 10; i++) {
      world.add(`f${i}`);
      (world.present.get(`f${i}`) as { fails: boolean }).fails = true;
    }
    await set.poke();
    expect(set.status().failed).toHaveLength(4);
    expect(set.status().refused).toBe(6);
    await set.close();
    expect(world.faults).toEqual([]);
  });
});

describe('rescans', () => {
  test('pokes during a scan become one that follows it', async () => {
    const world = new World();
    const set = world.set();
    world.add('a');
    const first = set.poke();
    const later = [set.poke(), set.poke(), set.poke()];
    world.add('b');
    await first;
    await Promise.all(later);
    expect(world.scans).toBe(2);
    expect(set.status().targets).toEqual(['place a', 'place b']);
    expect(world.faults).toEqual([]);
  });

  test('come again by themselves, and end with close', async () => {
    const world = new World();
    const set = world.set({ rescanMillis: 1 });
    await set.poke();
    while (world.scans < 5) await turn();
    await set.close();
    const { scans } = world;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(world.scans).toBe(scans);
  });

  test('one attempt to attach a turn of the event loop; sightings without one in bounded groups', async () => {
    const world = new World();
    const set = world.set({ maxTargets: 1000, maxLinks: 10_000 });
    for (let i = 0; i < 640; i++) world.add(`${i}`);
    let turns = 0;
    let counting = true;
    const count = () => {
      turns++;
      if (counting) setImmediate(count);
    };
    setImmediate(count);
    await set.poke();
    const attaching = turns;
    await set.poke();
    const seeing = turns - attaching;
    counting = false;
    expect(attaching).toBeGreaterThanOrEqual(640);
    expect(seeing).toBeGreaterThanOrEqual(10);
    expect(seeing).toBeLessThan(40);
    await set.close();
  });
});

describe('close', () => {
  test('in the middle of a scan: what is attached is detached, nothing is attached afterwards, twice is once', async () => {
    for (let turns = 0; turns < 12; turns++) {
      const world = new World();
      const set = world.set();
      for (const key of 'abcdef') world.add(key);
      const scan = set.poke();
      for (let i = 0; i < turns; i++) await turn();
      const closed = set.close();
      world.closed = true;
      expect(set.close()).toBe(closed);
      await closed;
      expect(world.held()).toEqual({});
      await set.poke();
      await scan;
      expect(world.held()).toEqual({});
      expect(set.status()).toMatchObject({ targets: [], links: 0, pendingCloses: 0 });
      expect(world.faults).toEqual([]);
    }
  });

  test('a link whose closing fails is counted and does not hold up the others', async () => {
    const set = new World().set({
      async *scan() {
        const link = { closeLater: () => Promise.reject(new Error('cannot be closed')) };
        yield { key: 'a', description: 'a', links: 1, attach: () => [link] };
        return true;
      },
    });
    await set.poke();
    await set.close();
    expect(set.status()).toMatchObject({
      links: 0,
      lastError: 'cannot be closed',
      counts: { closeErrors: 1 },
    });
  });
});

/** A generator of numbers in [0, 1) from a seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function story(seed: number): Promise<void> {
  const next = random(seed);
  const pick = (count: number) => Math.floor(next() * count);
  const world = new World();
  const maxTargets = 2 + pick(6);
  const maxLinks = 4 + pick(12);
  const set = world.set({ maxTargets, maxLinks, attempts: 1 + pick(3) });
  const key = () => `${pick(10)}`;
  for (let step = 0; step < 120; step++) {
    const place = world.present.get(key());
    switch (pick(10)) {
      case 0:
      case 1:
        world.add(key(), 1 + pick(3));
        break;
      case 2:
      case 3:
        world.present.delete(key());
        break;
      case 4:
        if (place) place.fails = !place.fails;
        break;
      case 5:
        if (place) place.gone = !place.gone;
        break;
      case 6:
        void set.poke();
        break;
      case 7:
        world.prompt = !world.prompt;
        for (const resolve of world.closing.splice(pick(3))) resolve();
        break;
      case 8:
        world.complete = !world.complete;
        world.error = pick(4) === 0 ? new Error('scan') : undefined;
        world.time += pick(4000);
        break;
      default:
        for (let turns = pick(4); turns > 0; turns--) await turn();
    }
    const open = [...world.open.values()].reduce((a, b) => a + b, 0);
    // a target that fails half-way is taken back, so what is open may be on its way out but is never beyond the bound
    if (open > maxLinks) world.faults.push(`${open} links beyond ${maxLinks}`);
    if (set.status().targets.length > maxTargets) world.faults.push('targets beyond the bound');
    if (set.status().links < open) world.faults.push(`${open} links open, ${set.status().links} in status`);
  }
  if (pick(3) > 0) {
    world.complete = true;
    world.error = undefined;
    for (const place of world.present.values()) Object.assign(place, { fails: false, gone: false });
    world.time += 1e9;
    for (let i = 0; i < 6; i++) await world.settle(set);
    const status = set.status();
    const givenUp = status.failed.length;
    const attachedTo = status.targets.length;
    const names = status.targets.map((description) => description.replace('place ', '')).sort();
    expect(names.every((name) => world.present.has(name))).toBe(true);
    expect(world.held()).toEqual(Object.fromEntries(names.map((name) => [name, world.ordered.get(name)])));
    expect(status.links).toBe(Object.values(world.held()).reduce((a, b) => a + b, 0));
    // everything present is attached to, given up, or refused, and refused only for want of room
    expect(attachedTo + givenUp + status.refused).toBe(world.present.size);
    const full = attachedTo >= maxTargets || givenUp >= maxTargets || status.links + 3 > maxLinks;
    if (status.refused > 0) expect(full).toBe(true);
    expect(status.pendingCloses).toBe(0);
  }
  const closed = set.close();
  world.closed = true;
  world.prompt = true;
  for (const resolve of world.closing.splice(0)) resolve();
  await closed;
  await set.poke();
  expect(world.held()).toEqual({});
  expect(set.status()).toMatchObject({ targets: [], links: 0, pendingCloses: 0, failed: [] });
  const { attached, detached } = set.status().counts;
  expect(detached).toBe(attached);
  expect(world.faults).toEqual([]);
}

test('500 random stories: held is what is present, nothing leaks, nothing is attached twice or after close', async () => {
  for (let seed = 1; seed <= 500; seed++) {
    await story(seed).catch((error) => {
      throw new Error(`seed ${seed}: ${error.message}`);
    });
  }
});
