// The agent's process and its series as a source: CPU, memory, event loop, how many series there are and how many
// folded. Added to the collector by agent.ts.
import { readdirSync } from 'node:fs';
import type { Source } from '../telemetry/collector.ts';
import { createLost } from '../telemetry/lost.ts';
import type { Counter, SeriesStore } from '../telemetry/store.ts';
import { EventLoopWatch } from './event_loop.ts';

/** A source that holds a timer until it is closed. */
export interface ProcessSource extends Source {
  close(): void;
}

/** Makes the source; it counts CPU time from the start of the process. */
export function createProcessSource(store: SeriesStore): ProcessSource {
  const loop = new EventLoopWatch();
  const lost = createLost(store);
  const user = growth(store.counter('knp.agent.cpu', { mode: 'user' }));
  const system = growth(store.counter('knp.agent.cpu', { mode: 'system' }));
  const resident = store.gauge('knp.agent.memory.resident', {});
  const heap = store.gauge('knp.agent.memory.heap', {});
  const files = store.gauge('knp.agent.open_files', {});
  const holdMax = store.gauge('knp.agent.event_loop.hold_max', {});
  const holdP99 = store.gauge('knp.agent.event_loop.hold_p99', {});
  store.gauge('knp.agent.start_time', {}).set((Date.now() - process.uptime() * 1000) / 1000);
  store.gauge('knp.agent.series_limit', {}).set(store.limits.seriesPerMetric);
  let refusedSeen = 0;

  function collectProcess(): void {
    const cpu = process.cpuUsage();
    user(cpu.user / 1e6);
    system(cpu.system / 1e6);
    const memory = process.memoryUsage();
    resident.set(memory.rss);
    heap.set(memory.heapUsed);
    // The listing itself is one of them.
    files.set(readdirSync('/proc/self/fd').length - 1);
    const { max, p99 } = loop.take();
    holdMax.set(max);
    holdP99.set(p99);
  }

  function collectSeries(): void {
    let refused = 0;
    for (const family of store.families()) {
      refused += family.refused;
      const { points, foldedCount, prometheusName: metric } = family;
      if (points.length > 0) store.gauge('knp.agent.series', { metric }).set(points.length);
      // Zero only for what has folded before: most metrics never do.
      if (foldedCount > 0 || family.everFolded)
        store.gauge('knp.agent.series_folded', { metric }).set(foldedCount);
    }
    lost('metric_value', refused - refusedSeen);
    refusedSeen = refused;
  }

  return {
    name: 'process',
    collect() {
      collectProcess();
      collectSeries();
    },
    close: () => loop.close(),
  };
}

/** Adds to a counter what a cumulative number grew by. */
function growth(counter: Counter): (total: number) => void {
  let seen = 0;
  return (total) => {
    if (total > seen) counter.add(total - seen);
    seen = Math.max(seen, total);
  };
}
