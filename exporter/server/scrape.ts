// Answers /metrics: one collection and one written body for all who ask at the same time, at the pace of each reader.
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Collection, Collector } from '../telemetry/collector.ts';
import { acceptsGzip, CONTENT_TYPE, type Format, negotiateFormat } from '../telemetry/out/negotiation.ts';
import { writeExposition } from '../telemetry/out/prometheus.ts';
import { SharedBody } from '../telemetry/out/shared_body.ts';
import type { SeriesStore } from '../telemetry/store.ts';

type Outcome = 'success' | 'unavailable' | 'aborted' | 'timeout' | 'refused';

export interface ScrapeOptions {
  readonly collector: Collector;
  readonly store: SeriesStore;
  /** A reason why there is nothing to show yet, or undefined. */
  readonly notReady: () => string | undefined;
  /** A reader that has not taken the whole body after this time is cut off, in milliseconds. */
  readonly deadlineMillis: number;
  /** More scrapes at once than this are refused with 503. */
  readonly maxConcurrent: number;
}

/** Handler of /metrics. */
export class Scrapes {
  private readonly options: ScrapeOptions;
  private readonly bodies = new WeakMap<Collection, Map<string, SharedBody>>();
  private active = 0;

  constructor(options: ScrapeOptions) {
    this.options = options;
    for (const outcome of ['success', 'unavailable', 'aborted', 'timeout', 'refused'] as const)
      this.count(outcome, 0);
  }

  /** Answers one request. Never rejects. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.active >= this.options.maxConcurrent) {
      unavailable(response, 'too many scrapes at once');
      this.count('refused', 1);
      return;
    }
    this.active++;
    const began = performance.now();
    const format = negotiateFormat(request.headers.accept);
    const gone = new AbortController();
    let timedOut = false;
    const onClose = () => gone.abort();
    response.once('close', onClose);
    const timer = setTimeout(() => {
      timedOut = true;
      response.destroy();
    }, this.options.deadlineMillis);
    try {
      const outcome = await this.send(request, response, format, gone.signal);
      this.count(timedOut ? 'timeout' : outcome, 1);
    } catch {
      // The response is gone, or was never begun: the client sees a broken answer, not half a truth.
      response.destroy();
      this.count(timedOut ? 'timeout' : 'aborted', 1);
    } finally {
      clearTimeout(timer);
      response.off('close', onClose);
      this.active--;
      const seconds = (performance.now() - began) / 1000;
      this.options.store.histogram('knp.agent.scrape.duration', { format }).observe(seconds);
    }
  }

  private async send(
    request: IncomingMessage,
    response: ServerResponse,
    format: Format,
    gone: AbortSignal,
  ): Promise<Outcome> {
    const waiting = this.options.notReady();
    if (waiting !== undefined) return unavailable(response, waiting);
    const collection = await this.options.collector.collect();
    if (gone.aborted) return 'aborted';
    if (!collection.valid) {
      const failures = [...collection.failures].map(([source, reason]) => `${source}: ${reason}`);
      return unavailable(response, `nothing could be read (${failures.join('; ').slice(0, 1000)})`);
    }
    const gzip = acceptsGzip(headerText(request.headers['accept-encoding']));
    response.writeHead(200, {
      'Content-Type': CONTENT_TYPE[format],
      'Cache-Control': 'no-store',
      Vary: 'Accept, Accept-Encoding',
      ...(gzip && { 'Content-Encoding': 'gzip' }),
    });
    if (request.method === 'HEAD') {
      response.end();
      return 'success';
    }
    for await (const chunk of this.body(collection, format, gzip).read()) {
      // `once` rejects when the reader goes away.
      if (!response.write(chunk)) await once(response, 'drain', { signal: gone });
      if (gone.aborted) return 'aborted';
    }
    response.end();
    await once(response, 'finish', { signal: gone });
    return 'success';
  }

  private body(collection: Collection, format: Format, gzip: boolean): SharedBody {
    let bodies = this.bodies.get(collection);
    if (!bodies) {
      bodies = new Map();
      this.bodies.set(collection, bodies);
    }
    const key = `${format} ${gzip}`;
    let body = bodies.get(key);
    if (!body?.joinable) {
      body = new SharedBody(writeExposition(collection.families, format), gzip);
      bodies.set(key, body);
    }
    return body;
  }

  private count(outcome: Outcome, n: number): void {
    this.options.store.counter('knp.agent.scrapes', { outcome }).add(n);
  }
}

function unavailable(response: ServerResponse, reason: string): 'unavailable' {
  const body = `${reason}\n`;
  response.writeHead(503, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'Retry-After': '5',
  });
  response.end(body);
  return 'unavailable';
}

function headerText(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(',') : value;
}
