// Where probes hand sampled requests to: makes the span, queues it for export, shows it to the live view's readers.
// Built by the agent's start from the configuration section `otlp.traces`.

import type { SpanFeed } from './feed.ts';
import { createOtlpTransport, type HeaderSource, type OtlpTransportOptions } from './otlp_transport.ts';
import {
  createSpanPipeline,
  type PipelineOptions,
  type PipelineStats,
  type SpanPipeline,
} from './pipeline.ts';
import type { ResourceOptions } from './resource_cache.ts';
import { createSynthesiser, type Synthesiser } from './synthesiser.ts';
import type { SpanIdentity, SpanRecord, SpanSink } from './types.ts';

/** The section `otlp.traces` of the configuration, with headers resolved or to be resolved for every export. */
export interface TraceExportSettings {
  readonly endpoint: string;
  readonly insecure: boolean;
  readonly headers: HeaderSource;
  readonly timeout_seconds: number;
  readonly queue_spans: number;
  readonly batch_spans: number;
  readonly delay_millis: number;
  readonly concurrency: number;
  readonly retry_seconds: number;
}

/** Pipeline options from the configuration; a queued span holds about 2.5 KB. */
export function pipelineOptions(settings: TraceExportSettings): PipelineOptions {
  return {
    queueSpans: settings.queue_spans,
    queueBytes: settings.queue_spans * 4096,
    batchSpans: Math.min(settings.batch_spans, settings.queue_spans),
    batchBytes: 3 * 1024 * 1024,
    delayMillis: settings.delay_millis,
    concurrency: settings.concurrency,
    retryInitialMillis: 500,
    retryMaxMillis: 10_000,
    retryTotalMillis: settings.retry_seconds * 1000,
  };
}

/** Transport options from the configuration. */
export function transportOptions(settings: TraceExportSettings, agentVersion: string): OtlpTransportOptions {
  return {
    endpoint: settings.endpoint,
    insecure: settings.insecure,
    headers: settings.headers,
    timeoutMillis: settings.timeout_seconds * 1000,
    userAgent: `kubenetprobe/${agentVersion}`,
  };
}

/** A sink with what the agent needs to run and watch it. */
export interface TraceOutput extends SpanSink {
  /** Undefined when no export is configured. */
  stats(): PipelineStats | undefined;
  /** Spans made for export so far, by kind. */
  readonly created: { readonly server: number; readonly client: number };
  /** Most spans that the queue holds; 0 when no export is configured. */
  readonly capacity: number;
  flush(): Promise<void>;
  /** Delivers what it can within the deadline; the rest is counted as dropped. */
  shutdown(deadlineMillis: number): Promise<void>;
}

export interface TraceOutputOptions {
  readonly resource: ResourceOptions;
  /** Left out: nothing is exported, only the feed is served. */
  readonly settings?: TraceExportSettings | undefined;
  readonly feed?: SpanFeed | undefined;
  readonly log?: PipelineOptions['log'];
  readonly onExport?: PipelineOptions['onExport'];
}

class Output implements TraceOutput {
  readonly #synthesiser: Synthesiser;
  readonly #pipeline: SpanPipeline | undefined;
  readonly #feed: SpanFeed | undefined;
  readonly created = { server: 0, client: 0 };
  readonly capacity: number;

  constructor(synthesiser: Synthesiser, pipeline: SpanPipeline | undefined, options: TraceOutputOptions) {
    this.#synthesiser = synthesiser;
    this.#pipeline = pipeline;
    this.#feed = options.feed;
    this.capacity = options.settings?.queue_spans ?? 0;
  }

  get active(): boolean {
    return this.#pipeline !== undefined || (this.#feed?.subscribers ?? 0) > 0;
  }

  accept(record: SpanRecord): SpanIdentity | undefined {
    if (!this.active) return undefined;
    try {
      const { span, bytes } = this.#synthesiser.synthesise(record);
      if (this.#pipeline !== undefined) this.created[record.kind]++;
      const context = span.spanContext();
      const identity = { traceId: context.traceId, spanId: context.spanId };
      this.#feed?.publish(record, identity);
      return this.#pipeline?.enqueue(span, bytes) === true ? identity : undefined;
    } catch {
      // A record from hostile input that breaks an assumption costs this span, not the agent.
      this.#pipeline?.discard('invalid');
      return undefined;
    }
  }

  stats(): PipelineStats | undefined {
    return this.#pipeline?.stats();
  }

  async flush(): Promise<void> {
    await this.#pipeline?.flush();
  }

  async shutdown(deadlineMillis: number): Promise<void> {
    await this.#pipeline?.shutdown(deadlineMillis);
  }
}

/** The agent's span sink. Throws an Error that names what is wrong with the settings. */
export function createTraceOutput(options: TraceOutputOptions): TraceOutput {
  const { settings } = options;
  const pipeline =
    settings === undefined
      ? undefined
      : createSpanPipeline(createOtlpTransport(transportOptions(settings, options.resource.agentVersion)), {
          ...pipelineOptions(settings),
          log: options.log,
          onExport: options.onExport,
        });
  return new Output(createSynthesiser(options.resource), pipeline, options);
}
