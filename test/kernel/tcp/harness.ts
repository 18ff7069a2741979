// What the TCP tests share: the probe loaded into the running kernel, the store it fills, and peers that count what
// they do. Every test uses process names and ports of its own, since the programs see the whole machine.
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { expect } from 'vitest';
import { defaultConfig } from '../../../exporter/config/schema.ts';
import { createHostIdentity, type HostIdentityOptions } from '../../../exporter/identity/host.ts';
import type { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { BpfLoader } from '../../../exporter/kernel/loader.ts';
import { type RunningCore, startCore } from '../../../exporter/probes/core.ts';
import { createTcpProbe, type TcpProbe } from '../../../exporter/probes/tcp/index.ts';
import type { MetricName } from '../../../exporter/telemetry/catalogue.ts';
import { type Point, SeriesStore } from '../../../exporter/telemetry/store.ts';
import { patience } from '../../guests/scale.ts';
import { buildPeer as build, peerPath } from '../peers/build.ts';

export { patience, scaled } from '../../guests/scale.ts';

/** The program; see test/kernel/peers/tcp_peer.c. */
export const PEER = peerPath('tcp_peer');

/** Compiles the peer if need be. */
export const buildPeer = (): void => build('tcp_peer');

/** What a peer did, by its own count. */
export interface Done {
  readonly connections: number;
  readonly sent: number;
  readonly received: number;
  readonly refused: number;
  readonly timed_out: number;
  readonly unreachable: number;
  readonly reset: number;
  readonly other: number;
  readonly errors: number;
}

export interface Peer {
  readonly process: ChildProcessWithoutNullStreams;
  readonly pid: number;
  /** Writes a line (`hold`: one more exchange over every connection) and gives what was done so far. */
  exchange(): Promise<Done>;
  /** Ends its standard input, waits for its end, gives what it did. */
  end(): Promise<Done>;
}

const running = new Set<ChildProcessWithoutNullStreams>();

/** Which sockets a peer makes. */
export type Protocol = 'tcp' | 'mptcp';

/** Starts a peer; `netns` runs it in that network namespace. Resolves when it is ready (serve, hold, listen, pass). */
export async function startPeer(
  args: readonly (string | number)[],
  netns?: string,
  protocol: Protocol = 'tcp',
): Promise<Peer> {
  const command = [...(protocol === 'mptcp' ? ['env', 'MPTCP=1'] : []), PEER, ...args.map(String)];
  const [file, ...rest] = netns === undefined ? command : ['ip', 'netns', 'exec', netns, ...command];
  const child = spawn(file as string, rest);
  running.add(child);
  let errors = '';
  child.stderr.on('data', (text) => {
    errors += text;
  });
  const lines: string[] = [];
  const waiting: ((line: string) => void)[] = [];
  let partial = '';
  child.stdout.on('data', (text) => {
    partial += text;
    const complete = partial.split('\n');
    partial = complete.pop() ?? '';
    for (const line of complete) {
      const take = waiting.shift();
      if (take) take(line);
      else lines.push(line);
    }
  });
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  void ended.then(() => running.delete(child));
  const nextLine = () =>
    new Promise<string>((resolve, reject) => {
      const line = lines.shift();
      if (line !== undefined) return resolve(line);
      waiting.push(resolve);
      void ended.then(() => reject(new Error(`tcp_peer ${args.join(' ')} ended: ${errors}`)));
    });
  if (args[0] !== 'connect') await nextLine();
  return {
    process: child,
    pid: child.pid as number,
    exchange: async () => {
      child.stdin.write('\n');
      return JSON.parse(await nextLine());
    },
    end: async () => {
      const last = args[0] === 'pass' ? undefined : nextLine();
      child.stdin.end();
      const done = last === undefined ? undefined : JSON.parse(await last);
      await ended;
      await drained(Number(args[3]), netns);
      return done;
    },
  };
}

/** How long the kernel may take to end connections whose processes are gone. */
const DRAIN_MILLIS = 5000;

/** Waits for the last acknowledgements: until then a connection that its processes have closed is nobody's, yet open. */
async function drained(port: number, netns?: string): Promise<void> {
  const deadline = Date.now() + patience(DRAIN_MILLIS);
  const filter = ['state', 'connected', 'exclude', 'time-wait', `( sport = :${port} or dport = :${port} )`];
  while (inNamespace(netns, 'ss', '-tanH', ...filter).trim() !== '' && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 5));
}

function inNamespace(netns: string | undefined, command: string, ...args: string[]): string {
  const [file, ...rest] =
    netns === undefined ? [command, ...args] : ['ip', 'netns', 'exec', netns, command, ...args];
  return execFileSync(file as string, rest, { encoding: 'utf8' });
}

/** Runs a client to its end. */
export async function runClient(args: readonly (string | number)[], netns?: string): Promise<Done> {
  const peer = await startPeer(['connect', ...args], netns);
  return peer.end();
}

