// Builds the OpenTelemetry Collector of this folder once, outside the work tree, runs it, and reads what it received
// from its debug exporter's text.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const INPUTS = ['go.mod', 'go.sum', 'main.go'];
const START_MILLIS = 20_000;

function cacheDirectory(): string {
  const base =
    process.env.KNPTEST_CACHE ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kubenetprobe');
  return join(base, 'collector');
}

function builtPath(): string {
  const hash = createHash('sha256').update(process.arch);
  for (const input of INPUTS)
    hash.update(`\0${input}\0`).update(readFileSync(join(import.meta.dirname, input)));
  return join(cacheDirectory(), `collector-${hash.digest('hex').slice(0, 16)}`);
}

/** A Go command that can fetch the toolchain which go.mod asks for (1.21 and newer). */
function findGo(): string | undefined {
  const versions = [26, 25, 24, 23, 22, 21].map((minor) => `/usr/lib/go-1.${minor}/bin/go`);
  return ['go', '/usr/local/go/bin/go', ...versions].find((go) => {
    try {
      const version = execFileSync(go, ['version'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      return Number(/go1\.(\d+)/.exec(version)?.[1]) >= 21;
    } catch {
      return false;
    }
  });
}

/** Why there is no Collector and none can be built; undefined when there is one or it can. */
export function cannotBuildCollector(): string | undefined {
  if (existsSync(builtPath()) || findGo() !== undefined) return undefined;
  return 'no Go 1.21 or newer to build the OpenTelemetry Collector with';
}

/** Path of the Collector, built if need be (two minutes cold). Rejects with the compiler's words. */
export async function buildCollector(): Promise<string> {
  const path = builtPath();
  if (existsSync(path)) return path;
  const go = findGo();
  if (go === undefined) throw new Error(cannotBuildCollector());
  mkdirSync(cacheDirectory(), { recursive: true });
  process.stderr.write(`building the OpenTelemetry Collector once into ${path}\n`);
  // Builds at the same time each write their own file; the rename is atomic.
  const own = `${path}.${process.pid}`;
  const build = spawn(
    'nice',
    [go, 'build', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-o', own, '.'],
    {
      cwd: import.meta.dirname,
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  let errors = '';
  build.stderr.on('data', (text) => {
    errors += text;
  });
  const [code] = await once(build, 'close');
  if (code !== 0) throw new Error(`building the Collector failed:\n${errors.slice(-2000)}`);
  renameSync(own, path);
  return path;
}

/** One span as the Collector printed it. Attributes keep its notation: `Str(cart)`, `Int(200)`. */
export interface CollectorSpan {
  traceId: string;
  parentId: string;
  id: string;
  name: string;
  kind: string;
  traceState: string;
  /** Nanoseconds since the Unix epoch. */
  start: bigint;
  end: bigint;
  statusCode: string;
  statusMessage: string;
  attributes: Record<string, string>;
  links: { traceId: string; id: string }[];
  scope: string;
  resource: Record<string, string>;
}

/** `2026-11-23 14:00:00.12345679 +0000 UTC` (Go's format) as nanoseconds since the Unix epoch. */
function goTime(text: string): bigint {
  const match = /^(\S+) (\d+:\d+:\d+)(?:\.(\d+))? \+0000 UTC$/.exec(text);
  if (match === null) throw new Error(`not a time of the debug exporter: ${text}`);
  const seconds = BigInt(Date.parse(`${match[1]}T${match[2]}Z`)) / 1000n;
  return seconds * 1_000_000_000n + BigInt((match[3] ?? '').padEnd(9, '0'));
}

const FIELDS: Readonly<Record<string, (span: CollectorSpan, value: string) => void>> = {
  'Trace ID': (span, value) => {
    span.traceId = value;
  },
  'Parent ID': (span, value) => {
    span.parentId = value;
  },
  ID: (span, value) => {
    span.id = value;
  },
  Name: (span, value) => {
    span.name = value;
  },
  Kind: (span, value) => {
    span.kind = value;
  },
  TraceState: (span, value) => {
    span.traceState = value;
  },
  'Start time': (span, value) => {
    span.start = goTime(value);
  },
  'End time': (span, value) => {
    span.end = goTime(value);
  },
  'Status code': (span, value) => {
    span.statusCode = value;
  },
  'Status message': (span, value) => {
    span.statusMessage = value;
  },
};

function emptySpan(scope: string, resource: Record<string, string>): CollectorSpan {
  return {
    traceId: '',
    parentId: '',
    id: '',
    name: '',
    kind: '',
    traceState: '',
    start: 0n,
    end: 0n,
    statusCode: '',
    statusMessage: '',
    attributes: {},
    links: [],
    scope,
    resource,
  };
}

/** Reads the text of the debug exporter (verbosity detailed). */
export function parseSpans(text: string): CollectorSpan[] {
  const spans: CollectorSpan[] = [];
  let resource: Record<string, string> = {};
  let attributes: Record<string, string> = {};
  let scope = '';
  let link: { traceId: string; id: string } | undefined;
  for (const line of text.split('\n')) {
    const span = spans.at(-1);
    const attribute = /^ {5,}-> ([^:]+): (.*)$/.exec(line);
    const field = /^ {4,}(?:-> )?([A-Z][A-Za-z ]*?) *: ?(.*)$/.exec(line);
    if (line.startsWith('ResourceSpans #')) resource = {};
    else if (line === 'Resource attributes:') attributes = resource;
    else if (line.startsWith('InstrumentationScope ')) scope = line.slice('InstrumentationScope '.length);
    else if (/^Span #\d+/.test(line)) {
      spans.push(emptySpan(scope, resource));
      link = undefined;
    } else if (line === 'Attributes:' && span !== undefined) attributes = span.attributes;
    else if (/^SpanLink #\d+/.test(line)) {
      link = { traceId: '', id: '' };
      span?.links.push(link);
    } else if (link !== undefined && field?.[1] === 'Trace ID') link.traceId = field[2] ?? '';
    else if (link !== undefined && field?.[1] === 'ID') link.id = field[2] ?? '';
    else if (
      link === undefined &&
      span !== undefined &&
      field?.[1] !== undefined &&
      Object.hasOwn(FIELDS, field[1])
    )
      FIELDS[field[1]]?.(span, field[2] ?? '');
    else if (attribute?.[1] !== undefined) attributes[attribute[1]] = attribute[2] ?? '';
  }
  return spans;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A running Collector that keeps all it received as text. */
export class CollectorProcess {
  readonly port: number;
  readonly #process: ChildProcess;
  #output = '';
  #log = '';

  private constructor(child: ChildProcess, port: number) {
    this.#process = child;
    this.port = port;
    child.stdout?.on('data', (text) => {
      this.#output += text;
    });
    child.stderr?.on('data', (text) => {
      this.#log += text;
    });
  }

  /** Starts it on a free port of the loopback interface and waits until it serves. */
  static async start(port?: number): Promise<CollectorProcess> {
    const path = await buildCollector();
    const chosen = port ?? (await freePort());
    const config = [
      `receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:${chosen}"}}}}`,
      'exporters: {debug: {verbosity: detailed, use_internal_logger: false}}',
      'service:',
      '  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}',
      '  telemetry: {metrics: {level: none}}',
    ].join('\n');
    const child = spawn(path, [`--config=yaml:${config}`], { stdio: ['ignore', 'pipe', 'pipe'] });
    const collector = new CollectorProcess(child, chosen);
    const deadline = Date.now() + START_MILLIS;
    while (!collector.#log.includes('Everything is ready')) {
      if (child.exitCode !== null || Date.now() > deadline) {
        child.kill('SIGKILL');
        throw new Error(`the Collector did not start:\n${collector.#log.slice(-2000)}`);
      }
      await sleep(20);
    }
    return collector;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  spans(): CollectorSpan[] {
    return parseSpans(this.#output);
  }

  /** Ends it as its supervisor would; all it took is printed afterwards. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill('SIGTERM');
    await once(this.#process, 'close');
  }
}
