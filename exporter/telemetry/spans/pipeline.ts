// The way of spans out of the agent: a queue bounded by spans and bytes, batches, several exports in flight, retry with
// backoff. Nothing leaves it uncounted: accepted = exported + dropped + queued at every moment. Used by the span sink.

import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import type { PreparedBatch, SendResult, SpanTransport } from './transport.ts';

/** Why spans were lost. */
export const DROP_REASONS = [
  /** The record made no span. */
  'invalid',
  /** The queue was full, in spans or in bytes. */
  'queue_full',
  /** The receiver answered with a code that makes trying again pointless. */
  'rejected',
  /** The receiver could not be reached, or was busy, for too long. */
  'retries_exhausted',
  /** The receiver took the rest of the batch. */
  'partial_success',
  /** Came after, or was not delivered until, the end. */
  'shutdown',
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

export interface PipelineOptions {
  /** Most spans held, waiting and in flight together. */
  readonly queueSpans: number;
  /** Most bytes held by the same, by estimate. */
  readonly queueBytes: number;
  readonly batchSpans: number;
  /** Most estimated bytes in one batch (gRPC receivers take 4 MiB by default); a larger span goes alone. */
  readonly batchBytes: number;
  /** A batch leaves at the latest this long after its first span came. */
  readonly delayMillis: number;
  /** Exports in flight at once, those that wait to be tried again included. */
  readonly concurrency: number;
  /** First wait before trying again; doubles up to `retryMaxMillis`. */
  readonly retryInitialMillis: number;
  readonly retryMaxMillis: number;
  /** A batch is given up when it could not be tried again within this time after its first try. */
  readonly retryTotalMillis: number;
  /** Random number in [0, 1), for the jitter; default Math.random. */
  readonly random?: (() => number) | undefined;
  readonly log?: { warn(fields: object, message: string): void } | undefined;
  /** Told once per batch how its export ended and how long it took, all tries and waits included. */
  readonly onExport?: ((outcome: ExportOutcome, seconds: number) => void) | undefined;
}

/** `partial`: the receiver took only a part. `failure`: refused, or given up. */
export type ExportOutcome = 'success' | 'partial' | 'failure';

/** Totals since start, and what is held now. */
export interface PipelineStats {
  /** Spans handed over, those dropped at the door included. */
  readonly accepted: number;
  /** Spans that the receiver acknowledged. */
  readonly exported: number;
  readonly dropped: Readonly<Record<DropReason, number>>;
  /** Spans held: waiting for a batch, in flight, or waiting to be tried again. */
  readonly queued: number;
  /** Estimated bytes of the same. */
  readonly queuedBytes: number;
  /** Batches in flight or waiting to be tried again. */
  readonly inFlight: number;
  /** Tries after the first, in batches. */
  readonly retries: number;
  /** Serialised bytes of acknowledged batches. */
  readonly sentBytes: number;
}

export interface SpanPipeline {
  /** Takes a span and its estimated bytes. False when it was dropped (and counted). Never throws. */
  enqueue(span: ReadableSpan, bytes: number): boolean;
  /** Counts a span that could not even be made. */
  discard(reason: DropReason): void;
  stats(): PipelineStats;
  /** Resolves when all spans held at this moment are exported or dropped. */
  flush(): Promise<void>;
  /** Takes no more spans, sends what it holds, drops what is left after `deadlineMillis`, closes the transport. */
  shutdown(deadlineMillis: number): Promise<void>;
}

/** Minimum time between two log lines about failures. */
const LOG_EVERY_MILLIS = 30_000;

interface Held {
  readonly span: ReadableSpan;
  readonly bytes: number;
}

interface Batch {
  /** Sequence number of its first span. */
  readonly first: number;
  readonly spans: number;
  readonly bytes: number;
  readonly prepared: PreparedBatch;
  settled: boolean;
  readonly firstTryMillis: number;
  tries: number;
  timer: NodeJS.Timeout | undefined;
}

class Pipeline implements SpanPipeline {
  readonly #options: PipelineOptions;
  readonly #transport: SpanTransport;
  readonly #waiting: Held[] = [];
  /** Index of the oldest waiting span; the array is cut when half of it is behind. */
  #head = 0;
  #waitingBytes = 0;
  readonly #batches = new Set<Batch>();
  #flushWaiters: { until: number; resolve: () => void }[] = [];
  #delay: NodeJS.Timeout | undefined;
  #dispatchScheduled = false;
  /** Waiting spans up to this many leave in partial batches. */
  #flushing = 0;
  #closing: Promise<void> | undefined;
  #loggedMillis = Number.NEGATIVE_INFINITY;
  #unlogged = 0;

  #accepted = 0;
  #exported = 0;
  /** Spans that ever entered the queue: the sequence number of the next one. */
  #entered = 0;
  #queued = 0;
  #queuedBytes = 0;
  #retries = 0;
  #sentBytes = 0;
  readonly #dropped: Record<DropReason, number> = {
    invalid: 0,
    queue_full: 0,
    rejected: 0,
    retries_exhausted: 0,
    partial_success: 0,
    shutdown: 0,
  };

  constructor(transport: SpanTransport, options: PipelineOptions) {
    this.#transport = transport;
    this.#options = options;
  }

  enqueue(span: ReadableSpan, bytes: number): boolean {
    this.#accepted++;
    const reason = this.#refusal(bytes);
    if (reason !== undefined) {
      this.#dropped[reason]++;
      if (reason === 'queue_full') this.#warn(reason, 1, 'the queue is full');
      return false;
    }
    this.#waiting.push({ span, bytes });
    this.#waitingBytes += bytes;
    this.#entered++;
    this.#queued++;
    this.#queuedBytes += bytes;
    if (this.#fullBatchWaits()) this.#scheduleDispatch();
    else this.#startDelay();
    return true;
  }

  discard(reason: DropReason): void {
    this.#accepted++;
    this.#dropped[reason]++;
  }

  stats(): PipelineStats {
    return {
      accepted: this.#accepted,
      exported: this.#exported,
      dropped: { ...this.#dropped },
      queued: this.#queued,
      queuedBytes: this.#queuedBytes,
      inFlight: this.#batches.size,
      retries: this.#retries,
      sentBytes: this.#sentBytes,
    };
  }

  flush(): Promise<void> {
    if (this.#queued === 0) return Promise.resolve();
    this.#flushing = this.#waitingSpans();
    this.#scheduleDispatch();
    return new Promise((resolve) => {
      this.#flushWaiters.push({ until: this.#entered, resolve });
    });
  }

  shutdown(deadlineMillis: number): Promise<void> {
    this.#closing ??= this.#close(deadlineMillis);
    return this.#closing;
  }

  async #close(deadlineMillis: number): Promise<void> {
    const flushed = this.flush();
    for (const batch of this.#batches) this.#tryNow(batch);
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, deadlineMillis);
    });
    await Promise.race([flushed, deadline]);
    clearTimeout(timer);
    clearTimeout(this.#delay);
    this.#abandon();
    this.#transport.close();
  }

  #abandon(): void {
    const left = this.#queued;
    for (const batch of this.#batches) this.#settle(batch, { shutdown: batch.spans });
    const waiting = this.#waitingSpans();
    this.#waiting.length = 0;
    this.#head = 0;
    this.#queuedBytes -= this.#waitingBytes;
    this.#waitingBytes = 0;
    this.#queued -= waiting;
    this.#dropped.shutdown += waiting;
    if (left > 0)
      this.#options.log?.warn({ spans: left }, 'spans dropped at shutdown: the receiver took too long');
    this.#wakeFlushed();
  }

  #refusal(bytes: number): DropReason | undefined {
    if (this.#closing !== undefined) return 'shutdown';
    const { queueSpans, queueBytes } = this.#options;
    return this.#queued >= queueSpans || this.#queuedBytes + bytes > queueBytes ? 'queue_full' : undefined;
  }

  #waitingSpans(): number {
    return this.#waiting.length - this.#head;
  }

  #fullBatchWaits(): boolean {
    return this.#waitingSpans() >= this.#options.batchSpans || this.#waitingBytes >= this.#options.batchBytes;
  }

  #startDelay(): void {
    if (this.#delay !== undefined) return;
    this.#delay = setTimeout(() => {
      this.#delay = undefined;
      this.#flushing = this.#waitingSpans();
      this.#scheduleDispatch();
    }, this.#options.delayMillis);
    this.#delay.unref();
  }

  /** One batch per turn of the event loop: serialising a batch takes milliseconds. */
  #scheduleDispatch(): void {
    if (this.#dispatchScheduled) return;
    this.#dispatchScheduled = true;
    setImmediate(() => {
      this.#dispatchScheduled = false;
      this.#dispatchDue();
    });
  }

  #dispatchDue(): void {
    const due = this.#flushing > 0 || this.#fullBatchWaits();
    if (!due || this.#waitingSpans() === 0 || this.#batches.size >= this.#options.concurrency) return;
    const taken = this.#take();
    this.#flushing = Math.max(0, this.#flushing - taken.length);
    this.#dispatch(taken);
    if (this.#waitingSpans() === 0) {
      clearTimeout(this.#delay);
      this.#delay = undefined;
    } else if (this.#flushing > 0 || this.#fullBatchWaits()) this.#scheduleDispatch();
    else this.#startDelay();
  }

  #take(): Held[] {
    const taken: Held[] = [];
    let bytes = 0;
    for (let at = this.#head; at < this.#waiting.length && taken.length < this.#options.batchSpans; at++) {
      const held = this.#waiting[at];
      if (held === undefined || (taken.length > 0 && bytes + held.bytes > this.#options.batchBytes)) break;
      taken.push(held);
      bytes += held.bytes;
    }
    // The slots behind the head must not keep their spans alive.
    this.#waiting.fill(undefined as unknown as Held, this.#head, this.#head + taken.length);
    this.#head += taken.length;
    this.#waitingBytes -= bytes;
    if (this.#head * 2 >= this.#waiting.length) {
      this.#waiting.splice(0, this.#head);
      this.#head = 0;
    }
    return taken;
  }

  #dispatch(taken: Held[]): void {
    const bytes = taken.reduce((sum, held) => sum + held.bytes, 0);
    let prepared: PreparedBatch;
    try {
      prepared = this.#transport.prepare(taken.map((held) => held.span));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      prepared = { bytes: 0, send: async () => ({ outcome: 'refused', message }) };
    }
    const batch: Batch = {
      first: this.#entered - this.#waitingSpans() - taken.length,
      spans: taken.length,
      bytes,
      prepared,
      settled: false,
      firstTryMillis: performance.now(),
      tries: 0,
      timer: undefined,
    };
    this.#batches.add(batch);
    this.#try(batch);
  }

  #try(batch: Batch): void {
    if (batch.tries++ > 0) this.#retries++;
    batch.prepared.send().then(
      (result) => this.#onResult(batch, result),
      // Transports answer failures as values; a rejection is a bug in one, and must not lose the batch uncounted.
      (error) => this.#onResult(batch, { outcome: 'refused', message: String(error) }),
    );
  }

  #tryNow(batch: Batch): void {
    if (batch.timer === undefined) return;
    clearTimeout(batch.timer);
    batch.timer = undefined;
    this.#try(batch);
  }

  #onResult(batch: Batch, result: SendResult): void {
    if (batch.settled) return;
    if (result.outcome === 'delivered') {
      const rejected = Math.min(result.rejected, batch.spans);
      this.#sentBytes += batch.prepared.bytes;
      if (rejected > 0 || result.message !== '') this.#warn('partial_success', rejected, result.message);
      this.#settle(batch, { partial_success: rejected });
    } else if (result.outcome === 'refused') {
      this.#warn('rejected', batch.spans, result.message);
      this.#settle(batch, { rejected: batch.spans });
    } else {
      const wait = this.#backoffMillis(batch, result.retryAfterMillis);
      const elapsed = performance.now() - batch.firstTryMillis;
      if (elapsed + wait > this.#options.retryTotalMillis) {
        this.#warn('retries_exhausted', batch.spans, result.message);
        this.#settle(batch, { retries_exhausted: batch.spans });
      } else
        batch.timer = setTimeout(() => {
          batch.timer = undefined;
          this.#try(batch);
        }, wait);
    }
  }

  /** Doubling wait with jitter over its upper half; at least what the receiver asked for. */
  #backoffMillis(batch: Batch, retryAfterMillis = 0): number {
    const { retryInitialMillis, retryMaxMillis, random = Math.random } = this.#options;
    const full = Math.min(retryInitialMillis * 2 ** Math.min(batch.tries - 1, 30), retryMaxMillis);
    const spread = full / 2;
    return retryAfterMillis > 0
      ? retryAfterMillis + random() * Math.min(spread, retryAfterMillis)
      : spread + random() * spread;
  }

  /** Books a batch: what `lost` does not name was exported. */
  #settle(batch: Batch, lost: Partial<Record<DropReason, number>>): void {
    batch.settled = true;
    clearTimeout(batch.timer);
    batch.timer = undefined;
    this.#batches.delete(batch);
    let dropped = 0;
    for (const reason of DROP_REASONS) {
      dropped += lost[reason] ?? 0;
      this.#dropped[reason] += lost[reason] ?? 0;
    }
    this.#exported += batch.spans - dropped;
    const outcome = dropped === 0 ? 'success' : (lost.partial_success ?? 0) > 0 ? 'partial' : 'failure';
    this.#options.onExport?.(outcome, (performance.now() - batch.firstTryMillis) / 1000);
    this.#queued -= batch.spans;
    this.#queuedBytes -= batch.bytes;
    this.#wakeFlushed();
    this.#scheduleDispatch();
  }

  /** Sequence number of the oldest span held. */
  #oldest(): number {
    let oldest = this.#entered - this.#waitingSpans();
    for (const batch of this.#batches) oldest = Math.min(oldest, batch.first);
    return oldest;
  }

  #wakeFlushed(): void {
    if (this.#flushWaiters.length === 0) return;
    const oldest = this.#oldest();
    for (const waiter of this.#flushWaiters) if (waiter.until <= oldest) waiter.resolve();
    this.#flushWaiters = this.#flushWaiters.filter((waiter) => waiter.until > oldest);
  }

  #warn(reason: DropReason, spans: number, message: string): void {
    this.#unlogged += spans;
    const now = performance.now();
    if (now - this.#loggedMillis < LOG_EVERY_MILLIS) return;
    this.#options.log?.warn(
      { reason, spans: this.#unlogged, error: message },
      'spans dropped on their way out',
    );
    this.#loggedMillis = now;
    this.#unlogged = 0;
  }
}

/** A pipeline over `transport`, which it closes at shutdown. */
export function createSpanPipeline(transport: SpanTransport, options: PipelineOptions): SpanPipeline {
  return new Pipeline(transport, options);
}
