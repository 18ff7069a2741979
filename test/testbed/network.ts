// The testbed's network: each node is a network namespace with forwarding and kube-proxy's rules of its own, each pod
// another one behind a routed veth (as Calico and the ptp plugin wire it), all nodes on one bridge together with
// "external" hosts. Nothing but one veth and its routes is added to the namespace the tests run in.
import { execFileSync } from 'node:child_process';
import type { Slot } from './leftovers.ts';

export interface NodeNetwork {
  readonly name: string;
  readonly netns: string;
  readonly address: string;
  readonly address6: string;
  /** Pods of this node: a /24. */
  readonly podRange: string;
  /** The same in IPv6: a /64. */
  readonly podRange6: string;
}

export interface PodNetwork {
  readonly netns: string;
  readonly address: string;
  readonly address6: string;
}

/** The IPv6 address, in canonical form, that goes with one of the testbed's: 10.64.3.5 is fd00:64:0:103::5. */
export function sixth(address: string): string {
  const [first, second, third, fourth] = address.split('.').map(Number) as [number, number, number, number];
  if (first === 198) return `fd00:${third}:0:198::${fourth.toString(16)}`;
  return `fd00:${second}:0:${(0x100 + third).toString(16)}::${fourth.toString(16)}`;
}

/** A pod's gateway, on every veth the same, as Calico does it. */
const GATEWAY = '169.254.1.1';
const GATEWAY6 = 'fe80::1';

export class TestbedNetwork {
  readonly slot: Slot;
  /** 10.N: the testbed's addresses are 10.N.0.0/16. */
  readonly prefix: string;
  /** This side's address in the nodes' network: where the API server listens. */
  readonly hostAddress: string;
  /** All pods of all nodes. */
  readonly podRange: string;
  readonly serviceRange: string;
  /** Addresses outside the cluster, a /24 of the range for benchmarks (RFC 2544). */
  readonly externalRange: string;
  /** The three ranges in IPv6. */
  readonly podRange6: string;
  readonly serviceRange6: string;
  readonly externalRange6: string;
  readonly nodes = new Map<string, NodeNetwork>();
  readonly #fabric: string;
  readonly #used = new Set<string>();
  #links = 0;
  #externals = 0;

