// How the benches measure: alternating pairs with and without the agent within one run, medians, the range beside them.
// Absolute figures drift with whatever else the machine does; ratios within one run hold.
import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';

export type Figure = {
  /** What was measured, e.g. `throughput kept`. */
  name: string;
  median: number;
  min: number;
  max: number;
  unit: string;
  /** The values it was made of, in order. */
  values: number[];
  /** What is wanted, as a sentence, and whether the median meets it. */
  goal?: { text: string; met: boolean };
};

export type BenchResult = { bench: string; description: string; figures: Figure[] };

export type BenchOptions = {
  /** Number of pairs, or of repeated measurements; 5 at least for figures that are published. */
  pairs: number;
  /** Seconds of load in one measurement. */
  seconds: number;
};

export type Bench = {
  name: string;
  description: string;
  run: (options: BenchOptions) => Promise<Figure[]>;
};

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error('no values to take a median of');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

export function figure(
  name: string,
  values: readonly number[],
  unit: string,
  goal?: { atLeast: number } | { atMost: number },
): Figure {
  const middle = median(values);
  const result = {
    name,
    median: middle,
    min: Math.min(...values),
    max: Math.max(...values),
    unit,
    values: [...values],
  };
  if (goal === undefined) return result;
  const atLeast = 'atLeast' in goal;
  const bound = atLeast ? goal.atLeast : goal.atMost;
  return {
    ...result,
    goal: { text: `${atLeast ? '≥' : '≤'} ${bound}`, met: atLeast ? middle >= bound : middle <= bound },
  };
}

/**
 * Measures `count` pairs: the same load without and with the agent, right after one another, the order turning from
 * pair to pair. Answers both series; element i of each belongs to pair i.
 */
export async function pairs<T>(
  count: number,
  measure: { without: () => Promise<T>; with: () => Promise<T> },
): Promise<{ without: T[]; with: T[] }> {
  const without: T[] = [];
  const withAgent: T[] = [];
  for (let i = 0; i < count; i++) {
    if (i % 2 === 0) {
      without.push(await measure.without());
      withAgent.push(await measure.with());
    } else {
      withAgent.push(await measure.with());
      without.push(await measure.without());
    }
  }
  return { without, with: withAgent };
}

/** With the agent to without it, pair by pair, of what `of` takes from a measurement. */
export function ratios<T = number>(
  series: { readonly without: readonly T[]; readonly with: readonly T[] },
  of: (measured: T) => number = Number,
): number[] {
  return series.with.map((value, i) => of(value) / of(series.without[i] ?? value));
}

/** One line that says where the figures come from. */
export function machineLine(): string {
  const [cpu] = cpus();
  const memory = /MemTotal:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? '0';
  const gigabytes = Math.round(Number(memory) / 1e6);
  return `Linux ${release()}, ${cpus().length} × ${cpu?.model.trim() ?? 'unknown'}, ${gigabytes} GB, Node ${process.version}`;
}

export const sleep = (millis: number): Promise<void> => new Promise((done) => setTimeout(done, millis));
