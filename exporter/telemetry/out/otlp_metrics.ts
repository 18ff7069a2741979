// Sends metrics over OTLP/gRPC at an interval, with the stock exporter. Off unless the configuration asks for it;
// started and stopped by the command line. A failed export is not repeated: values are cumulative, the next one heals.
import { credentials, Metadata } from '@grpc/grpc-js';
import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-grpc';
import type {
  MetricData,
  MetricProducer,
  PushMetricExporter,
  ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import { type Log, SILENT } from '../log.ts';
import { listenToOtel } from '../otel_diag.ts';
import type { SeriesStore } from '../store.ts';

/** Most data points of one request: bounds its size (about 0.6 MB) and how long serialising holds the event loop. */
const BATCH_POINTS = 1000;
/** gRPC status DEADLINE_EXCEEDED. */
const DEADLINE_EXCEEDED = 4;

export interface OtlpMetricsOptions {
  /** `http://host:port` or `https://host:port` (TLS). */
  readonly endpoint: string;
  /** Plain text even for `https`. */
  readonly insecure?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMillis: number;
  readonly intervalMillis: number;
  readonly producer: MetricProducer;
  readonly store: SeriesStore;
  readonly log?: Log;
}

/** A running export. */
export interface OtlpMetrics {
  /** Collects and exports now; resolves when done or failed. Shares an export that is under way. */
  flush(): Promise<void>;
  /** Exports a last time, at most for `timeoutMillis`, then closes the connection. Idempotent, never rejects. */
  stop(): Promise<void>;
}

/** Starts exporting. Throws an Error that says what is wrong with the endpoint or a header. */
export function startOtlpMetrics(options: OtlpMetricsOptions): OtlpMetrics {
  return new Loop(options, createExporter(options));
}

function createExporter({
  endpoint,
  insecure,
  headers = {},
  timeoutMillis,
}: OtlpMetricsOptions): PushMetricExporter {
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol)) {
    throw new Error(`OTLP endpoint "${endpoint}" is not a URL like http://collector:4317`);
  }
  const tls = new URL(endpoint).protocol === 'https:' && insecure !== true;
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) {
    try {
      metadata.set(name, value);
    } catch {
      // The value may be a secret: only the name is said.
      throw new Error(`OTLP header "${name}" is not a valid gRPC header name and value`);
    }
  }
  return new OTLPMetricExporter({
    url: endpoint,
    metadata,
    credentials: tls ? credentials.createSsl() : credentials.createInsecure(),
    timeoutMillis,
    concurrencyLimit: 1,
  });
}

class Loop implements OtlpMetrics {
  private readonly options: OtlpMetricsOptions;
  private readonly exporter: PushMetricExporter;
  private readonly log: Log;
  private readonly timer: NodeJS.Timeout;
  private readonly unlisten: () => void;
  private running: Promise<void> | undefined;
  private stopping: Promise<void> | undefined;
  private failing = false;
  private rejected = 0;

  constructor(options: OtlpMetricsOptions, exporter: PushMetricExporter) {
    this.options = options;
    this.exporter = exporter;
    this.log = options.log ?? SILENT;
    const { store } = options;
    this.unlisten = listenToOtel(this.log, (items) => {
      this.rejected += items;
      store.counter('knp.otlp.rejected_items', { signal: 'metrics' }).add(items);
    });
    // The series exist from the start, so that the first failure is an increase.
    for (const outcome of ['success', 'failure', 'timeout', 'skipped', 'partial'] as const)
      this.count(outcome, 0);
    this.timer = setInterval(() => this.tick(), options.intervalMillis);
    this.timer.unref();
  }

  flush(): Promise<void> {
    // `run` never rejects.
    this.running ??= this.run().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  stop(): Promise<void> {
    this.stopping ??= this.finish();
    return this.stopping;
  }

  private tick(): void {
    if (this.running) this.count('skipped', 1);
    else void this.flush();
  }

  private async finish(): Promise<void> {
    clearInterval(this.timer);
    const { timeoutMillis } = this.options;
    await within(timeoutMillis, async () => {
      await this.running;
      await this.flush();
    });
    await within(timeoutMillis, () => this.exporter.shutdown());
    this.unlisten();
  }

  private async run(): Promise<void> {
    const { producer, store } = this.options;
    const began = performance.now();
    try {
      const { resourceMetrics } = await producer.collect();
      for (const batch of batches(resourceMetrics, BATCH_POINTS)) {
        const rejectedBefore = this.rejected;
        const result = await this.export(batch);
        this.note(result, this.rejected > rejectedBefore);
        // The receiver is away: the rest would only wait for the same end.
        if (result.code !== ExportResultCode.SUCCESS) break;
        await new Promise((resolve) => setImmediate(resolve));
      }
    } catch (error) {
      this.note({ code: ExportResultCode.FAILED, error: error as Error }, false);
    }
    const seconds = (performance.now() - began) / 1000;
    store.histogram('knp.otlp.export.duration', { signal: 'metrics' }).observe(seconds);
  }

  private export(batch: ResourceMetrics): Promise<ExportResult> {
    return new Promise((resolve) => this.exporter.export(batch, resolve));
  }

  private note({ code, error }: ExportResult, partial: boolean): void {
    if (code === ExportResultCode.SUCCESS) {
      this.count(partial ? 'partial' : 'success', 1);
      if (this.failing) this.log.info({}, 'OTLP metrics are delivered again');
      this.failing = false;
      return;
    }
    this.count(
      (error as { code?: unknown } | undefined)?.code === DEADLINE_EXCEEDED ? 'timeout' : 'failure',
      1,
    );
    // Once per outage.
    if (!this.failing)
      this.log.warn({ reason: error?.message.slice(0, 300) }, 'OTLP metrics could not be delivered');
    this.failing = true;
  }

  private count(outcome: 'success' | 'failure' | 'timeout' | 'skipped' | 'partial', n: number): void {
    this.options.store.counter('knp.otlp.exports', { signal: 'metrics', outcome }).add(n);
  }
}

/** Splits by data points; a metric that does not fit goes on in the next batch. */
export function* batches(
  { resource, scopeMetrics }: ResourceMetrics,
  size: number,
): Generator<ResourceMetrics> {
  for (const { scope, metrics } of scopeMetrics) {
    let batch: MetricData[] = [];
    let room = size;
    for (const metric of metrics) {
      for (let from = 0; from < metric.dataPoints.length; ) {
        const part = metric.dataPoints.slice(from, from + room);
        // The slice has the element type of the array it came from.
        batch.push({ ...metric, dataPoints: part } as MetricData);
        from += part.length;
        room -= part.length;
        if (room === 0) {
          yield { resource, scopeMetrics: [{ scope, metrics: batch }] };
          batch = [];
          room = size;
        }
      }
    }
    if (batch.length > 0) yield { resource, scopeMetrics: [{ scope, metrics: batch }] };
  }
}

/** Waits for `work`, but not longer than `millis`. Never rejects. */
async function within(millis: number, work: () => Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, millis);
  });
  try {
    await Promise.race([work(), late]);
  } catch {
    // Shutting down: whatever failed was counted where it failed.
  } finally {
    clearTimeout(timer);
  }
}
