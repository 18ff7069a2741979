// What the Redis tests share: the stream layer with Redis on it, loaded into the running kernel; private redis-servers; and
// what these servers counted themselves. The programs see the whole machine, so everything is asked for by port.
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { defaultConfig } from '../../../exporter/config/schema.ts';
import { createHostIdentity } from '../../../exporter/identity/host.ts';
import type { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { BpfLoader, type LoadedProbe } from '../../../exporter/kernel/loader.ts';
import { type RunningCore, startCore } from '../../../exporter/probes/core.ts';
import { addRedis } from '../../../exporter/probes/redis/index.ts';
import { DURATIONS } from '../../../exporter/probes/redis/metrics.ts';
import type { RedisSeries } from '../../../exporter/probes/redis/series.ts';
import type { RequestSource } from '../../../exporter/probes/requests/source.ts';
import { type RequestStream, startStream } from '../../../exporter/probes/requests/stream.ts';
import { SeriesStore } from '../../../exporter/telemetry/store.ts';
import { end, freePort, start, sumCounts } from '../http/harness.ts';

export const run = promisify(execFile);

export type Side = 'client' | 'server';

/** Labels by which commands are told apart here. */
const LABELS = {
  command: 'db_operation_name',
  status: 'db_response_status_code',
  database: 'db_namespace',
  error: 'error_type',
} as const;
type Label = keyof typeof LABELS;

/** Commands of one kind, as they are exported. */
export interface Counted {
  readonly labels: Readonly<Record<Label, string>>;
  readonly count: number;
  readonly seconds: number;
}

/** The core, the stream layer with Redis alone on it, and the store that they fill. */
export class Probe {
  readonly store: SeriesStore;
  readonly core: RunningCore;
  readonly stream: RequestStream;
  readonly redis: LoadedProbe;
  readonly source: RequestSource<RedisSeries>;
  #now = Date.now();

  constructor(options: { readonly features?: KernelFeatures } = {}) {
    const config = defaultConfig();
    const settings = config.probes.redis;
    const bounds = settings.duration_buckets_seconds;
    this.store = new SeriesStore({ buckets: { [DURATIONS.client]: bounds, [DURATIONS.server]: bounds } });
    const loader = new BpfLoader({ ...options });
    this.core = startCore({
      loader,
      config: { ...config, identity: { ...config.identity, include_self: true } },
      identity: createHostIdentity({}),
      features: new Set(),
    });
    this.stream = startStream({ loader, core: this.core, provider: 'auto', spans: undefined });
    const { redis, source } = addRedis({ store: this.store, config, settings }, this.stream);
    this.redis = redis;
    this.source = source;
  }

  async collect(): Promise<void> {
    this.#now += 1000;
    this.store.begin(this.#now);
    await this.core.source.collect(this.#now);
    await this.stream.source.collect();
    await this.source.collect();
    this.store.settleNow();
  }

  /** Everything that one side of a port has counted. */
  async counted(side: Side, port: number): Promise<Counted[]> {
    await this.collect();
    const label = (text: string, name: string) =>
      new RegExp(`(?:^|,)${name}="([^"]*)"`).exec(text)?.[1] ?? '';
    return this.store
      .family(DURATIONS[side])
      .points.filter(({ labels }) => label(labels, 'server_port') === String(port))
      .map((point) => ({
        labels: Object.fromEntries(
          Object.entries(LABELS).map(([name, found]) => [name, label(point.labels, found)]),
        ) as Counted['labels'],
        count: sumCounts([point]),
        seconds: point.value,
      }));
  }

  /** Counts by some labels, joined by a space; those left out are `-`. */
  async table(
    side: Side,
    port: number,
    by: readonly Label[] = ['command', 'status'],
  ): Promise<Record<string, number>> {
    const out: Record<string, number> = {};
    for (const { labels, count } of await this.counted(side, port)) {
      const row = by.map((name) => labels[name] || '-').join(' ');
      if (count > 0) out[row] = (out[row] ?? 0) + count;
    }
    return Object.fromEntries(Object.entries(out).sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** Losses of Redis on the whole machine. */
  async lost(): Promise<Record<string, number>> {
    await this.collect();
    return Object.fromEntries(Object.entries(this.source.lost()).filter(([, count]) => count > 0));
  }

  close(): void {
    this.stream.close();
    this.core.close();
  }
}

/** A redis-server of our own. */
export class RedisServer {
  readonly port: number;
  readonly #directory: string;
  readonly #child: Awaited<ReturnType<typeof start>>;

  private constructor(port: number, directory: string, child: Awaited<ReturnType<typeof start>>) {
    this.port = port;
    this.#directory = directory;
    this.#child = child;
  }

  static async start(...options: string[]): Promise<RedisServer> {
    const port = await freePort();
    const directory = mkdtempSync(join(tmpdir(), 'knp-redis-'));
    const fixed = ['--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', directory];
    const child = await start(
      '/usr/bin/redis-server',
      ['--port', String(port), ...fixed, ...options],
      /Ready to accept/,
    );
    return new RedisServer(port, directory, child);
  }

  /** redis-cli, with a command as arguments or lines of them as input. */
  cli(args: readonly string[], input?: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const child = spawn('/usr/bin/redis-cli', ['-p', String(this.port), ...args]);
      let text = '';
      child.stdout.on('data', (chunk) => {
        text += chunk;
      });
      child.stderr.on('data', (chunk) => {
        text += chunk;
      });
      child.once('error', reject).once('close', () => resolve(text));
      child.stdin.on('error', () => {}); // it may be gone before it is told that nothing comes
      child.stdin.end(input ?? '');
    });
  }

  /**
   * What the server counted, by command: `calls` that were carried out, and `rejected` ones. The question itself is not in
   * the answer.
   */
  async stats(): Promise<Record<string, { calls: number; rejected: number; failed: number }>> {
    const out: Record<string, { calls: number; rejected: number; failed: number }> = {};
    for (const line of (await this.cli(['INFO', 'commandstats'])).split('\n')) {
      const found = /^cmdstat_([^:|]+)(\|[^:]+)?:calls=(\d+),.*rejected_calls=(\d+),failed_calls=(\d+)/.exec(
        line,
      );
      if (found === null) continue;
      const command = (found[1] as string).toUpperCase();
      const known = out[command] ?? { calls: 0, rejected: 0, failed: 0 };
      out[command] = {
        calls: known.calls + Number(found[3]),
        rejected: known.rejected + Number(found[4]),
        failed: known.failed + Number(found[5]),
      };
    }
    return out;
  }

  /** Requests by command, as the server counted them: carried out or rejected. */
  async calls(): Promise<Record<string, number>> {
    const rows = Object.entries(await this.stats()).map(
      ([command, { calls, rejected }]): [string, number] => [command, calls + rejected],
    );
    return Object.fromEntries(rows.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  async stop(): Promise<void> {
    await end(this.#child);
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** What is remembered of what was heard. */
const HEARD = 16_384;

/** A connection that says exactly what it is told, and hears everything. */
export class Raw {
  readonly socket: Socket;
  #heard = '';
  readonly #waiting = new Set<() => void>();

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1').setNoDelay(true);
    this.socket.on('data', (chunk) => {
      this.#heard = (this.#heard + chunk.toString('latin1')).slice(-HEARD);
      for (const check of this.#waiting) check();
    });
  }

  say(text: string): this {
    this.socket.write(text, 'latin1');
    return this;
  }

  /** Resolves with the end of what was heard so far, when that matches. */
  hear(pattern: RegExp): Promise<string> {
    return new Promise((resolve) => {
      const check = () => {
        if (!pattern.test(this.#heard)) return;
        this.#waiting.delete(check);
        const heard = this.#heard;
        this.#heard = '';
        resolve(heard);
      };
      this.#waiting.add(check);
      check();
    });
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.socket.once('close', resolve));
    this.socket.end();
    this.socket.destroySoon();
    await closed;
  }
}
