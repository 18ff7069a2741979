// What the HTTP tests share: the probe loaded into the running kernel with a store of its own, a private nginx, and
// clients that say what they did. The programs see the whole machine, so everything is asked for by port.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Config } from '../../../exporter/config/schema.ts';
import { defaultConfig } from '../../../exporter/config/schema.ts';
import { createHostIdentity } from '../../../exporter/identity/host.ts';
import { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { BpfLoader } from '../../../exporter/kernel/loader.ts';
import { type RunningCore, startCore } from '../../../exporter/probes/core.ts';
import { createHttpProbe, type HttpProbe } from '../../../exporter/probes/http/index.ts';
import { createTcpProbe, type TcpProbe } from '../../../exporter/probes/tcp/index.ts';
import type { SpanSink } from '../../../exporter/telemetry/spans/types.ts';
import { type Point, SeriesStore } from '../../../exporter/telemetry/store.ts';

export const run = promisify(execFile);

export interface ProbeOptions {
  readonly http?: Partial<Config['probes']['http']>;
  readonly spans?: SpanSink;
  readonly shards?: number;
  /** Is the TCP probe on? Default yes. */
  readonly tcp?: boolean;
  /** Where the BPF objects are, if not in build/bpf. */
  readonly directory?: URL;
  /** What the loader takes the kernel for. */
  readonly features?: KernelFeatures;
}

/** Which requests: label values of the metric. */
export type Labels = Readonly<Record<string, string | number>>;

const DURATIONS = { client: 'http.client.request.duration', server: 'http.server.request.duration' } as const;
type Side = keyof typeof DURATIONS;

type Provider = Config['probes']['http']['provider'];

/** The provider under test: the tests are the same for each (`KNPTEST_HTTP_PROVIDER`). */
export const PROVIDER = (process.env.KNPTEST_HTTP_PROVIDER ?? 'auto') as Provider;

const ALL_PROVIDERS = ['fentry', 'tracepoint', 'kprobe'] as const;

/** The providers to be tested one after the other, where a test is about them. */
export const PROVIDERS = ALL_PROVIDERS.filter((provider) => PROVIDER === 'auto' || PROVIDER === provider);

/** What this kernel lacks for a provider. Undefined: it must load, or the test fails. */
export function missingFor(provider: (typeof ALL_PROVIDERS)[number]): string | undefined {
  const features = new KernelFeatures();
  const needs = { fentry: ['fentry'], tracepoint: [], kprobe: ['kprobe'] } as const;
  const lengths = provider === 'fentry' ? [] : (['tracepoint:sock_send_length'] as const);
  return [...needs[provider], ...lengths].map((need) => features.missing(need)).find((m) => m !== undefined);
}

/** Both probes and the store that they fill. */
export class Probe {
  readonly store: SeriesStore;
  readonly core: RunningCore;
  /** Undefined: it is off. */
  readonly tcp: TcpProbe | undefined;
  readonly http: HttpProbe;
  #now = Date.now();

  constructor(options: ProbeOptions = {}) {
    const defaults = defaultConfig();
    const http = { ...defaults.probes.http, provider: PROVIDER, ...options.http };
    const config = { ...defaults, probes: { ...defaults.probes, http } };
    const bounds = http.duration_buckets_seconds;
    this.store = new SeriesStore({
      buckets: {
        'http.server.request.duration': bounds,
        'http.client.request.duration': bounds,
        'knp.http.server.time_to_first_byte': bounds,
        traces_service_graph_request_server_seconds: bounds,
        traces_service_graph_request_client_seconds: bounds,
      },
    });
    const { directory, features } = options;
    const loader = new BpfLoader({ ...(directory && { directory }), ...(features && { features }) });
    const identity = createHostIdentity({});
    // The test process makes requests too: nothing is left out as the agent's own.
    const { tcp = true } = options;
    this.core = startCore({
      loader,
      config: { ...config, identity: { ...config.identity, include_self: true } },
      identity,
      features: new Set(tcp ? ['tcp_totals'] : []),
    });
    this.tcp = tcp ? createTcpProbe({ core: this.core, config, store: this.store }) : undefined;
    this.http = createHttpProbe({
      loader,
      config,
      core: this.core,
      store: this.store,
      spans: options.spans,
      ...(options.shards === undefined ? {} : { shards: options.shards }),
    });
  }

  /** Several collections, as paths that are new need more than one. */
  async collect(): Promise<void> {
    for (let i = 0; i < 2; i++) {
      this.#now += 1000;
      this.store.begin(this.#now);
      await this.core.source.collect(this.#now);
      await this.tcp?.source.collect();
      await this.http.requests.source.collect();
      await this.http.source.collect();
      this.store.settleNow();
    }
  }

  points(metric: Parameters<SeriesStore['family']>[0], labels: Labels): Point[] {
    return this.store
      .family(metric)
      .points.filter((point) =>
        Object.entries(labels).every(([name, value]) => `,${point.labels}`.includes(`,${name}="${value}"`)),
      );
  }

  /** Requests counted, after a collection of what is there now. */
  async requests(side: Side, labels: Labels): Promise<number> {
    await this.collect();
    return sumCounts(this.points(DURATIONS[side], labels));
  }

  /** Requests by the values of some labels, joined by a space; both sides must have the same to be equal. */
  async table(side: Side, labels: Labels, by: readonly string[]): Promise<Record<string, number>> {
    await this.collect();
    const out: Record<string, number> = {};
    for (const point of this.points(DURATIONS[side], labels)) {
      const row = by
        .map((name) => new RegExp(`(?:^|,)${name}="([^"]*)"`).exec(point.labels)?.[1] ?? '-')
        .join(' ');
      out[row] = (out[row] ?? 0) + sumCounts([point]);
    }
    return Object.fromEntries(
      Object.entries(out)
        .filter(([, count]) => count > 0)
        .sort(),
    );
  }

  /** Kernel counters of losses; they are about the whole machine. */
  async lost(): Promise<Record<string, number>> {
    await this.collect();
    return Object.fromEntries(
      Object.entries(this.http.source.counters).filter(
        ([name, count]) => name.startsWith('lost_') && count > 0,
      ),
    );
  }

  close(): void {
    this.http.close();
    this.tcp?.close();
    this.core.close();
  }
}

export function sumCounts(points: readonly Point[]): number {
  return points.reduce((total, point) => total + (point.counts?.reduce((a, b) => a + b, 0) ?? 0), 0);
}

export const METHOD_STATUS = ['http_request_method', 'http_response_status_code'] as const;
export const METHOD_STATUS_ROUTE = [...METHOD_STATUS, 'http_route'] as const;

const usedPorts = new Set<number>();

/**
 * A port of 127.0.0.1 that nobody listens on, and that this file has not used: a probe that several tests share has
 * counted what was there, and the kernel chooses among few thousand.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    await new Promise((resolve) => server.close(resolve));
    if (address === null || typeof address === 'string') throw new Error('no port');
    if (usedPorts.has(address.port)) continue;
    usedPorts.add(address.port);
    return address.port;
  }
}

/** Lets a server listen on such a port; answers it. */
export async function listen(server: Server): Promise<number> {
  const port = await freePort();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, '127.0.0.1', resolve);
  });
  return port;
}

