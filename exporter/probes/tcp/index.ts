// The TCP probe: reads what the core object keeps of TCP by edge. Its programs are the core's own (bpf/core/), switched on
// where this probe is.
import type { z } from 'zod';
import type { Config } from '../../config/schema.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import type { RunningCore } from '../core.ts';
import type { Probe, ProbeContext, RunningProbe } from '../probe.ts';
import type { TCP_SETTINGS } from './settings.ts';
import { TcpSource } from './source.ts';

export const probe: Probe<typeof TCP_SETTINGS> = { start };

export interface TcpProbeOptions {
  /** Started with TCP's totals. */
  readonly core: RunningCore;
  readonly config: Pick<Config, 'detail'> & { readonly identity: Pick<Config['identity'], 'zones'> };
  readonly store: SeriesStore;
}

/** The running probe. */
export interface TcpProbe {
  readonly source: TcpSource;
  close(): void;
}

/** Connections are counted from here on. */
export function createTcpProbe({ core, config, store }: TcpProbeOptions): TcpProbe {
  const source = new TcpSource({
    core,
    store,
    labels: { detail: config.detail, zones: config.identity.zones },
  });
  return { source, close: () => source.close() };
}

function start(context: ProbeContext, { detail }: z.output<typeof TCP_SETTINGS>): RunningProbe {
  const { core, config, store } = context;
  const { source, close } = createTcpProbe({
    core,
    config: { ...config, detail: detail ?? config.detail },
    store,
  });
  return { sources: [source], objects: [], problems: () => [], lost: () => ({}), close };
}
