// Three network namespaces: a client's, a node that forwards and translates, and one beyond with the servers. What
// proxies on nodes do is loaded into the node's, with the tools that they use.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { GUEST } from '../../../guests/scale.ts';
import { sh } from '../harness.ts';
import type { ObservedEdge } from './observer.ts';

export const PORT = 28770;
export const NODE_PORT = 31770;

export interface Family {
  readonly version: 4 | 6;
  /** An address that nobody has, as a Service's. */
  readonly service: string;
  readonly node: string;
  readonly backends: readonly [string, string];
}

export const FAMILIES: readonly Family[] = [
  { version: 4, service: '10.217.9.1', node: '10.217.1.1', backends: ['10.217.2.2', '10.217.2.3'] },
  { version: 6, service: 'fd17:9::1', node: 'fd17:1::1', backends: ['fd17:2::2', 'fd17:2::3'] },
];

export type ProxyKind = 'nftables' | 'iptables' | 'ipvs';

/** A child that answers a line with a line. */
export class Child {
  readonly process: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiting: ((line: string) => void)[] = [];
  readonly ended: Promise<void>;

  constructor(netns: string, script: string, args: readonly string[]) {
    const path = fileURLToPath(new URL(script, import.meta.url));
    this.process = spawn('nsenter', [`--net=/run/netns/${netns}`, process.execPath, path, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let partial = '';
    this.process.stdout?.on('data', (data) => {
      partial += data;
      const lines = partial.split('\n');
      partial = lines.pop() ?? '';
      for (const line of lines) {
        const take = this.#waiting.shift();
        if (take) take(line);
        else this.#lines.push(line);
      }
    });
    this.ended = new Promise((resolve) => this.process.on('close', () => resolve()));
  }

  line(): Promise<string> {
    const line = this.#lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    return new Promise((resolve, reject) => {
      this.#waiting.push(resolve);
      void this.ended.then(() => reject(new Error('the child ended')));
    });
  }

  async ask(): Promise<string> {
    this.process.stdin?.write('\n');
    return this.line();
  }

  async end(): Promise<void> {
    this.process.stdin?.end();
    await this.ended;
  }
}

export class NatLab {
  readonly client: string;
  readonly node: string;
  readonly far: string;

  constructor(name: string) {
    this.client = `knp-nat-${name}-client`;
    this.node = `knp-nat-${name}-node`;
    this.far = `knp-nat-${name}-far`;
    this.remove();
    // Names of links are unique in the namespace where they are made: each pair is made inside the node's.
    sh(`
      for n in ${this.client} ${this.node} ${this.far}; do ip netns add $n; ip -n $n link set lo up; done
      ip -n ${this.node} link add to-client type veth peer name eth0 netns ${this.client}
      ip -n ${this.node} link add to-far type veth peer name eth0 netns ${this.far}
      ip -n ${this.node} addr add 10.217.1.1/24 dev to-client; ip -n ${this.node} addr add fd17:1::1/64 dev to-client nodad
      ip -n ${this.node} addr add 10.217.2.1/24 dev to-far; ip -n ${this.node} addr add fd17:2::1/64 dev to-far nodad
      ip -n ${this.client} addr add 10.217.1.2/24 dev eth0; ip -n ${this.client} addr add fd17:1::2/64 dev eth0 nodad
      for host in 2 3; do
        ip -n ${this.far} addr add 10.217.2.$host/24 dev eth0; ip -n ${this.far} addr add fd17:2::$host/64 dev eth0 nodad
      done
      ip -n ${this.node} link set to-client up; ip -n ${this.node} link set to-far up
      ip -n ${this.client} link set eth0 up; ip -n ${this.far} link set eth0 up
      ip -n ${this.client} route add default via 10.217.1.1; ip -n ${this.client} -6 route add default via fd17:1::1
      ip -n ${this.far} route add default via 10.217.2.1; ip -n ${this.far} -6 route add default via fd17:2::1
      # the node itself dials Services too: its packets need a route before they are translated
      ip -n ${this.node} route add 10.217.9.0/24 dev to-far; ip -n ${this.node} -6 route add fd17:9::/64 dev to-far
      nsenter --net=/run/netns/${this.node} sh -ec '
        echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
    `);
  }

  in(netns: string, ...command: string[]): string {
    return execFileSync('nsenter', [`--net=/run/netns/${netns}`, ...command], { encoding: 'utf8' });
  }