/** For afterEach: nothing of a failed test keeps running. */
export function endPeers(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** The probe with a store of its own. */
export class Probe {
  readonly store = new SeriesStore();
  readonly core: RunningCore;
  readonly tcp: TcpProbe;
  #now = Date.now();

  constructor(
    options: {
      limits?: Partial<ReturnType<typeof defaultConfig>['limits']>;
      includeSelf?: boolean;
      self?: number;
      identity?: HostIdentityOptions;
      /** What the loader takes the kernel for. */
      features?: KernelFeatures;
    } = {},
  ) {
    const config = defaultConfig();
    this.core = startCore({
      loader: new BpfLoader(options.features && { features: options.features }),
      config: {
        ...config,
        limits: { ...config.limits, ...options.limits },
        identity: { ...config.identity, include_self: options.includeSelf ?? false },
      },
      identity: createHostIdentity({
        ...options.identity,
        listener: (port) => this.core.listener(port),
      }),
      features: new Set(['tcp_totals']),
      ...(options.self === undefined ? {} : { self: options.self }),
    });
    this.tcp = createTcpProbe({ core: this.core, config, store: this.store });
    this.collect();
  }

  /** One collection; `aheadMillis` lets time pass. */
  collect(aheadMillis = 1000): void {
    this.#now += aheadMillis;
    this.store.begin(this.#now);
    for (const _ of this.core.source.steps(this.#now));
    for (const _ of this.tcp.source.steps());
    this.store.settleNow();
  }

  points(metric: MetricName, labels: Record<string, string | number>): Point[] {
    return this.store
      .family(metric)
      .points.filter((point) =>
        Object.entries(labels).every(([name, value]) => point.labels.includes(`${name}="${value}"`)),
      );
  }

  /** Sum over all series of a metric with these labels. */
  sum(metric: MetricName, labels: Record<string, string | number>): number {
    return this.points(metric, labels).reduce((total, point) => total + point.value, 0);
  }

  lost(): Record<string, number> {
    return this.core.table.lost();
  }

  close(): void {
    this.tcp.close();
    this.core.close();
  }
}

/**
 * Nothing was lost in the kernel; the programs see the whole machine, so this holds for everybody's traffic. Only
 * sockets that were closing already when the probe came may end unseen: other programs may have had some.
 */
export const NOTHING_LOST = {
  socket_unseen: expect.any(Number),
  edge_table_full: 0,
  owner_table_full: 0,
  pair_table_full: 0,
  socket_storage: 0,
  edge_gone: 0,
  established: 0,
  conntrack_message: 0,
  mptcp_payload: 0,
  connect_result: 0,
};

/** `tcp_info` of sockets as `ss` prints it, by field name. */
export function ss(filter: string, netns?: string): Record<string, number>[] {
  return inNamespace(netns, 'ss', '-tinH', ...filter.split(' '))
    .split('\n')
    .filter((line) => line.includes('bytes_') || line.includes('cwnd:'))
    .map((line) =>
      Object.fromEntries(
        [...line.matchAll(/(\w+):(\d+(?:\.\d+)?)/g)].map(([, name, value]) => [
          name as string,
          Number(value),
        ]),
      ),
    );
}

/** The kernel's own counters (`nstat`), absolute. */
export function nstat(names: readonly string[], netns?: string): Record<string, number> {
  const text = inNamespace(netns, 'nstat', '-asz', ...names);
  return Object.fromEntries(
    [...text.matchAll(/^(\w+)\s+(\d+)/gm)].map(([, name, value]) => [name as string, Number(value)]),
  );
}

/** Runs a command, says what it printed where it fails. */
export function sh(command: string): string {
  return execFileSync('bash', ['-euc', command], { encoding: 'utf8' });
}

/** Two network namespaces joined by a veth pair: 10.213.N.1 and .2, fd13:N::1 and ::2. */
export class TwoHosts {
  readonly a: string;
  readonly b: string;
  readonly addressA: string;
  readonly addressB: string;
  readonly address6B: string;

  constructor(n: number) {
    this.a = `knp-tcp-a${n}`;
    this.b = `knp-tcp-b${n}`;
    this.addressA = `10.213.${n}.1`;
    this.addressB = `10.213.${n}.2`;
    this.address6B = `fd13:${n}::2`;
    this.remove();
    sh(`
      ip netns add ${this.a}; ip netns add ${this.b}
      ip link add knpv${n}a netns ${this.a} type veth peer name knpv${n}b netns ${this.b}
      ip -n ${this.a} addr add ${this.addressA}/24 dev knpv${n}a; ip -n ${this.b} addr add ${this.addressB}/24 dev knpv${n}b
      ip -n ${this.a} addr add fd13:${n}::1/64 dev knpv${n}a nodad; ip -n ${this.b} addr add ${this.address6B}/64 dev knpv${n}b nodad
      for n in ${this.a} ${this.b}; do ip -n $n link set lo up; done
      ip -n ${this.a} link set knpv${n}a up; ip -n ${this.b} link set knpv${n}b up
    `);
  }

  remove(): void {
    for (const name of [this.a, this.b]) sh(`ip netns del ${name} 2>/dev/null || true`);
  }
}