  constructor(slot: Slot) {
    const second = 64 + slot.number;
    this.slot = slot;
    this.prefix = `10.${second}`;
    this.hostAddress = `10.${second}.127.1`;
    this.podRange = `10.${second}.0.0/18`;
    this.serviceRange = `10.${second}.128.0/17`;
    this.externalRange = `198.18.${second}.0/24`;
    this.podRange6 = `${sixth(`${this.prefix}.0.0`)}/58`.replace('::0/', '::/');
    this.serviceRange6 = `${sixth(`${this.prefix}.128.0`)}/112`.replace('::0/', '::/');
    this.externalRange6 = `${sixth(`198.18.${second}.0`)}/64`.replace('::0/', '::/');
    this.#fabric = `${slot.name}-fabric`;
    this.#addNetns(this.#fabric);
    ip(['-n', this.#fabric, '-batch', '-'], ['link add br0 type bridge forward_delay 0', 'link set br0 up']);
    // The name of an interface has at most 15 characters.
    const host = `knptb${slot.number}`;
    slot.note({ kind: 'link', name: host });
    ip(
      ['-batch', '-'],
      [
        `link add ${host} type veth peer name host netns ${this.#fabric}`,
        `addr add ${this.hostAddress}/24 dev ${host}`,
        `addr add ${sixth(this.hostAddress)}/64 dev ${host} nodad`,
        `link set ${host} up`,
        `route add ${this.externalRange} dev ${host}`,
        `route add ${this.externalRange6} dev ${host}`,
      ],
    );
    ip(['-n', this.#fabric, '-batch', '-'], ['link set host master br0', 'link set host up']);
  }

  #addNetns(name: string): void {
    this.slot.note({ kind: 'netns', name });
    execFileSync('ip', ['netns', 'add', name], { stdio: ['ignore', 'ignore', 'inherit'] });
    ip(['-n', name, '-batch', '-'], ['link set lo up']);
  }

  #plugIntoFabric(netns: string): void {
    const port = `p${this.#links++}`;
    ip(['-n', netns, '-batch', '-'], [`link add eth0 type veth peer name ${port} netns ${this.#fabric}`]);
    ip(['-n', this.#fabric, '-batch', '-'], [`link set ${port} master br0`, `link set ${port} up`]);
  }

  addNode(name: string): NodeNetwork {
    const number = this.nodes.size;
    if (number > 60) throw new Error('a testbed has at most 60 nodes');
    const node: NodeNetwork = {
      name,
      netns: `${this.slot.name}-node-${name}`,
      address: `${this.prefix}.127.${10 + number}`,
      address6: sixth(`${this.prefix}.127.${10 + number}`),
      podRange: `${this.prefix}.${number}.0/24`,
      podRange6: `${sixth(`${this.prefix}.${number}.0`)}/64`.replace('::0/', '::/'),
    };
    this.#addNetns(node.netns);
    this.#plugIntoFabric(node.netns);
    ip(
      ['-n', node.netns, '-batch', '-'],
      [
        `addr add ${node.address}/24 dev eth0`,
        `addr add ${node.address6}/64 dev eth0 nodad`,
        'link set eth0 up',
        `route add default via ${this.hostAddress}`,
        `route add default via ${sixth(this.hostAddress)}`,
        `route add ${this.externalRange} dev eth0`,
        `route add ${this.externalRange6} dev eth0`,
        ...[...this.nodes.values()].flatMap((other) => routesTo(other)),
      ],
    );
    // Replies of hairpin connections come from where reverse path filtering does not expect them.
    sysctl(node.netns, {
      'ipv4/ip_forward': 1,
      'ipv6/conf/all/forwarding': 1,
      'ipv4/conf/all/rp_filter': 0,
      'ipv4/conf/default/rp_filter': 0,
    });
    for (const other of this.nodes.values()) {
      ip(['-n', other.netns, '-batch', '-'], routesTo(node));
    }
    ip(['-batch', '-'], routesTo(node));
    this.nodes.set(name, node);
    return node;
  }

  /**
   * Makes a node's pods as good as on another machine: to other nodes they answer through a SYN proxy, which gives the
   * two ends of a connection different sequence numbers, so that nothing in one socket tells of the other. Dialling
   * the node itself (node ports, host network) no longer works from elsewhere.
   */
  separate(name: string): void {
    const node = this.nodes.get(name);
    if (!node) throw new Error(`no node ${name}`);
    const rules = `table inet separate {
      chain raw { type filter hook prerouting priority raw; iifname eth0 tcp flags & (fin|syn|rst|ack) == syn notrack; }
      chain forward {
        type filter hook forward priority filter;
        iifname eth0 meta l4proto tcp ct state invalid,untracked synproxy mss 1400 wscale 7 timestamp sack-perm
        iifname eth0 ct state invalid drop
      }
    }`;
    const command = 'echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose; nft -f -';
    execFileSync('nsenter', [`--net=/run/netns/${node.netns}`, 'sh', '-ec', command], {
      input: rules,
      stdio: ['pipe', 'ignore', 'inherit'],
    });
  }

  /** Connects a new pod's namespace. The lowest free address is taken unless one is asked for. */
  addPod(node: NodeNetwork, name: string, address = this.#freeAddress(node)): PodNetwork {
    if (this.#used.has(address)) throw new Error(`address ${address} is in use`);
    this.#used.add(address);
    const netns = `${this.slot.name}-pod-${name}`;
    this.#addNetns(netns);
    const link = `veth${this.#links++}`;
    const address6 = sixth(address);
    ip(
      ['-n', node.netns, '-batch', '-'],
      [
        `link add ${link} type veth peer name eth0 netns ${netns}`,
        `addr add ${GATEWAY}/32 dev ${link}`,
        `addr add ${GATEWAY6}/64 dev ${link} nodad`,
        `link set ${link} up`,
        `route add ${address}/32 dev ${link}`,
        `route add ${address6}/128 dev ${link}`,
      ],
    );
    ip(
      ['-n', netns, '-batch', '-'],
      [
        `addr add ${address}/32 dev eth0`,
        `addr add ${address6}/128 dev eth0 nodad`,
        'link set eth0 up',
        `route add ${GATEWAY} dev eth0`,
        `route add default via ${GATEWAY}`,
        `route add default via ${GATEWAY6} dev eth0`,
      ],
    );
    return { netns, address, address6 };
  }

  #freeAddress(node: NodeNetwork): string {
    const start = node.podRange.replace(/\.0\/24$/, '');
    for (let host = 2; host < 255; host++) if (!this.#used.has(`${start}.${host}`)) return `${start}.${host}`;
    throw new Error(`${node.podRange} is full`);
  }

  /** Takes a pod off the network; its address is free at once. */
  removePod(pod: PodNetwork): void {
    ip(['-batch', '-'], [`netns del ${pod.netns}`]);
    this.#used.delete(pod.address);
  }

  /** A host outside the cluster: it sees the node's address as a pod's, and knows no pod addresses. */
  addExternal(name: string): PodNetwork {
    const netns = `${this.slot.name}-external-${name}`;
    const address = this.externalRange.replace(/0\/24$/, String(10 + this.#externals++));
    this.#addNetns(netns);
    this.#plugIntoFabric(netns);
    ip(
      ['-n', netns, '-batch', '-'],
      [
        `addr add ${address}/24 dev eth0`,
        `addr add ${sixth(address)}/64 dev eth0 nodad`,
        'link set eth0 up',
        `route add ${this.prefix}.127.0/24 dev eth0`,
        `route add ${sixth(`${this.prefix}.127.0`)}/64 dev eth0`.replace('::0/', '::/'),
      ],
    );
    return { netns, address, address6: sixth(address) };
  }
}

function routesTo(node: NodeNetwork): string[] {
  return [
    `route add ${node.podRange} via ${node.address}`,
    `route add ${node.podRange6} via ${node.address6}`,
  ];
}

/** Runs `ip` with one command a line on its standard input. */
function ip(args: string[], commands: string[]): void {
  execFileSync('ip', args, { input: `${commands.join('\n')}\n`, stdio: ['pipe', 'ignore', 'inherit'] });
}

function sysctl(netns: string, settings: Record<string, number>): void {
  const script = Object.entries(settings).map(([name, value]) => `echo ${value} > /proc/sys/net/${name}`);
  execFileSync('nsenter', [`--net=/run/netns/${netns}`, 'sh', '-ec', script.join('\n')], {
    stdio: 'inherit',
  });
}
