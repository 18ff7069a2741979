// The demo's shop: services in three languages in a network namespace of their own, and their faults. Called by demo.ts.
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { AlertName } from '../../alerts/settings.ts';
import { NAME, type Processes, type Started } from './processes.ts';

const PORTS = { web: 8080, cart: 8081, payment: 8082, stock: 8083, search: 8084, sink: 8085 } as const;
const FOLDER = join(import.meta.dirname, 'shop');
/** Of the packets, both ways. */
const LOSS = 0.05;

export interface Fault {
  readonly about: string;
  /** The alert that must fire, and labels that it must have. */
  readonly alert: AlertName;
  readonly labels: Readonly<Record<string, string>>;
}

export const FAULTS = {
  slow: {
    about: 'shop-search takes 1.5 s',
    alert: 'KnpLatencyHigh',
    labels: { server_workload: 'shop-search' },
  },
  errors: {
    about: 'shop-cart answers every second request with 500',
    alert: 'KnpErrorBudgetBurnFast',
    labels: { server_workload: 'shop-cart' },
  },
  overflow: {
    about: 'shop-payment does not accept connections: its queue overflows',
    alert: 'KnpListenDrops',
    labels: { server_workload: 'shop-payment', server_port: String(PORTS.payment) },
  },
  refused: {
    about: 'shop-stock does not listen',
    alert: 'KnpNoReadyBackend',
    labels: { server_port: String(PORTS.stock) },
  },
  stall: {
    about: 'shop-sink reads slowly: whoever sends to it waits',
    alert: 'KnpReceiverLimited',
    labels: { client_workload: 'shop-customers', server_workload: 'shop-sink' },
  },
  loss: {
    about: `${LOSS * 100} % of the packets are lost`,
    alert: 'KnpRetransmits',
    labels: { client_workload: 'shop-customers', server_workload: 'shop-sink' },
  },
} as const satisfies Record<string, Fault>;
export type FaultName = keyof typeof FAULTS;

const inside = (...command: string[]): string[] => ['ip', 'netns', 'exec', NAME, ...command];
const lossRule = [
  'INPUT',
  '-p',
  'tcp',
  '-m',
  'statistic',
  '--mode',
  'random',
  '--probability',
  String(LOSS),
  '-j',
  'DROP',
];

export class Shop {
  readonly #services: Readonly<
    Record<'web' | 'cart' | 'payment' | 'stock' | 'search' | 'sink' | 'load', Started>
  >;
  readonly #on = new Set<FaultName>();

  constructor(processes: Processes) {
    execFileSync('ip', ['netns', 'add', NAME]);
    // A network's size of packets, instead of loopback's 64 KiB.
    execFileSync('ip', ['-n', NAME, 'link', 'set', 'lo', 'mtu', '1500', 'up']);
    const start = (...command: string[]): Started => processes.start(inside(...command));
    const port = (name: keyof typeof PORTS): string => String(PORTS[name]);
    const service = (...args: string[]): Started => start('python3', join(FOLDER, 'service.py'), ...args);
    this.#services = {
      payment: service('payment', port('payment')),
      search: service('search', port('search')),
      cart: service('cart', port('cart'), port('payment')),
      stock: start('perl', join(FOLDER, 'stock.pl'), port('stock')),
      sink: start('python3', join(FOLDER, 'sink.py'), port('sink')),
      web: start(
        process.execPath,
        join(FOLDER, 'web.mjs'),
        port('web'),
        port('cart'),
        port('search'),
        port('stock'),
      ),
      load: start(process.execPath, join(FOLDER, 'load.mjs'), port('web'), port('sink')),
    };
  }

  get on(): ReadonlySet<FaultName> {
    return this.#on;
  }

  /** Why a fault cannot be made here, if so. */
  unavailable(fault: FaultName): string | undefined {
    if (fault !== 'loss') return undefined;
    const { status, stderr } = spawnSync('ip', inside('iptables', '-C', ...lossRule).slice(1), {
      encoding: 'utf8',
    });
    // 1: there is no such rule, as it should be.
    return status === 1 || status === 0 ? undefined : `iptables cannot drop at random here: ${stderr.trim()}`;
  }

  set(fault: FaultName, on: boolean): void {
    if (this.#on.has(fault) === on) return;
    if (on) this.#on.add(fault);
    else this.#on.delete(fault);
    if (fault === 'loss') {
      const [program = '', ...args] = inside('iptables', on ? '-A' : '-D', ...lossRule);
      execFileSync(program, args);
      return;
    }
    const target = {
      slow: 'search',
      errors: 'cart',
      overflow: 'payment',
      refused: 'stock',
      stall: 'sink',
    } as const;
    this.#services[target[fault]].child.stdin?.write(`${fault} ${on ? 'on' : 'off'}\n`);
  }

  /** Logs of services that have ended, which none should. */
  ended(): string[] {
    return Object.entries(this.#services)
      .filter(([, { child }]) => child.exitCode !== null || child.signalCode !== null)
      .map(([name, { log }]) => `${name}: ${log()}`);
  }

  remove(): void {
    spawnSync('ip', ['netns', 'del', NAME]);
  }
}
