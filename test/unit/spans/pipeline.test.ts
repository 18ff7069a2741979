// The booking of the pipeline, against a transport that the test drives by hand.

import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  createSpanPipeline,
  type PipelineOptions,
  type PipelineStats,
  type SpanPipeline,
} from '../../../exporter/telemetry/spans/pipeline.ts';
import { createSynthesiser } from '../../../exporter/telemetry/spans/synthesiser.ts';
import type { SendResult, SpanTransport } from '../../../exporter/telemetry/spans/transport.ts';
import { record } from './records.ts';

const OPTIONS: PipelineOptions = {
  queueSpans: 100,
  queueBytes: 1_000_000,
  batchSpans: 10,
  batchBytes: 100_000,
  delayMillis: 1000,
  concurrency: 3,
  retryInitialMillis: 100,
  retryMaxMillis: 1000,
  retryTotalMillis: 10_000,
  random: () => 0.5,
};
const DELIVERED: SendResult = { outcome: 'delivered', rejected: 0, message: '' };
const BUSY: SendResult = { outcome: 'retryable', message: 'busy' };

/** Holds every try until the test answers it. */
class ManualTransport implements SpanTransport {
  readonly tries: { spans: ReadableSpan[]; answer: (result: SendResult) => void; atMillis: number }[] = [];
  closed = false;

  prepare(spans: readonly ReadableSpan[]) {
    return {
      bytes: spans.length * 100,
      send: () =>
        new Promise<SendResult>((answer) => {
          this.tries.push({ spans: [...spans], answer, atMillis: Date.now() });
        }),
    };
  }

  close(): void {
    this.closed = true;
  }
}

function balance(stats: PipelineStats): number {
  const dropped = Object.values(stats.dropped).reduce((sum, n) => sum + n, 0);
  return stats.exported + dropped + stats.queued - stats.accepted;
}

const synthesiser = createSynthesiser({ host: 'h', agentVersion: '0' });
const { span } = synthesiser.synthesise(record());

function fill(pipeline: SpanPipeline, count: number, bytes = 1000): number {
  let taken = 0;
  for (let i = 0; i < count; i++) if (pipeline.enqueue(span, bytes)) taken++;
  return taken;
}

/** Lets what is due run; the faked clock stands still. */
async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Moves the faked clock. */
async function advance(millis: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(millis);
  await settle();
}

