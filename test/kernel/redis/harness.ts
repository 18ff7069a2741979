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
import type { Btf } from '../../../exporter/kernel/btf.ts';
import type { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { BpfLoader, type LoadedProbe } from '../../../exporter/kernel/loader.ts';
import { type KernelStream, loadStream } from '../../../exporter/kernel/stream.ts';
import { type RunningCore, startCore } from '../../../exporter/probes/core.ts';
import { end, freePort, start } from '../http/harness.ts';

export const run = promisify(execFile);

export type Side = 'client' | 'server';

/** Requests of one kind, as the kernel counted them. */
export interface Counted {
  readonly side: Side;
  readonly port: number;
  readonly command: string;
  /** `OK`, `QUEUED`, an error's first word; empty: there was no answer. */
  readonly status: string;
  /** Undefined: not known. */
  readonly database: number | undefined;
  readonly error: string;
  readonly count: number;
  readonly seconds: number;
}

function enumNames(btf: Btf, type: string, prefix: RegExp): string[] {
  const found = btf.find(type, 'enum');
  if (found === undefined) throw new Error(`no enum ${type}`);
  return found.values.map(({ name }) => name.replace(prefix, ''));
}

export class Probe {
  readonly core: RunningCore;
  readonly stream: KernelStream;
  readonly redis: LoadedProbe;
  #now = Date.now();

  constructor(options: { readonly features?: KernelFeatures } = {}) {
    const config = defaultConfig();
    const loader = new BpfLoader({ ...options });
    this.core = startCore({
      loader,
      config: { ...config, identity: { ...config.identity, include_self: true } },
      identity: createHostIdentity({}),
      tcpTotals: false,
    });
    this.stream = loadStream({ loader, core: this.core, provider: 'auto' });
    this.redis = this.stream.addProtocol({ name: 'redis' });
  }

  /** Everything that was counted on a port. */
  async counted(port: number): Promise<Counted[]> {
    this.#now += 1000;
    await this.core.source.collect(this.#now);
    const { btf } = this.redis;
    const commands = enumNames(btf, 'redis_command', /^REDIS_COMMAND_/);
    const statuses = enumNames(btf, 'redis_status', /^REDIS_STATUS_/);
    const errors = enumNames(btf, 'request_error', /^REQUEST_(ERROR_)?/);
    const key = btf.layout('request_key');
    const totals = btf.layout('request_totals');
    const times = btf.layout('request_times');
    const { count, keys, values } = this.redis.map('requests').readAll();
    const out: Counted[] = [];
    for (let i = 0; i < count; i++) {
      const at = i * key.size;
      const value = i * (values.length / count);
      if (keys.readUInt8(at + key.offset('protocol')) !== btf.enumerator('stream_protocol', 'STREAM_REDIS'))
        continue;
      const edge = this.core.directory.name(keys.readUInt32LE(at + key.offset('edge_id')));
      if (edge?.port !== port) continue;
      const buckets = totals.field('times').size / times.size;
      const database = keys.readUInt8(at + key.offset('detail'));
      const command = commands[keys.readUInt8(at + key.offset('operation'))] ?? '?';
      out.push({
        side: edge.key.role === 'client' ? 'client' : 'server',
        port,
        command: command === 'OTHER' ? '_OTHER' : command,
        status: (statuses[keys.readUInt16LE(at + key.offset('status'))] ?? '?').replace(/^NONE$/, ''),
        database: database === 0 ? undefined : database - 1,
        error: errors[keys.readUInt8(at + key.offset('error'))] ?? '?',
        count: Array.from({ length: buckets }, (_, b) =>
          Number(values.readBigUInt64LE(value + totals.offset('times') + b * times.size)),
        ).reduce((a, b) => a + b, 0),
        seconds: Number(values.readBigUInt64LE(value + totals.offset('duration_ns'))) / 1e9,
      });
    }
    return out;
  }

  /** Counts by some properties, joined by a space. */
  async table(
    side: Side,
    port: number,
    by: readonly (keyof Counted)[] = ['command', 'status'],
  ): Promise<Record<string, number>> {
    return tableOf(
      (await this.counted(port)).filter((c) => c.side === side),
      by,
    );
  }

  /** Losses of Redis on the whole machine. */
  lost(): Record<string, number> {
    const { btf } = this.redis;
    const state = btf.layout('request_state');
    const value = this.redis.map('request_states').lookup(Buffer.from([2, 0, 0, 0]));
    const names = enumNames(btf, 'request_counter', /^REQUEST_/).filter((name) => name.startsWith('LOST_'));
    const all = enumNames(btf, 'request_counter', /^REQUEST_/);
    return Object.fromEntries(
      names
        .map((name): [string, number] => [
          name,
          Number(value?.readBigUInt64LE(state.offset('counters') + 8 * all.indexOf(name)) ?? 0),
        ])
        .filter(([, count]) => count > 0),
    );
  }

  close(): void {
    this.stream.close();
    this.core.close();
  }
}

export function tableOf(counted: readonly Counted[], by: readonly (keyof Counted)[]): Record<string, number> {
  const out: Record<string, number> = {};
  for (const entry of counted) {
    const row = by.map((name) => entry[name] ?? '-').join(' ');
    out[row] = (out[row] ?? 0) + entry.count;
  }
  return Object.fromEntries(Object.entries(out).sort(([a], [b]) => (a < b ? -1 : 1)));
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

/** A connection that says exactly what it is told, and hears everything. */
export class Raw {
  readonly socket: Socket;
  #heard = '';
  readonly #waiting = new Set<() => void>();

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1').setNoDelay(true);
    this.socket.on('data', (chunk) => {
      this.#heard += chunk.toString('latin1');
      for (const check of this.#waiting) check();
    });
  }

  say(text: string): this {
    this.socket.write(text, 'latin1');
    return this;
  }

  /** Resolves with everything heard so far, when that matches. */
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
