// What share of a load is kept when the agent watches, measured so that a machine with other work on it does not decide
// the figure: many short pairs of runs right after one another, and beside the rate the processor time that one piece
// of the load takes, which does not fall when another program has the processor. benches.ts and http.ts use it.
import { withAgent } from './agent.ts';
import { type BenchOptions, type Figure, figure, pairs, ratios } from './measure.ts';
import type { Load, StartedProcess } from './servers.ts';

/** Pairs at least, and seconds of one run at most: a longer disturbance hits both runs of a pair. */
const MIN_PAIRS = 15;
const MAX_SECONDS = 2;

export interface Measured {
  readonly start?: () => Promise<StartedProcess>;
  readonly measure: (server: StartedProcess, seconds: number) => Promise<Load>;
  /** The agent's, as YAML. */
  readonly config?: string;
}

/** A load with and without the agent. `goal`: what share of its rate is to be kept. */
export async function kept(
  options: BenchOptions,
  load: Measured,
  goal: number | undefined,
  rate: { unit: string; divisor: number },
): Promise<Figure[]> {
  const server = (await load.start?.()) ?? { port: 0, stop: async () => {} };
  const seconds = Math.min(options.seconds, MAX_SECONDS);
  const agent = load.config === undefined ? {} : { config: load.config };
  try {
    await load.measure(server, 1); // warm
    const measured = await pairs(Math.max(options.pairs, MIN_PAIRS), {
      without: () => load.measure(server, seconds),
      with: () => withAgent(() => load.measure(server, seconds), agent),
    });
    const scaled = (loads: Load[]): number[] => loads.map(({ perSecond }) => perSecond / rate.divisor);
    return [
      figure(
        'kept with the agent',
        ratios(measured, ({ perSecond }) => perSecond),
        'ratio',
        goal === undefined ? undefined : { atLeast: goal },
      ),
      figure(
        'kept by processor time',
        ratios(measured, ({ cpuSeconds }) => 1 / cpuSeconds),
        'ratio',
        goal === undefined ? undefined : { atLeast: goal },
      ),
      figure('without', scaled(measured.without), rate.unit),
      figure('with', scaled(measured.with), rate.unit),
    ];
  } finally {
    await server.stop();
  }
}