const children = new Set<ChildProcess>();

/** Starts a process that `endAll` ends; resolves when it has printed a line that matches, or listens on `port`. */
export async function start(
  command: string,
  args: readonly string[],
  until: RegExp | number,
): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  children.add(child);
  child.once('close', () => children.delete(child));
  let text = '';
  const ended = new Promise<never>((_, reject) =>
    child.once('close', (code) => reject(Object.assign(new Error(`${command}: ${text}`), { code }))),
  );
  ended.catch(() => {}); // only of interest while waiting
  const ready = new Promise<void>((resolve) => {
    const look = (chunk: Buffer) => {
      text += chunk;
      if (until instanceof RegExp && until.test(text)) resolve();
    };
    child.stdout?.on('data', look);
    child.stderr?.on('data', look);
    if (typeof until === 'number') void listening(until).then(resolve);
  });
  await Promise.race([ready, ended]);
  return child;
}

/** Resolves when somebody listens on a port of this host, found out without connecting to it. */
async function listening(port: number): Promise<void> {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  for (;;) {
    const text = readFileSync('/proc/net/tcp', 'latin1') + readFileSync('/proc/net/tcp6', 'latin1');
    if (new RegExp(`:${hex} \\S+ 0A `).test(text)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await closed;
  clearTimeout(timer);
}

/** For afterEach: nothing of a test keeps running. */
export async function endAll(): Promise<void> {
  await Promise.all([...children].map(end));
}

export interface LogLine {
  readonly method: string;
  readonly uri: string;
  readonly status: number;
  readonly seconds: number;
  readonly bodyBytes: number;
}

/** An nginx of our own. `locations` goes into its server block. */
export class Nginx {
  readonly port: number;
  readonly #directory: string;
  readonly #child: ChildProcess;

  private constructor(port: number, directory: string, child: ChildProcess) {
    this.port = port;
    this.#directory = directory;
    this.#child = child;
  }

  static async start(
    locations: string,
    options: { readonly log?: boolean; readonly http?: string } = {},
  ): Promise<Nginx> {
    const port = await freePort();
    const directory = mkdtempSync(join(tmpdir(), 'knp-http-'));
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (t) => `${t}_temp_path ${directory}/${t};`,
    );
    const log = options.log === false ? 'access_log off;' : `access_log ${directory}/access.log plain;`;
    writeFileSync(
      `${directory}/nginx.conf`,
      `daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error.log;
       events { worker_connections 4096; }
       http {
         ${temporary.join('\n')}
         log_format plain '$request_method $request_uri $status $request_time $body_bytes_sent';
         ${log}
         keepalive_requests 100000000; keepalive_timeout 600; client_max_body_size 0; sendfile on;
         ${options.http ?? ''}
         server { listen 127.0.0.1:${port} backlog=4096; root ${directory}; ${locations} }
       }`,
    );
    const child = await start('/usr/sbin/nginx', ['-c', `${directory}/nginx.conf`, '-p', directory], port);
    return new Nginx(port, directory, child);
  }

  /** Puts a file under its root. */
  file(name: string, content: Buffer): void {
    writeFileSync(join(this.#directory, name), content);
  }

  url(path = '/'): string {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  /** Its log, complete only after `stop`. */
  log(): LogLine[] {
    return readFileSync(`${this.#directory}/access.log`, 'latin1')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [method = '', uri = '', status, seconds, bodyBytes] = line.split(' ');
        return {
          method,
          uri,
          status: Number(status),
          seconds: Number(seconds),
          bodyBytes: Number(bodyBytes),
        };
      });
  }

  async stop(): Promise<void> {
    await end(this.#child);
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** h2load over HTTP/1.1; answers how many requests ended with which class of status. */
export async function h2load(
  url: string,
  requests: number,
  connections: number,
  ...more: string[]
): Promise<Record<string, number>> {
  const { stdout } = await run(
    'h2load',
    ['--h1', '-n', String(requests), '-c', String(connections), '-t', '1', ...more, url],
    {
      maxBuffer: 2 ** 26,
    },
  );
  const status = /status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx/.exec(stdout);
  const done = /(\d+) done, (\d+) succeeded, (\d+) failed/.exec(stdout);
  if (status === null || done === null) throw new Error(`h2load said: ${stdout}`);
  return {
    '2xx': Number(status[1]),
    '3xx': Number(status[2]),
    '4xx': Number(status[3]),
    '5xx': Number(status[4]),
    done: Number(done[1]),
  };
}

/** The rows of a table `METHOD STATUS ROUTE` that end with `route`, added up, and all others. `answered`: GET with 200. */
export function apart(table: Record<string, number>, route: string) {
  const rows = Object.entries(table);
  const mine = rows.filter(([row]) => row.endsWith(route));
  return {
    others: Object.fromEntries(rows.filter(([row]) => !row.endsWith(route))),
    all: mine.reduce((sum, [, count]) => sum + count, 0),
    answered: table[`GET 200${route}`] ?? 0,
  };
}
