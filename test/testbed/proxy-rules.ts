// Service addresses as kube-proxy implements them: the same chains, matches and order, for its iptables and its
// nftables mode. Each node has a namespace of its own, so a whole ruleset is loaded at once.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';

export interface ServicePortRules {
  /** namespace/name:port, as kube-proxy's comments have it. */
  readonly name: string;
  readonly clusterIp: string;
  readonly port: number;
  readonly nodePort?: number;
  readonly externalIps?: readonly string[];
  /** Ready endpoints, `address:port` or `[address]:port`. */
  readonly endpoints: readonly string[];
}

export interface ProxyRulesOptions {
  readonly family: 4 | 6;
  readonly podRange: string;
  /** Traffic of pods to these addresses leaves with the node's address. */
  readonly externalRange: string;
  readonly services: readonly ServicePortRules[];
}

export type ProxyMode = 'iptables' | 'nftables';

/** Replaces the rules of a node's namespace. */
export function applyProxyRules(netns: string, mode: ProxyMode, options: ProxyRulesOptions): void {
  const [command, ...args] =
    mode === 'iptables'
      ? [options.family === 4 ? 'iptables-restore' : 'ip6tables-restore']
      : ['nft', '-f', '-'];
  const input = mode === 'iptables' ? iptablesRules(options) : nftablesRules(options);
  execFileSync('nsenter', [`--net=/run/netns/${netns}`, command, ...args] as string[], {
    input,
    stdio: ['pipe', 'ignore', 'inherit'],
  });
}

/** The address of an endpoint. */
function addressOf(endpoint: string): string {
  return endpoint.replace(/^\[?([^\]]*?)\]?:\d+$/, '$1');
}

/** kube-proxy's chain names end in 16 characters of a hash, for iptables allows 28. */
function chain(kind: string, name: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bytes = createHash('sha256').update(name).digest();
  const letters = [...bytes.subarray(0, 16)].map((byte) => alphabet[byte % 32]);
  return `KUBE-${kind}-${letters.join('')}`;
}

/** The text that iptables-restore takes. */
export function iptablesRules({ family, podRange, externalRange, services }: ProxyRulesOptions): string {
  const host = family === 4 ? 32 : 128;
  const chains = ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ'];
  const rules = [
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    `-A POSTROUTING -s ${podRange} -d ${externalRange} -j MASQUERADE`,
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
    '-A KUBE-POSTROUTING -j MASQUERADE --random-fully',
  ];
  const rejects: string[] = [];
  for (const service of services) {
    const { name, clusterIp, port, nodePort, externalIps = [], endpoints } = service;
    const [svc, ext] = [chain('SVC', name), chain('EXT', name)];
    const comment = `-m comment --comment "${name}"`;
    if (endpoints.length === 0) {
      const reject = `${comment} -d ${clusterIp}/${host} -p tcp --dport ${port} -j REJECT`;
      rejects.push(`-A FORWARD ${reject}`, `-A OUTPUT ${reject}`);
      continue;
    }
    chains.push(svc, ext);
    rules.push(`-A KUBE-SERVICES ${comment} -d ${clusterIp}/${host} -p tcp --dport ${port} -j ${svc}`);
    for (const address of externalIps) {
      rules.push(`-A KUBE-SERVICES ${comment} -d ${address}/${host} -p tcp --dport ${port} -j ${ext}`);
    }
    if (nodePort) rules.push(`-A KUBE-NODEPORTS ${comment} -p tcp --dport ${nodePort} -j ${ext}`);
    rules.push(`-A ${ext} -j KUBE-MARK-MASQ`, `-A ${ext} -j ${svc}`);
    rules.push(
      `-A ${svc} ${comment} ! -s ${podRange} -d ${clusterIp}/${host} -p tcp --dport ${port} -j KUBE-MARK-MASQ`,
    );
    endpoints.forEach((endpoint, index) => {
      const sep = chain('SEP', `${name} ${endpoint}`);
      chains.push(sep);
      const left = endpoints.length - index;
      const share = left > 1 ? `-m statistic --mode random --probability ${(1 / left).toFixed(10)} ` : '';
      rules.push(`-A ${svc} ${comment} ${share}-j ${sep}`);
      // Hairpin: a pod that reaches itself through its Service must not see its own address as the source.
      rules.push(`-A ${sep} ${comment} -s ${addressOf(endpoint)}/${host} -j KUBE-MARK-MASQ`);
      rules.push(`-A ${sep} ${comment} -p tcp -m tcp -j DNAT --to-destination ${endpoint}`);
    });
  }
  // Must be last: the Services' own addresses come first.
  rules.push('-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS');
  const nat = ['*nat', ...chains.map((name) => `:${name} - [0:0]`), ...rules, 'COMMIT'];
  return `${[...nat, '*filter', ...rejects, 'COMMIT'].join('\n')}\n`;
}