describe('pipeline', () => {
  let transport: ManualTransport;
  let pipeline: SpanPipeline;
  const make = (changes: Partial<PipelineOptions> = {}) => {
    transport = new ManualTransport();
    pipeline = createSpanPipeline(transport, { ...OPTIONS, ...changes });
  };

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
    make();
  });
  afterEach(() => {
    expect(balance(pipeline.stats())).toBe(0);
    vi.useRealTimers();
  });

  it('sends a full batch at once and a part of one after the delay', async () => {
    fill(pipeline, 14);
    await settle();
    expect(transport.tries.map((each) => each.spans.length)).toEqual([10]);
    await advance(999);
    expect(transport.tries).toHaveLength(1);
    await advance(2);
    expect(transport.tries.map((each) => each.spans.length)).toEqual([10, 4]);
    for (const each of transport.tries) each.answer(DELIVERED);
    await settle();
    expect(pipeline.stats()).toMatchObject({
      accepted: 14,
      exported: 14,
      queued: 0,
      queuedBytes: 0,
      inFlight: 0,
      sentBytes: 1400,
    });
  });

  it('has at most `concurrency` exports in flight', async () => {
    fill(pipeline, 60);
    await settle();
    expect(transport.tries).toHaveLength(3);
    transport.tries[1]?.answer(DELIVERED);
    await settle();
    expect(transport.tries).toHaveLength(4);
    expect(pipeline.stats()).toMatchObject({ exported: 10, queued: 50, inFlight: 3 });
  });

  it('bounds what it holds by spans, in flight included', async () => {
    expect(fill(pipeline, 150)).toBe(100);
    await settle();
    expect(fill(pipeline, 1)).toBe(0);
    expect(pipeline.stats()).toMatchObject({ accepted: 151, queued: 100, dropped: { queue_full: 51 } });
    transport.tries[0]?.answer(DELIVERED);
    await settle();
    expect(fill(pipeline, 20)).toBe(10);
  });

  it('bounds what it holds by bytes, and batches too', async () => {
    expect(fill(pipeline, 100, 45_000)).toBe(22);
    await settle();
    expect(pipeline.stats()).toMatchObject({ queuedBytes: 990_000, dropped: { queue_full: 78 } });
    expect(transport.tries.map((each) => each.spans.length)).toEqual([2, 2, 2]);
  });

  it('a span larger than a batch may be goes alone', async () => {
    fill(pipeline, 2, 200_000);
    await settle();
    expect(transport.tries.map((each) => each.spans.length)).toEqual([1, 1]);
  });

  it('tries again with doubling waits and gives up when the total would be passed', async () => {
    fill(pipeline, 10);
    await settle();
    const waits: number[] = [];
    for (let tries = 1; pipeline.stats().inFlight > 0; tries++) {
      transport.tries[tries - 1]?.answer(BUSY);
      const before = Date.now();
      await settle();
      while (transport.tries.length === tries && pipeline.stats().inFlight > 0) await advance(5);
      waits.push(Date.now() - before);
    }
    // Jitter is fixed at its middle: 3/4 of the full wait.
    expect(waits.slice(0, 5)).toEqual([75, 150, 300, 600, 750]);
    expect(waits.reduce((sum, wait) => sum + wait, 0)).toBeLessThanOrEqual(10_000);
    expect(pipeline.stats()).toMatchObject({
      exported: 0,
      dropped: { retries_exhausted: 10 },
      retries: waits.length - 1,
    });
  });

  it('a retried batch holds the same spans and is exported once', async () => {
    fill(pipeline, 10);
    await settle();
    transport.tries[0]?.answer(BUSY);
    await advance(100);
    expect(transport.tries[1]?.spans).toEqual(transport.tries[0]?.spans);
    transport.tries[1]?.answer(DELIVERED);
    transport.tries[0]?.answer(DELIVERED);
    await settle();
    expect(pipeline.stats()).toMatchObject({ exported: 10, retries: 1, queued: 0 });
  });

  it('waits at least as long as the receiver asks', async () => {
    fill(pipeline, 10);
    await settle();
    transport.tries[0]?.answer({ ...BUSY, retryAfterMillis: 3000 });
    await advance(2999);
    expect(transport.tries).toHaveLength(1);
    await advance(52);
    expect(transport.tries).toHaveLength(2);
  });

  it('does not wait for a receiver that asks for more time than there is', async () => {
    fill(pipeline, 10);
    await settle();
    transport.tries[0]?.answer({ ...BUSY, retryAfterMillis: 86_400_000 });
    await settle();
    expect(pipeline.stats()).toMatchObject({ queued: 0, dropped: { retries_exhausted: 10 } });
  });

  it('one batch that waits for its next try does not stop the others', async () => {
    fill(pipeline, 50);
    await settle();
    transport.tries[0]?.answer({ ...BUSY, retryAfterMillis: 5000 });
    for (let at = 1; at < 5; at++) {
      await settle();
      transport.tries[at]?.answer(DELIVERED);
    }
    await settle();
    expect(pipeline.stats()).toMatchObject({ exported: 40, queued: 10, inFlight: 1 });
  });

  it.each([
    [3, 3],
    [10, 10],
    [1_000_000, 10],
  ])('partial success that refuses %i of 10 drops %i', async (rejected, dropped) => {
    fill(pipeline, 10);
    await settle();
    transport.tries[0]?.answer({ outcome: 'delivered', rejected, message: 'no' });
    await settle();
    expect(pipeline.stats()).toMatchObject({ exported: 10 - dropped, dropped: { partial_success: dropped } });
  });

  it('refused batches are dropped at once', async () => {
    fill(pipeline, 10);
    await settle();
    transport.tries[0]?.answer({ outcome: 'refused', message: 'UNAUTHENTICATED' });
    await settle();
    expect(pipeline.stats()).toMatchObject({ queued: 0, dropped: { rejected: 10 }, retries: 0 });
  });

  it('a batch that cannot be serialised and a transport that breaks its word are counted', async () => {
    transport.prepare = () => {
      throw new Error('cannot');
    };
    fill(pipeline, 10);
    await settle();
    transport.prepare = () => ({ bytes: 1, send: () => Promise.reject(new Error('bug')) });
    fill(pipeline, 10);
    await settle();
    expect(pipeline.stats()).toMatchObject({ queued: 0, dropped: { rejected: 20 } });
  });

  it('flush waits for what is held at its call, not for what comes later', async () => {
    fill(pipeline, 15);
    let flushed = false;
    const flush = pipeline.flush().then(() => {
      flushed = true;
    });
    await settle();
    fill(pipeline, 10);
    await settle();
    expect(transport.tries.map((each) => each.spans.length)).toEqual([10, 5, 10]);
    transport.tries[2]?.answer(DELIVERED);
    transport.tries[0]?.answer(DELIVERED);
    await settle();
    expect(flushed).toBe(false);
    fill(pipeline, 10);
    transport.tries[1]?.answer(DELIVERED);
    await settle();
    await flush;
    expect(pipeline.stats().queued).toBe(10);
    transport.tries[3]?.answer(DELIVERED);
    await settle();
  });

  it('flush of an empty pipeline resolves', async () => {
    await pipeline.flush();
    expect(transport.tries).toHaveLength(0);
  });

  it('shutdown delivers what it holds, then takes nothing more', async () => {
    fill(pipeline, 25);
    const shutdown = pipeline.shutdown(5000);
    expect(fill(pipeline, 2)).toBe(0);
    await settle();
    expect(transport.tries.map((each) => each.spans.length)).toEqual([10, 10, 5]);
    for (const each of transport.tries) each.answer(DELIVERED);
    await settle();
    await shutdown;
    expect(transport.closed).toBe(true);
    expect(pipeline.stats()).toMatchObject({ exported: 25, queued: 0, dropped: { shutdown: 2 } });
    await expect(pipeline.shutdown(1)).resolves.toBeUndefined();
  });

  it('shutdown tries waiting batches once more at once, and drops the rest at its deadline', async () => {
    fill(pipeline, 55);
    await settle();
    transport.tries[0]?.answer({ ...BUSY, retryAfterMillis: 9000 });
    await settle();
    const shutdown = pipeline.shutdown(500);
    await settle();
    expect(transport.tries).toHaveLength(4);
    transport.tries[3]?.answer(DELIVERED);
    await settle();
    expect(transport.tries).toHaveLength(5);
    await advance(500);
    await shutdown;
    expect(transport.closed).toBe(true);
    expect(pipeline.stats()).toMatchObject({
      exported: 10,
      queued: 0,
      queuedBytes: 0,
      inFlight: 0,
      dropped: { shutdown: 45 },
    });
    // Answers that come after the end change nothing.
    for (const each of transport.tries) each.answer(DELIVERED);
    await settle();
    expect(pipeline.stats()).toMatchObject({ exported: 10, dropped: { shutdown: 45 } });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('logs failures at most twice a minute, with the number of spans', async () => {
    const warn = vi.fn();
    make({ log: { warn } });
    for (let i = 0; i < 5; i++) {
      fill(pipeline, 10);
      await settle();
      transport.tries[i]?.answer({ outcome: 'refused', message: 'UNAUTHENTICATED: no token' });
      await settle();
    }
    expect(warn).toHaveBeenCalledTimes(1);
    await advance(30_000);
    fill(pipeline, 10);
    await settle();
    transport.tries[5]?.answer({ outcome: 'refused', message: 'UNAUTHENTICATED: no token' });
    await settle();
    expect(warn.mock.calls.map(([fields]) => fields)).toEqual([
      { reason: 'rejected', spans: 10, error: 'UNAUTHENTICATED: no token' },
      { reason: 'rejected', spans: 50, error: 'UNAUTHENTICATED: no token' },
    ]);
  });

  it('the books balance under any mix of answers', async () => {
    make({ random: Math.random });
    let seed = 12345;
    const next = (n: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return Math.floor((seed / 2 ** 31) * n);
    };
    const open = () => transport.tries.filter((each) => each.spans.length > 0);
    for (let step = 0; step < 2000; step++) {
      fill(pipeline, next(25), 500 + next(5000));
      await advance(next(200));
      for (const each of open()) {
        const roll = next(10);
        if (roll > 6) continue;
        each.spans.length = 0;
        if (roll < 3) each.answer(DELIVERED);
        else if (roll === 3) each.answer({ outcome: 'refused', message: '' });
        else if (roll === 4) each.answer({ outcome: 'delivered', rejected: next(12), message: '' });
        else each.answer({ ...BUSY, retryAfterMillis: next(20_000) });
      }
      const stats = pipeline.stats();
      expect(balance(stats)).toBe(0);
      expect(stats.queued).toBeLessThanOrEqual(OPTIONS.queueSpans);
      expect(stats.queuedBytes).toBeLessThanOrEqual(OPTIONS.queueBytes);
    }
    const shutdown = pipeline.shutdown(100);
    await advance(200);
    await shutdown;
    const { dropped, exported, queued, queuedBytes } = pipeline.stats();
    expect({ queued, queuedBytes }).toEqual({ queued: 0, queuedBytes: 0 });
    expect(exported).toBeGreaterThan(1000);
    for (const reason of [
      'queue_full',
      'rejected',
      'retries_exhausted',
      'partial_success',
      'shutdown',
    ] as const)
      expect([reason, dropped[reason] > 0]).toEqual([reason, true]);
  });
});
