// The agent's spans: export over OTLP when configured, and the live view. What they need (gRPC, protobuf) costs tens of
// megabytes, so it is imported only when spans are exported or watched live. Made by agent.ts.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { hostname } from 'node:os';
import { resolveHeaders } from '../config/headers.ts';
import type { Config } from '../config/schema.ts';
import type { Collector } from '../telemetry/collector.ts';
import type { Log } from '../telemetry/log.ts';
import type { SpanFeed } from '../telemetry/spans/feed.ts';
import type { TraceOutput } from '../telemetry/spans/sink.ts';
import type { SpanIdentity, SpanRecord, SpanSink } from '../telemetry/spans/types.ts';
import { version } from './version.ts';

export class AgentSpans implements SpanSink {
  readonly #config: Config;
  readonly #collector: Collector;
  readonly #log: Log;
  #output: TraceOutput | undefined;
  #feed: SpanFeed | undefined;
  #opening: Promise<void> | undefined;
  #closed = false;

  constructor(config: Config, collector: Collector, log: Log) {
    this.#config = config;
    this.#collector = collector;
    this.#log = log;
  }

  /** Opens the export, if one is configured. Rejects with what is wrong with its settings. */
  async start(): Promise<void> {
    if (this.#config.otlp.traces.enabled) await this.#open();
  }

  /** False while a span would go nowhere: neither an export nor a reader of the live view. */
  get active(): boolean {
    return this.#output?.active === true;
  }

  accept(record: SpanRecord): SpanIdentity | undefined {
    return this.#output?.accept(record);
  }

  /** Answers `GET /api/trace`; the promise resolves when the stream has ended, and never rejects. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    await this.#open();
    const { serveTrace } = await import('../telemetry/spans/live_endpoint.ts');
    if (this.#feed === undefined || this.#closed) response.destroy();
    else await serveTrace(this.#feed, request, response);
  }

  #open(): Promise<void> {
    this.#opening ??= this.#create();
    return this.#opening;
  }

  async #create(): Promise<void> {
    const [sink, feed, source] = await Promise.all([
      import('../telemetry/spans/sink.ts'),
      import('../telemetry/spans/feed.ts'),
      import('../telemetry/spans/source.ts'),
    ]);
    const { traces } = this.#config.otlp;
    const { store } = this.#collector;
    this.#feed = feed.createSpanFeed();
    const host = this.#config.kubernetes.node_name || hostname();
    this.#output = sink.createTraceOutput({
      resource: { host, agentVersion: version() },
      feed: this.#feed,
      log: this.#log,
      onExport: source.exportObserver(store),
      settings: traces.enabled ? { ...traces, headers: () => this.#headers() } : undefined,
    });
    if (traces.enabled) this.#collector.add(source.createSpanSource(this.#output, store));
  }

  /** Read anew for every export: tokens in files are rotated. */
  async #headers(): Promise<Record<string, string>> {
    const result = await resolveHeaders(this.#config.otlp.traces.headers);
    if (!result.ok) throw new Error(result.reason);
    return result.headers;
  }

  /** Ends the live streams. */
  closeFeed(): void {
    this.#closed = true;
    this.#feed?.close();
  }

  /** Delivers what it can within the deadline. */
  async shutdown(deadlineMillis: number): Promise<void> {
    await this.#output?.shutdown(deadlineMillis);
  }
}
