// Which addresses are the cluster's: what the kernel's trie must keep exact, and what an address that no object names may
// be. Built lazily from cluster.ts by kubernetes_identity.ts.
import { type Cidr, formatAddress, isMapped, PrefixTable, parseAddress, parseCidr } from '../address.ts';
import type { IdentityRange } from '../types.ts';
import type { Cluster } from './cluster.ts';

/** The kernel's trie has room for 65,536. */
const MAX_RANGES = 60_000;

/**
 * Kept exact until the cluster is known: what the kernel has folded into `external` by then could not be named later.
 * RFC 1918, RFC 6598 (shared address space), RFC 4193 (unique local).
 */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'];

/** Kubernetes allows service ranges of up to 20 bits: a common prefix shorter than that is none. */
const SERVICE_PREFIX = 128 - 20;

export type ClusterPlace =
  /** In the pod range of a node. */
  | { readonly kind: 'node'; readonly node: string }
  /** Next to pods, in no node's range. */
  | { readonly kind: 'pods' }
  /** Among the services. */
  | { readonly kind: 'services' }
  /** Private, and the cluster is not known yet. */
  | { readonly kind: 'early' };

export class ClusterRanges {
  readonly #cluster: Cluster;
  readonly #synced: () => boolean;
  #table: PrefixTable<ClusterPlace> | undefined;
  #list: Cidr[] = [];

  /** @param synced true once every kind of object was listed */
  constructor(cluster: Cluster, synced: () => boolean) {
    this.#cluster = cluster;
    this.#synced = synced;
  }

  /** Something that matters has changed. */
  invalidate(): void {
    this.#table = undefined;
  }

  /** Where a canonical address is; undefined: outside the cluster. */
  place(address: string): ClusterPlace | undefined {
    const bytes = parseAddress(address);
    return bytes === undefined ? undefined : this.#build().lookup(bytes);
  }

  /** The prefixes for the trie, `base` (the host's own and the named ranges) included; the cluster's win. */
  list(base: readonly IdentityRange[]): IdentityRange[] {
    this.#build();
    const ranges = new Map(base.map((range) => [range.cidr, range]));
    for (const { text } of this.#list) {
      if (ranges.size >= MAX_RANGES) break;
      ranges.set(text, { cidr: text, kind: 'exact', id: 0 });
    }
    return [...ranges.values()];
  }

  #build(): PrefixTable<ClusterPlace> {
    if (this.#table !== undefined) return this.#table;
    const table = new PrefixTable<ClusterPlace>();
    const list: Cidr[] = [];
    const add = (cidr: Cidr | undefined, place: ClusterPlace): void => {
      if (cidr === undefined) return;
      table.set(cidr, place);
      list.push(cidr);
    };
    if (!this.#synced()) for (const cidr of PRIVATE) add(parseCidr(cidr), { kind: 'early' });
    for (const cidr of commonPrefixes(this.#cluster.clusterAddresses())) add(cidr, { kind: 'services' });
    for (const { cidr, node } of this.#cluster.podCidrs()) add(parseCidr(cidr), { kind: 'node', node });
    // Where pods are outside their nodes' ranges (some networks do not use them), the blocks around them.
    for (const block of this.#cluster.podBlocks()) {
      const cidr = parseCidr(block);
      if (cidr !== undefined && table.lookup(cidr.bytes)?.kind !== 'node') add(cidr, { kind: 'pods' });
    }
    // Nodes, services and endpoints that are no pods: known one by one, nothing follows for their neighbours.
    for (const address of this.#cluster.singleAddresses()) {
      const cidr = parseCidr(address);
      if (cidr !== undefined) list.push(cidr);
    }
    this.#table = table;
    this.#list = list;
    return table;
  }
}

/**
 * What all service addresses of a family begin with. It lies within the service range, whatever that is, so a service
 * whose object is a moment late is kept exact, too.
 */
function commonPrefixes(addresses: Iterable<string>): Cidr[] {
  const common = new Map<boolean, { bytes: Uint8Array; prefix: number }>();
  for (const address of addresses) {
    const bytes = parseAddress(address);
    if (bytes === undefined) continue;
    const family = isMapped(bytes);
    const known = common.get(family);
    if (known === undefined) common.set(family, { bytes, prefix: 128 });
    else known.prefix = Math.min(known.prefix, sharedBits(known.bytes, bytes));
  }
  const found: Cidr[] = [];
  for (const { bytes, prefix } of common.values()) {
    if (prefix < SERVICE_PREFIX || prefix === 128) continue;
    const cidr = parseCidr(`${formatAddress(bytes)}/${isMapped(bytes) ? prefix - 96 : prefix}`);
    if (cidr !== undefined) found.push(cidr);
  }
  return found;
}

function sharedBits(a: Uint8Array, b: Uint8Array): number {
  for (let index = 0; index < 16; index++) {
    const difference = (a[index] as number) ^ (b[index] as number);
    if (difference !== 0) return index * 8 + Math.clz32(difference) - 24;
  }
  return 128;
}
