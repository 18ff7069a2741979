// `top` without an agent: measures in this process and reads its own exposition. Loaded only when needed.

import { startMeasurement } from '../agent/measurement.ts';
import type { Config } from '../config/schema.ts';
import { SILENT } from '../telemetry/log.ts';
import { writeExposition } from '../telemetry/out/prometheus.ts';
import { asCliError, CliError } from './exit.ts';
import { type EdgeSource, readingOf } from './reading.ts';

/** Loads the probes; they are detached by close. */
export async function measure(config: Config): Promise<EdgeSource> {
  const measurement = await startMeasurement(config, SILENT).catch((error: unknown) => {
    throw asCliError(error);
  });
  return {
    name: 'this process (no agent runs)',
    async read() {
      const { families, failures } = await measurement.collector.collect();
      for (const [source, reason] of failures) throw new CliError(`${source} cannot be read: ${reason}`);
      return readingOf([...writeExposition(families, 'text')].join(''), performance.now());
    },
    close: () => measurement.close(),
  };
}
