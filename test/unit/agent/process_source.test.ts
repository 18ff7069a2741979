// The agent about itself: compared with what the kernel says about this process.
import { readFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { createProcessSource } from '../../../exporter/agent/process_source.ts';
import type { MetricName } from '../../../exporter/telemetry/catalogue.ts';
import { Collector } from '../../../exporter/telemetry/collector.ts';
import { createLost } from '../../../exporter/telemetry/lost.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { edge } from '../telemetry/helpers.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

function setup(seriesPerMetric = 10_000) {
  const store = new SeriesStore({ seriesPerMetric });
  const source = createProcessSource(store);
  cleanups.push(() => source.close());
  const collector = new Collector({ store, sources: [source] });
  const read = (name: MetricName) =>
    Object.fromEntries(store.family(name).points.map((point) => [point.labels, point.value]));
  return { store, collector, read };
}

/** User and system CPU seconds of this process as /proc has them (10 ms steps). */
function cpuFromProc(): [number, number] {
  const fields = readFileSync('/proc/self/stat', 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return [Number(fields[11]) / 100, Number(fields[12]) / 100];
}

test('CPU time, memory and files are what /proc says', async () => {
  const { collector, read } = setup();
  const [userBefore, systemBefore] = cpuFromProc();
  await collector.collect();
  const [userAfter, systemAfter] = cpuFromProc();
  const cpu = read('knp.agent.cpu');
  expect(cpu['mode="user"']).toBeGreaterThanOrEqual(userBefore - 0.02);
  expect(cpu['mode="user"']).toBeLessThanOrEqual(userAfter + 0.02);
  expect(cpu['mode="system"']).toBeGreaterThanOrEqual(systemBefore - 0.02);
  expect(cpu['mode="system"']).toBeLessThanOrEqual(systemAfter + 0.02);
  const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
  expect(Math.abs((read('knp.agent.memory.resident')[''] ?? 0) - rss)).toBeLessThan(rss / 4);
  expect(read('knp.agent.open_files')['']).toBeGreaterThan(3);
  const started = read('knp.agent.start_time')[''] ?? 0;
  expect(Math.abs(Date.now() / 1000 - process.uptime() - started)).toBeLessThan(1);
});

test('a held event loop shows, and only in the collection after it', async () => {
  const { collector, read } = setup();
  await new Promise((resolve) => setTimeout(resolve, 100));
  await collector.collect();
  const end = performance.now() + 2000;
  while (performance.now() < end);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await collector.collect();
  const held = read('knp.agent.event_loop.hold_max')[''];
  expect(held).toBeGreaterThan(1.9);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await collector.collect();
  expect(read('knp.agent.event_loop.hold_max')['']).not.toBe(held);
});

test('series, folds, the limit and refused values are reported', async () => {
  const { store, collector, read } = setup(10);
  for (let i = 0; i < 25; i++) store.counter('knp.tcp.sent_bytes', edge(i)).add(1);
  store.counter('knp.tcp.sent_bytes', edge(1)).add(-5);
  await collector.collect();
  await collector.collect();
  const metric = 'metric="knp_tcp_sent_bytes_total"';
  expect(read('knp.agent.series')[metric]).toBe(11);
  expect(read('knp.agent.series_folded')).toEqual({ [metric]: 15 });
  expect(read('knp.agent.series_limit')).toEqual({ '': 10 });
  expect(read('knp.agent.lost')).toEqual({ 'stage="metric_value"': 1 });
});

test('losses add up by stage, and zero makes the series exist', () => {
  const store = new SeriesStore();
  const lost = createLost(store);
  lost('ring_buffer', 0);
  lost('queue');
  lost('queue', 4);
  store.settleNow();
  expect(store.family('knp.agent.lost').points.map((p) => [p.labels, p.value])).toEqual([
    ['stage="ring_buffer"', 0],
    ['stage="queue"', 5],
  ]);
});
