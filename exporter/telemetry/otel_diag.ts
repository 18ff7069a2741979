// OpenTelemetry's libraries speak through one global diagnostic logger. Routed to our log here, and listened to: the
// stock exporters report a partial success (what the receiver refused) nowhere else. Set up by out/otlp_metrics.ts.
import { DiagLogLevel, diag } from '@opentelemetry/api';
import type { Log } from './log.ts';

const PARTIAL_SUCCESS = 'Received Partial Success response:';

/** Told how many data points the receiver refused. */
type RejectionListener = (items: number) => void;

const listeners = new Set<RejectionListener>();

/**
 * Routes the diagnostics to `log` and partial successes of metrics exports to `onRejected`.
 * @returns stops listening
 */
export function listenToOtel(log: Log, onRejected: RejectionListener): () => void {
  const forward = (level: 'warn' | 'error') => (message: string, detail?: unknown) => {
    if (message === PARTIAL_SUCCESS) {
      const items = rejectedDataPoints(detail);
      for (const listener of listeners) listener(items);
    }
    log[level](
      { component: 'opentelemetry', detail: String(detail ?? '').slice(0, 1000) },
      message.slice(0, 1000),
    );
  };
  const quiet = () => {};
  diag.setLogger(
    { error: forward('error'), warn: forward('warn'), info: quiet, debug: quiet, verbose: quiet },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  listeners.add(onRejected);
  return () => {
    listeners.delete(onRejected);
    if (listeners.size === 0) diag.disable();
  };
}

/** OTLP's `rejected_data_points`; 0 for warnings without a rejection and for other signals. */
function rejectedDataPoints(detail: unknown): number {
  try {
    const items = Number(
      (JSON.parse(String(detail)) as { rejectedDataPoints?: unknown }).rejectedDataPoints ?? 0,
    );
    return Number.isFinite(items) && items > 0 ? items : 0;
  } catch {
    return 0;
  }
}
