// The agent: measures, serves /metrics, exports, until a signal ends it. `kubenetprobe run` calls it.
import { constants, hostname } from 'node:os';
import { resolveHeaders } from '../config/headers.ts';
import type { Config } from '../config/schema.ts';
import { parseHostPort } from '../config/values.ts';
import { ListenError } from '../server/errors.ts';
import { type Health, type RunningServer, startServer } from '../server/server.ts';
import { createLost } from '../telemetry/lost.ts';
import type { OtlpMetrics } from '../telemetry/out/otlp_metrics.ts';
import { AgentSpans } from './agent_spans.ts';
import { agentStatus } from './agent_status.ts';
import { createLog, type Logger } from './log.ts';
import { type Measurement, prepareMeasurement } from './measurement.ts';
import { createProcessSource } from './process_source.ts';
import { StartError } from './start_error.ts';
import { version } from './version.ts';

/** Spans that wait get this long to be delivered when the agent ends. */
const SPANS_DEADLINE_MILLIS = 5000;
/** Whatever hangs, the agent ends this long after the first signal. */
const SHUTDOWN_DEADLINE_MILLIS = 15_000;

/** Runs until SIGTERM or SIGINT. Throws a StartError where it cannot begin. */
export async function runAgent(config: Config): Promise<void> {
  const log = createLog(config.log);
  const signals = watchSignals(log.logger);
  const agent = new Agent(config, log.logger, log.lost);
  let ending: string | undefined;
  try {
    await agent.start();
    ending = await signals.first;
    log.logger.info({ signal: ending }, 'stopping');
  } finally {
    await agent.stop();
    // What prevented the start is told by the caller, in one sentence.
    if (ending !== undefined) log.logger.info({}, 'stopped');
    await log.close();
    signals.close();
  }
}

/** The first SIGTERM or SIGINT asks for an orderly end, the second ends the process at once. */
function watchSignals(log: Logger): { first: Promise<string>; close(): void } {
  const { promise: first, resolve } = Promise.withResolvers<string>();
  let count = 0;
  const onSignal = (signal: 'SIGTERM' | 'SIGINT') => {
    count++;
    // Links die with the process, so nothing is left behind this way either.
    if (count > 1) process.exit(128 + constants.signals[signal]);
    resolve(signal);
    setTimeout(() => {
      log.error({}, 'stopping took too long');
      process.exit(1);
    }, SHUTDOWN_DEADLINE_MILLIS).unref();
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  const close = () => void process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
  return { first, close };
}

class Agent {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #lostLines: () => number;
  readonly #startedAt = new Date();
  #measurement: Measurement | undefined;
  #spans: AgentSpans | undefined;
  #server: RunningServer | undefined;
  #metricsExport: OtlpMetrics | undefined;
  #closeSource: (() => void) | undefined;
  #attached = false;

  constructor(config: Config, log: Logger, lostLines: () => number) {
    this.#config = config;
    this.#log = log;
    this.#lostLines = lostLines;
  }

  async start(): Promise<void> {
    const config = this.#config;
    const measurement = await prepareMeasurement(config, this.#log);
    this.#measurement = measurement;
    this.#addOwnSources(measurement);
    this.#spans = new AgentSpans(config, measurement.collector, this.#log);
    // A port that is taken is told before anything is loaded; until all is attached /readyz and /metrics say so.
    this.#server = await this.#listen(measurement, this.#spans);
    await this.#spans.start();
    await measurement.start(this.#spans);
    this.#attached = true;
    await measurement.collector.collect();
    if (config.otlp.metrics.enabled) this.#metricsExport = await this.#exportMetrics(measurement);
    const probes = measurement
      .probes()
      .filter(({ state }) => state === 'attached')
      .map(({ name }) => name);
    this.#log.info({ version: version(), url: this.#server.url, probes }, 'measuring');
    for (const problem of agentStatus(measurement, this.#startedAt).problems) this.#log.warn({}, problem);
  }

  #addOwnSources({ collector, store }: Measurement): void {
    const source = createProcessSource(store);
    this.#closeSource = () => source.close();
    collector.add(source);
    const lost = createLost(store);
    let seen = 0;
    lost('log_lines', 0);
    collector.add({
      name: 'log',
      collect: () => {
        const total = this.#lostLines();
        lost('log_lines', total - seen);
        seen = total;
      },
    });
  }

  async #listen(measurement: Measurement, spans: AgentSpans): Promise<RunningServer> {
    const { collector, store } = measurement;
    const address = parseHostPort(this.#config.listen);
    if (address === undefined) throw new Error(`not an address: ${this.#config.listen}`);
    const health: Health = {
      starting: () => (this.#attached ? undefined : 'probes are being attached'),
      unready: () => measurement.unready(),
    };
    try {
      return await startServer({
        ...address,
        collector,
        store,
        health,
        log: this.#log,
        routes: {
          '/api/status': (_request, response) => {
            response.setHeader('content-type', 'application/json; charset=utf-8');
            response.end(`${JSON.stringify(agentStatus(measurement, this.#startedAt))}\n`);
          },
          // A failed import is the only thing that can reject.
          '/api/trace': (request, response) => {
            spans.serve(request, response).catch((error: Error) => {
              this.#log.error({ reason: error.message }, 'live view failed');
              response.destroy();
            });
          },
        },
      });
    } catch (error) {
      throw error instanceof ListenError ? new StartError(error.message) : error;
    }
  }

  async #exportMetrics({ collector, store }: Measurement): Promise<OtlpMetrics> {
    const [{ startOtlpMetrics }, { createMetricProducer }, { resourceFromAttributes }] = await Promise.all([
      import('../telemetry/out/otlp_metrics.ts'),
      import('../telemetry/producer.ts'),
      import('@opentelemetry/resources'),
    ]);
    const { endpoint, insecure, headers, timeout_seconds, interval_seconds } = this.#config.otlp.metrics;
    const resolved = await resolveHeaders(headers);
    if (!resolved.ok) throw new StartError(`otlp.metrics.headers: ${resolved.reason}`);
    const resource = resourceFromAttributes({
      'service.name': 'kubenetprobe',
      'service.version': version(),
      'host.name': this.#config.kubernetes.node_name || hostname(),
    });
    const producer = createMetricProducer(collector, resource, { name: 'kubenetprobe', version: version() });
    return startOtlpMetrics({
      endpoint,
      insecure,
      headers: resolved.headers,
      timeoutMillis: timeout_seconds * 1000,
      intervalMillis: interval_seconds * 1000,
      producer,
      store,
      log: this.#log,
    });
  }

  /** In the order in which one needs the other: streams, endpoint, exports, probes. Idempotent. */
  async stop(): Promise<void> {
    this.#spans?.closeFeed();
    await this.#server?.close();
    await Promise.all([this.#metricsExport?.stop(), this.#spans?.shutdown(SPANS_DEADLINE_MILLIS)]);
    this.#closeSource?.();
    await this.#measurement?.close();
  }
}
