// How long the event loop is held, seen by a timer that is late. Not Node's `monitorEventLoopDelay`: its histogram
// misses whatever happens right after a reset, which is when a scrape is written. Used by process_source.ts.

/** The timer fires this often. A hold is seen from the moment the timer was due, so short ones only in part. */
const PERIOD_MILLIS = 20;
/** Observations kept between two collections; at one per period these are 80 s. Later ones replace the oldest. */
const KEPT = 4096;

/** Watches the event loop until it is closed; never keeps the process alive. */
export class EventLoopWatch {
  private readonly delays = new Float64Array(KEPT);
  private count = 0;
  private max = 0;
  private due = performance.now() + PERIOD_MILLIS;
  private readonly timer: NodeJS.Timeout;

  constructor() {
    this.timer = setInterval(() => this.note(), PERIOD_MILLIS);
    this.timer.unref();
  }

  /** Longest and 99th percentile of the delays since the last call, in seconds. */
  take(): { max: number; p99: number } {
    const sorted = this.delays.slice(0, Math.min(this.count, KEPT)).sort();
    const p99 = sorted.length === 0 ? 0 : (sorted[Math.floor((sorted.length - 1) * 0.99)] as number);
    const { max } = this;
    this.count = 0;
    this.max = 0;
    return { max: max / 1000, p99: p99 / 1000 };
  }

  close(): void {
    clearInterval(this.timer);
  }

  private note(): void {
    const now = performance.now();
    const delay = Math.max(0, now - this.due);
    this.delays[this.count++ % KEPT] = delay;
    this.max = Math.max(this.max, delay);
    this.due = now + PERIOD_MILLIS;
  }
}
