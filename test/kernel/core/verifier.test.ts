// What the verifier looks at of each program, on the kernel that runs: it gives up at a million instructions, and the next
// kernel looks at more of the same program than this one.
import { expect, test } from 'vitest';
import { ProbeSet } from '../../../exporter/agent/probe_set.ts';
import { defaultConfig } from '../../../exporter/config/schema.ts';
import { createHostIdentity } from '../../../exporter/identity/host.ts';
import { BpfLoader, type LoadedProbe } from '../../../exporter/kernel/loader.ts';
import { startCore } from '../../../exporter/probes/core.ts';
import { PROBES } from '../../../exporter/probes/definitions.ts';
import { SILENT } from '../../../exporter/telemetry/log.ts';
import type { SpanSink } from '../../../exporter/telemetry/spans/types.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';

/** A fifth of what the verifier allows (BPF_COMPLEXITY_LIMIT_INSNS). */
const MOST = 200_000;

/** Spans are wanted, so that their code is not cut out. */
const SPANS: SpanSink = { active: true, accept: () => undefined };

/** What was looked at of each program that is loaded, by object and name; known since Linux 5.16 (aba64c7da983). */
function looked(objects: readonly LoadedProbe[]): [program: string, instructions: number][] {
  return objects.flatMap(({ name, object }) =>
    object.programs.flatMap(({ name: program, autoload }) =>
      autoload
        ? [[`${name} ${program}`, object.program(program).info().verifiedInstructions] as [string, number]]
        : [],
    ),
  );
}

test.each(['fentry', 'tracepoint', 'kprobe'] as const)(
  'no program takes more than a fifth of what the verifier allows; payload by %s',
  async (provider) => {
    const config = defaultConfig();
    const set = new ProbeSet({ ...config.probes, http: { ...config.probes.http, provider } });
    const loader = new BpfLoader();
    const identity = createHostIdentity({});
    const context = { loader, identity, store: new SeriesStore({}), spans: SPANS, log: SILENT, config };
    try {
      await set.start(context as never, (features) => startCore({ loader, config, identity, features }));
      const states = set.status().map(({ name, state }) => [name, state]);
      const http = set.status().find(({ name }) => name === 'http');
      if (http?.state === 'failed') {
        // This kernel lacks what the provider needs. That it refused a program is told in other words.
        expect(http.reason).toMatch(
          /^Probe stream cannot run on this kernel: nothing is left for its payload/,
        );
        expect(http.reason).not.toMatch(/verifier|processed \d+|insns/i);
        return;
      }
      expect(states).toEqual(expect.arrayContaining(PROBES.map(({ name }) => [name, 'attached'])));
      const programs = looked(loader.probes);
      const largest = programs.toSorted(([, a], [, b]) => b - a).slice(0, 5);
      console.log(largest.map(([program, count]) => `${program} ${count}`).join(', '));
      expect(programs.length).toBeGreaterThan(20);
      expect(Math.min(...programs.map(([, count]) => count))).toBeGreaterThan(0);
      expect(programs.filter(([, count]) => count > MOST)).toEqual([]);
    } finally {
      await set.close();
      loader.close();
    }
  },
  120_000,
);