  #feed(input: string, ...command: string[]): void {
    execFileSync('nsenter', [`--net=/run/netns/${this.node}`, ...command], { input, encoding: 'utf8' });
  }

  /** Loads what translates Service address and node port to the backends. */
  apply(kind: ProxyKind, port = PORT): void {
    if (kind === 'nftables') this.#feed(nftables(port), 'nft', '-f', '-');
    else if (kind === 'iptables')
      for (const family of FAMILIES)
        this.#feed(iptables(family, port), family.version === 4 ? 'iptables-restore' : 'ip6tables-restore');
    else this.#ipvs(port);
  }

  clear(kind: ProxyKind): void {
    if (kind === 'nftables') this.in(this.node, 'nft', 'flush', 'ruleset');
    else for (const command of ['iptables', 'ip6tables']) this.in(this.node, command, '-t', 'nat', '-F');
    if (kind !== 'ipvs') return;
    this.in(this.node, 'ipvsadm', '-C');
    for (const { version, service } of FAMILIES)
      this.in(this.node, 'ip', 'addr', 'del', `${service}/${version === 4 ? 32 : 128}`, 'dev', 'lo');
  }

  /** As kube-proxy's IPVS mode: the addresses are on an interface, translated packets are tracked, sources masqueraded. */
  #ipvs(port: number): void {
    this.in(this.node, 'sh', '-ec', 'echo 1 > /proc/sys/net/ipv4/vs/conntrack');
    for (const { version, service, node, backends } of FAMILIES) {
      this.in(this.node, 'ip', 'addr', 'add', `${service}/${version === 4 ? 32 : 128}`, 'dev', 'lo');
      // Also what makes the kernel track connections in this namespace at all.
      const masquerade = ['-t', 'nat', '-A', 'POSTROUTING', '-o', 'to-far', '-j', 'MASQUERADE'];
      this.in(this.node, version === 4 ? 'iptables' : 'ip6tables', ...masquerade);
      const written = (address: string) => (version === 4 ? address : `[${address}]`);
      for (const virtual of [`${written(service)}:80`, `${written(node)}:${NODE_PORT}`]) {
        this.in(this.node, 'ipvsadm', '-A', '-t', virtual, '-s', 'rr');
        for (const backend of backends)
          this.in(this.node, 'ipvsadm', '-a', '-t', virtual, '-r', `${written(backend)}:${port}`, '-m');
      }
    }
  }

  /** What connection tracking itself says: connections to `address`:`port` by who answers. */
  tracked({ version, backends }: Family, address: string, port: number): Record<string, number> {
    const list = [
      '-L',
      '-p',
      'tcp',
      '-f',
      `ipv${version}`,
      '--orig-dst',
      address,
      '--orig-port-dst',
      String(port),
    ];
    const text = execFileSync('nsenter', [`--net=/run/netns/${this.node}`, 'conntrack', ...list], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const found: Record<string, number> = {};
    for (const line of text.split('\n').filter((each) => each.includes('src='))) {
      const answers = [...line.matchAll(/src=(\S+)/g)][1]?.[1] ?? '';
      const backend = backends.find((each) => each === answers) ?? answers;
      found[backend] = (found[backend] ?? 0) + 1;
    }
    return found;
  }

  remove(): void {
    for (const name of [this.client, this.node, this.far]) sh(`ip netns del ${name} 2>/dev/null || true`);
  }
}

/** Why a proxy cannot be had here; undefined where it can. */
export function unavailable(kind: ProxyKind): string | undefined {
  if (kind !== 'ipvs') return undefined;
  try {
    sh('{ command -v ipvsadm && modprobe ip_vs && modprobe ip_vs_rr; } >/dev/null 2>&1');
    return undefined;
  } catch {
    return GUEST === undefined ? 'this kernel has no IPVS, or there is no ipvsadm' : 'no ipvsadm';
  }
}

function nftables(port: number): string {
  const rules = FAMILIES.map(({ version, service, node, backends }) => {
    const ip = version === 4 ? 'ip' : 'ip6';
    const written = (address: string) => (version === 4 ? address : `[${address}]`);
    const chains = backends.map(
      (backend, i) => `chain endpoint${i} { tcp dport 1-65535 dnat to ${written(backend)}:${port}; }`,
    );
    return `table ${ip} nat {
      ${chains.join('\n')}
      chain service { numgen random mod 2 vmap { 0 : goto endpoint0, 1 : goto endpoint1 }; }
      chain services { ${ip} daddr ${service} tcp dport 80 goto service; ${ip} daddr ${node} tcp dport ${NODE_PORT} goto service; }
      chain prerouting { type nat hook prerouting priority -100; jump services; }
      chain output { type nat hook output priority -100; jump services; }
      chain postrouting { type nat hook postrouting priority 100; oifname "to-far" masquerade fully-random; }
    }`;
  });
  return rules.join('\n');
}

function iptables({ version, service, node, backends }: Family, port: number): string {
  const written = (address: string) => (version === 4 ? address : `[${address}]`);
  return `*nat
:SERVICES - [0:0]
:SVC - [0:0]
-A PREROUTING -j SERVICES
-A OUTPUT -j SERVICES
-A POSTROUTING -o to-far -j MASQUERADE --random-fully
-A SERVICES -d ${service} -p tcp --dport 80 -j SVC
-A SERVICES -d ${node} -p tcp --dport ${NODE_PORT} -j SVC
-A SVC -m statistic --mode random --probability 0.5 -p tcp -j DNAT --to-destination ${written(backends[0])}:${port}
-A SVC -p tcp -j DNAT --to-destination ${written(backends[1])}:${port}
COMMIT
`;
}

export interface Observation {
  readonly edges: readonly ObservedEdge[];
  readonly lost: Readonly<Record<string, number>>;
}

/** Starts the probe on the node. */
export async function observe(lab: NatLab, keep: readonly string[], self: number): Promise<Child> {
  const child = new Child(lab.node, 'observer.ts', [JSON.stringify({ keep, self })]);
  const { hooks } = JSON.parse(await child.line()) as { hooks: string[] };
  if (hooks[0] !== 'socket') throw new Error('connection tracking is not read here');
  return child;
}
