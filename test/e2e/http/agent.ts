// The real agent for the HTTP tests: started as a process with a configuration of its own, asked over /metrics. Its
// programs see the whole machine, so everything is asked for by port.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse } from 'yaml';
import type { ConfigInput } from '../../../exporter/config/schema.ts';
import { BIN, type RunningProcess, start } from '../cli_process.ts';

export type Labels = Readonly<Record<string, string | number>>;

/** One sample of an exposition. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Labels of its exemplar, in OpenMetrics. */
  readonly exemplar?: Readonly<Record<string, string>>;
}

const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

function labelsOf(text: string): Record<string, string> {
  const plain = (value: string) => value.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
  return Object.fromEntries([...text.matchAll(LABEL)].map(([, name, value]) => [name, plain(value ?? '')]));
}

/** Reads the text format and OpenMetrics. */
export function parseExposition(text: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const match = /^(\w+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)(?: # \{([^}]*)\}.*)?$/.exec(line);
      if (match === null) throw new Error(`not a sample: ${line}`);
      const [, name = '', labels = '', value, exemplar] = match;
      const sample = { name, labels: labelsOf(labels), value: Number(value) };
      return exemplar === undefined ? sample : { ...sample, exemplar: labelsOf(exemplar) };
    });
}

/** One scrape. */
export class Scrape {
  readonly text: string;
  readonly samples: readonly Sample[];

  constructor(text: string) {
    this.text = text;
    this.samples = parseExposition(text);
  }

  find(name: string, labels: Labels = {}): Sample[] {
    const wanted = Object.entries(labels).map(([key, value]) => [key, String(value)] as const);
    return this.samples.filter(
      (sample) => sample.name === name && wanted.every(([key, value]) => sample.labels[key] === value),
    );
  }

  sum(name: string, labels: Labels = {}): number {
    return this.find(name, labels).reduce((total, { value }) => total + value, 0);
  }

  /** Values by the values of some labels joined by a space; zeros are left out. */
  table(name: string, labels: Labels, by: readonly string[]): Record<string, number> {
    const table = new Map<string, number>();
    for (const sample of this.find(name, labels)) {
      const row = by.map((label) => sample.labels[label] ?? '-').join(' ');
      table.set(row, (table.get(row) ?? 0) + sample.value);
    }
    return Object.fromEntries([...table].filter(([, value]) => value !== 0).sort());
  }

  /** Requests that one side's duration histogram counted. */
  requests(side: Side, labels: Labels, by: readonly string[]): Record<string, number> {
    return this.table(`http_${side}_request_duration_seconds_count`, labels, by);
  }

  /** Cumulative counts of a side's duration histogram by upper bound in seconds. */
  buckets(side: Side, labels: Labels): Map<number, number> {
    const buckets = new Map<number, number>();
    for (const { labels: own, value } of this.find(`http_${side}_request_duration_seconds_bucket`, labels)) {
      const bound = own.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(own.le);
      buckets.set(bound, (buckets.get(bound) ?? 0) + value);
    }
    return buckets;
  }

  /**
   * Losses of the HTTP probe by stage, those that are not zero. They are the whole host's: what other programs send that
   * is no HTTP after all (`http_malformed`) is among them.
   */
  losses(): Record<string, number> {
    const losses = this.table('knp_agent_lost_total', {}, ['stage']);
    return Object.fromEntries(Object.entries(losses).filter(([stage]) => stage.startsWith('http_')));
  }
}

export type Side = 'client' | 'server';
export const METHOD_STATUS_ROUTE = [
  'http_request_method',
  'http_response_status_code',
  'http_route',
] as const;

/** A running agent. */
export class HttpAgent {
  readonly process: RunningProcess;
  readonly url: string;
  readonly #folder: string;

  private constructor(process: RunningProcess, url: string, folder: string) {
    this.process = process;
    this.url = url;
    this.#folder = folder;
  }

  /** Starts it and waits until it measures. `yaml`: its configuration. */
  static async start(yaml = ''): Promise<HttpAgent> {
    const folder = mkdtempSync(join(tmpdir(), 'knp-http-e2e-'));
    const file = join(folder, 'agent.yaml');
    // Checked here already: a test with a misspelt setting must not pass.
    const config = { kubernetes: { enabled: false }, ...((parse(yaml) as ConfigInput | null) ?? {}) };
    writeFileSync(file, JSON.stringify(config));
    const process = start([BIN, 'run', '--listen', '127.0.0.1:0', '--config', file, '--log-format', 'json']);
    try {
      const [line] = await process.until('stderr', /^.*"msg":"measuring".*$/m);
      const { url, probes } = JSON.parse(line) as { url: string; probes: string[] };
      if (!probes.includes('http')) throw new Error(`HTTP is not measured:\n${process.output.stderr}`);
      return new HttpAgent(process, url, folder);
    } catch (error) {
      process.child.kill('SIGKILL');
      rmSync(folder, { recursive: true });
      throw error;
    }
  }

  async scrape(accept = 'text/plain'): Promise<Scrape> {
    const response = await fetch(`${this.url}/metrics`, { headers: { accept } });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`/metrics answered ${response.status}: ${text}`);
    return new Scrape(text);
  }

  /**
   * Scrapes until nothing changes in what `view` makes of it: a path that is new has its name one or two collections
   * later. Answers the last scrape.
   */
  async settled(view: (scrape: Scrape) => unknown): Promise<Scrape> {
    let before: string | undefined;
    for (let i = 0; i < 50; i++) {
      const scrape = await this.scrape();
      const now = JSON.stringify(view(scrape));
      if (now === before && i >= 4) return scrape;
      before = now;
      await sleep(50);
    }
    throw new Error(`the counts never came to rest: ${before}`);
  }

  /** Ends it; answers all that it wrote. */
  async stop(): Promise<{ code: number | null; log: string }> {
    this.process.child.kill('SIGTERM');
    const { code, stderr, stdout } = await this.process.ended;
    rmSync(this.#folder, { recursive: true, force: true });
    return { code, log: stderr + stdout };
  }

  /** Resident memory in bytes. */
  async memory(): Promise<number> {
    return (await this.scrape()).sum('knp_agent_memory_resident_bytes');
  }
}