/** The text that nft takes. */
export function nftablesRules({ family, podRange, externalRange, services }: ProxyRulesOptions): string {
  const ip = family === 4 ? 'ip' : 'ip6';
  const chains: string[] = [];
  const clusterIps: string[] = [];
  const nodePorts: string[] = [];
  const noEndpoints: string[] = [];
  for (const { name, clusterIp, port, nodePort, externalIps = [], endpoints } of services) {
    const label = name.replace(/[^a-z0-9]+/g, '-');
    if (endpoints.length === 0) {
      noEndpoints.push(`${clusterIp} . tcp . ${port} : goto reject-chain`);
      continue;
    }
    const numbered = endpoints.map((_, index) => `${index} : goto endpoint-${label}-${index}`);
    endpoints.forEach((endpoint, index) => {
      const source = `${ip} saddr ${addressOf(endpoint)} jump mark-for-masquerade`;
      chains.push(`chain endpoint-${label}-${index} {\n ${source}\n meta l4proto tcp dnat to ${endpoint}\n}`);
    });
    const fromOutside = `${ip} daddr ${clusterIp} tcp dport ${port} ${ip} saddr != ${podRange} jump mark-for-masquerade`;
    const pick = `numgen random mod ${endpoints.length} vmap { ${numbered.join(', ')} }`;
    chains.push(`chain service-${label} {\n ${fromOutside}\n ${pick}\n}`);
    chains.push(`chain external-${label} {\n jump mark-for-masquerade\n goto service-${label}\n}`);
    clusterIps.push(`${clusterIp} . tcp . ${port} : goto service-${label}`);
    for (const address of externalIps) clusterIps.push(`${address} . tcp . ${port} : goto external-${label}`);
    if (nodePort) nodePorts.push(`tcp . ${nodePort} : goto external-${label}`);
  }
  const elements = (list: string[]): string => (list.length > 0 ? `elements = { ${list.join(', ')} }` : '');
  return `table ${ip} kube-proxy
delete table ${ip} kube-proxy
table ${ip} kube-proxy {
 chain mark-for-masquerade { mark set mark or 0x4000; }
 chain reject-chain { reject; }
 ${chains.join('\n ')}
 map service-ips { type ipv${family}_addr . inet_proto . inet_service : verdict; ${elements(clusterIps)}; }
 map service-nodeports { type inet_proto . inet_service : verdict; ${elements(nodePorts)}; }
 map no-endpoint-services { type ipv${family}_addr . inet_proto . inet_service : verdict; ${elements(noEndpoints)}; }
 chain services {
  ${ip} daddr . meta l4proto . th dport vmap @service-ips
  fib daddr type local meta l4proto . th dport vmap @service-nodeports
 }
 chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
 chain nat-output { type nat hook output priority -100; jump services; }
 chain nat-postrouting {
  type nat hook postrouting priority srcnat;
  ${ip} saddr ${podRange} ${ip} daddr ${externalRange} masquerade
  mark & 0x4000 == 0 return
  mark set mark xor 0x4000
  masquerade fully-random
 }
 chain filter-forward {
  type filter hook forward priority -110;
  ct state new ${ip} daddr . meta l4proto . th dport vmap @no-endpoint-services
 }
 chain filter-output {
  type filter hook output priority -110;
  ct state new ${ip} daddr . meta l4proto . th dport vmap @no-endpoint-services
 }
}
`;
}
