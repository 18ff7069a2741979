// What the span output says about itself, as metrics: created, exported, dropped by reason, queued. Added to the
// collector by the agent's start.

import type { Source } from '../collector.ts';
import type { SeriesStore } from '../store.ts';
import { DROP_REASONS, type ExportOutcome } from './pipeline.ts';
import type { TraceOutput } from './sink.ts';

const SIGNAL = { signal: 'traces' } as const;

/** Observes exports for `knp.otlp.exports` and `knp.otlp.export.duration`; pass it to `createTraceOutput`. */
export function exportObserver(store: SeriesStore): (outcome: ExportOutcome, seconds: number) => void {
  return (outcome, seconds) => {
    store.counter('knp.otlp.exports', { ...SIGNAL, outcome }).add(1);
    store.histogram('knp.otlp.export.duration', SIGNAL).observe(seconds);
  };
}

/** Copies the output's totals into the store at every collection. */
export function createSpanSource(output: TraceOutput, store: SeriesStore): Source {
  const seen = new Map<string, number>();
  const grown = (key: string, total: number) => {
    const difference = total - (seen.get(key) ?? 0);
    seen.set(key, total);
    return difference;
  };
  return {
    name: 'spans',
    collect() {
      for (const kind of ['server', 'client'] as const)
        store.counter('knp.spans.created', { kind }).add(grown(`created ${kind}`, output.created[kind]));
      const stats = output.stats();
      if (stats === undefined) return;
      store.counter('knp.spans.exported', {}).add(grown('exported', stats.exported));
      store.gauge('knp.spans.queued', {}).set(stats.queued);
      store.gauge('knp.spans.queue_capacity', {}).set(output.capacity);
      store.counter('knp.otlp.retries', SIGNAL).add(grown('retries', stats.retries));
      for (const reason of DROP_REASONS) {
        const lost = grown(reason, stats.dropped[reason]);
        store.counter('knp.spans.dropped', { reason }).add(lost);
        store.counter('knp.agent.lost', { stage: `spans_${reason}` }).add(lost);
        if (reason === 'partial_success') store.counter('knp.otlp.rejected_items', SIGNAL).add(lost);
      }
    },
  };
}
