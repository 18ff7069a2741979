// What is known of the cluster, indexed by what the kernel can tell: container ids, pod uids, addresses, ports. Filled by
// the reflectors and by looked-up pods; asked by kubernetes_identity.ts. Synchronous, no I/O.
import { parseAddress } from '../address.ts';
import { AddressBook } from './address_book.ts';
import type { Controller, EndpointSlice, Node, Pod, Service, SliceEndpoint } from './objects.ts';
import { sameProjection } from './objects.ts';
import { PodIndex } from './pod_index.ts';
import type { Sink } from './reflector.ts';
import { Multi, Table } from './tables.ts';

/** A pod as far as the API server told: EndpointSlices give its name but not its controller. */
export interface PodRef {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  /** Zone by the slice; '' when it does not say. */
  readonly zone: string;
  /** A service that it stands behind; '' when none is known. */
  readonly service: string;
}

/** An endpoint of a service at an exact address and port. */
export interface ServiceEndpoint {
  readonly service: string;
  readonly namespace: string;
  /** Undefined for endpoints that are no pods: the API server, machines outside. */
  readonly pod: PodRef | undefined;
}

/** Where a service leads, by what was dialled. */
export interface ServiceRef {
  readonly namespace: string;
  readonly name: string;
}

const MAX_LEARNED = 16_384;
/** apimachinery's rand: no vowels, no 0 1 3. */
const SUFFIX = /^[bcdfghjklmnpqrstvwxz2456789]{5}$/;
const ORDINAL = /^\d{1,6}$/;

interface KnownEndpoint {
  readonly endpoint: ServiceEndpoint;
  /** Addresses that the book was told of. */
  readonly claimed: readonly string[];
}

export interface ClusterOptions {
  readonly now?: () => number;
  /** Something that changes answers has happened; `ranges`: also addresses that the kernel has to keep exact. */
  readonly onChange?: (ranges: boolean) => void;
}

export class Cluster {
  readonly pods: Sink<Pod>;
  readonly services: Sink<Service>;
  readonly slices: Sink<EndpointSlice>;
  readonly nodes: Sink<Node>;
  readonly #now: () => number;
  readonly #onChange: (ranges: boolean) => void;
  readonly #podTable: Table<Pod>;
  readonly #serviceTable: Table<Service>;
  readonly #sliceTable: Table<EndpointSlice>;
  readonly #nodeTable: Table<Node>;
  readonly #podIndex = new PodIndex();
  readonly #addresses = new AddressBook<PodRef>();
  readonly #controllers = new Map<string, Controller>();
  readonly #nodeByAddress = new Map<string, Node>();
  readonly #serviceByAddress = new Multi<ServiceRef>();
  readonly #serviceByNodePort = new Multi<ServiceRef>();
  readonly #endpoints = new Multi<ServiceEndpoint>();
  readonly #slicesByService = new Map<string, Set<EndpointSlice>>();
  readonly #sliceRefs = new Map<SliceEndpoint, KnownEndpoint>();
  /** Addresses by what wants them kept exact: pods (by block of 256), everything else (each). */
  readonly #podBlocks = new Map<string, number>();
  readonly #single = new Multi<true>();

  constructor(options: ClusterOptions = {}) {
    this.#now = options.now ?? Date.now;
    this.#onChange = options.onChange ?? (() => {});
    this.#podTable = new Table((before, after, initial) => this.#podChanged(before, after, initial));
    this.#serviceTable = new Table((before, after) => this.#serviceChanged(before, after));
    this.#sliceTable = new Table((before, after, initial) => this.#sliceChanged(before, after, initial));
    this.#nodeTable = new Table((before, after) => this.#nodeChanged(before, after));
    this.pods = this.#podTable;
    this.services = this.#serviceTable;
    this.slices = this.#sliceTable;
    this.nodes = this.#nodeTable;
  }

  get sizes(): Record<string, number> {
    return {
      pods: this.#podTable.objects.size,
      services: this.#serviceTable.objects.size,
      endpointslices: this.#sliceTable.objects.size,
      nodes: this.#nodeTable.objects.size,
      pod_addresses: this.#addresses.size,
    };
  }

  // --- questions ---

  /** The pod that a container id or, for its sandbox, a pod uid of a cgroup belongs to. */
  podOfCgroup(containerIds: readonly string[], podUid: string | undefined): Pod | undefined {
    return this.#podIndex.ofCgroup(containerIds, podUid);
  }

  podByUid(uid: string): Pod | undefined {
    return this.#podIndex.byUid(uid);
  }

  /** The pod that had a canonical address at a time (ms since the epoch); see {@link AddressBook.holder}. */
  podAt(
    address: string,
    at: number,
  ): { readonly holder: PodRef; readonly ended: number | undefined } | undefined {
    return this.#addresses.holder(address, at);
  }

  /** The controller of a pod by its own object, or by that of a sibling with the same generated prefix. */
  controllerOf(ref: PodRef): Controller | undefined {
    const pod = this.#podIndex.byUid(ref.uid);
    if (pod !== undefined) return pod.controller;
    const cut = ref.name.lastIndexOf('-') + 1;
    const suffix = ref.name.slice(cut);
    if (cut === 0 || !(SUFFIX.test(suffix) || ORDINAL.test(suffix))) return undefined;
    const controller = this.#controllers.get(`${ref.namespace}/${ref.name.slice(0, cut)}`);
    if (controller === undefined) return undefined;
    return ORDINAL.test(suffix) === (controller.kind === 'StatefulSet') || SUFFIX.test(suffix)
      ? controller
      : undefined;
  }

  nodeAt(address: string): Node | undefined {
    return this.#nodeByAddress.get(address);
  }

  zoneOf(node: string): string {
    return this.#nodeTable.objects.get(`/${node}`)?.zone ?? '';
  }

  /** Whether the node is there; undefined while no node is known. */
  hasNode(name: string): boolean | undefined {
    return this.#nodeTable.objects.size === 0 ? undefined : this.#nodeTable.objects.has(`/${name}`);
  }

  /** The service whose own address this is: cluster, external or load balancer address. */
  serviceAt(address: string, port: number): ServiceRef | undefined {
    return this.#serviceByAddress.get(`${address} ${port}`) ?? this.#serviceByAddress.get(address);
  }

  serviceByNodePort(port: number): ServiceRef | undefined {
    return port === 0 ? undefined : this.#serviceByNodePort.get(String(port));
  }

  /** The endpoint at an address and port; needed where the address is not a pod's own. */
  endpointAt(address: string, port: number): ServiceEndpoint | undefined {
    return this.#endpoints.get(`${address} ${port}`);
  }

  /** An endpoint at any port of an address: the API server or a machine that a service names. */
  endpointAtAddress(address: string): ServiceEndpoint | undefined {
    return this.#endpoints.get(address);
  }

  /** All pods behind a service, and `others`: endpoints that are no pods. */
  backends(service: ServiceRef): { readonly pods: PodRef[]; readonly others: number } {
    const pods: PodRef[] = [];
    let others = 0;
    for (const slice of this.#slicesByService.get(`${service.namespace}/${service.name}`) ?? []) {
      for (const endpoint of slice.endpoints) {
        const ref = this.#sliceRefs.get(endpoint)?.endpoint.pod;
        if (ref === undefined) others++;
        else pods.push(ref);
      }
    }
    return { pods, others };
  }

  /** Pod ranges that nodes declare, as they wrote them. */
  *podCidrs(): Iterable<{ readonly cidr: string; readonly node: string }> {
    for (const { podCidrs, name } of this.#nodeTable.objects.values()) {
      for (const cidr of podCidrs) yield { cidr, node: name };
    }
  }

  /** `/24` (IPv4) and `/120` (IPv6) blocks in which there are pods. */
  podBlocks(): Iterable<string> {
    return this.#podBlocks.keys();
  }

  /** Cluster addresses of services. */
  *clusterAddresses(): Iterable<string> {
    for (const service of this.#serviceTable.objects.values()) yield* service.clusterAddresses;
  }

  /** Addresses of nodes, services and endpoints that are no pods. */
  singleAddresses(): Iterable<string> {
    return this.#single.keys();
  }

  // --- changes ---

  /** A pod that was looked up by name or address: not watched, so it says nothing about when an address was whose. */
  learn(pod: Pod): void {
    this.#learnController(pod);
    this.#onChange(false);
  }

  #learnController(pod: Pod): void {
    const { prefix, controller } = pod;
    if (prefix === '' || controller.kind === 'Pod') return;
    const key = `${pod.namespace}/${prefix}`;
    if (sameProjection(this.#controllers.get(key), controller)) return;
    if (this.#controllers.size >= MAX_LEARNED) this.#controllers.clear();
    this.#controllers.set(key, controller);
  }

  #podChanged(before: Pod | undefined, after: Pod | undefined, initial: boolean): void {
    let ranges = false;
    const since = initial ? Number.NEGATIVE_INFINITY : this.#now();
    const moved = before?.uid !== after?.uid;
    if (before !== undefined) {
      if (moved) this.#podIndex.retire(before, this.#now());
      else this.#podIndex.remove(before);
    }
    if (after !== undefined) {
      this.#podIndex.expire(this.#now());
      this.#podIndex.add(after);
      this.#learnController(after);
    }
    const old = before === undefined || before.hostNetwork ? [] : before.addresses;
    const fresh = after === undefined || after.hostNetwork ? [] : after.addresses;
    for (const address of old) {
      if (!moved && fresh.includes(address)) continue;
      this.#addresses.release(address, (before as Pod).uid, this.#now());
      ranges = this.#countBlock(address, -1) || ranges;
    }
    for (const address of fresh) {
      if (!moved && old.includes(address)) continue;
      const { uid, namespace, name, node } = after as Pod;
      this.#addresses.claim(address, uid, { uid, namespace, name, node, zone: '', service: '' }, since, true);
      ranges = this.#countBlock(address, 1) || ranges;
    }
    this.#onChange(ranges);
  }

  #serviceChanged(before: Service | undefined, after: Service | undefined): void {
    const index = (service: Service, add: boolean, ref: ServiceRef): void => {
      const put = (multi: Multi<ServiceRef>, key: string): void =>
        add ? multi.add(key, ref) : multi.remove(key, ref);
      // Nobody else answers at a cluster address; an external one may be shared by services with different ports.
      for (const address of service.clusterAddresses) put(this.#serviceByAddress, address);
      for (const address of service.externalAddresses) {
        for (const { port } of service.ports) put(this.#serviceByAddress, `${address} ${port}`);
      }
      for (const { nodePort } of service.ports)
        if (nodePort > 0) put(this.#serviceByNodePort, String(nodePort));
      for (const address of [...service.clusterAddresses, ...service.externalAddresses]) {
        if (add) this.#single.add(address, true);
        else this.#single.remove(address, true);
      }
    };
    if (before !== undefined) index(before, false, this.#serviceRef(before));
    if (after !== undefined) index(after, true, this.#serviceRef(after));
    if (after === undefined && before !== undefined) this.#serviceRefs.delete(before.key);
    this.#onChange(true);
  }

  readonly #serviceRefs = new Map<string, ServiceRef>();

  /** One object per service, so that it can be withdrawn by identity. */
  #serviceRef({ key, namespace, name }: Service): ServiceRef {
    let ref = this.#serviceRefs.get(key);
    if (ref === undefined) {
      ref = { namespace, name };
      this.#serviceRefs.set(key, ref);
    }
    return ref;
  }

  #sliceChanged(before: EndpointSlice | undefined, after: EndpointSlice | undefined, initial: boolean): void {
    const since = initial ? Number.NEGATIVE_INFINITY : this.#now();
    let ranges = false;
    // New first: what is in both keeps its claim without a gap.
    if (after !== undefined) ranges = this.#addSlice(after, since) || ranges;
    if (before !== undefined) ranges = this.#removeSlice(before) || ranges;
    this.#onChange(ranges);
  }

  #addSlice(slice: EndpointSlice, since: number): boolean {
    let ranges = false;
    const service = `${slice.namespace}/${slice.service}`;
    if (slice.service !== '') {
      const set = this.#slicesByService.get(service);
      if (set === undefined) this.#slicesByService.set(service, new Set([slice]));
      else set.add(slice);
    }
    for (const endpoint of slice.endpoints) {
      const { podUid: uid, podName: name, node, zone } = endpoint;
      const { namespace } = slice;
      const ref = name === '' ? undefined : { uid, namespace, name, node, zone, service: slice.service };
      const entry = { service: slice.service, namespace, pod: ref };
      // A pod on its node's network has no address of its own.
      const claimed =
        ref === undefined ? [] : endpoint.addresses.filter((address) => !this.#nodeByAddress.has(address));
      this.#sliceRefs.set(endpoint, { endpoint: entry, claimed });
      for (const address of claimed) {
        this.#addresses.claim(address, uid, ref as PodRef, since, false);
        ranges = this.#countBlock(address, 1) || ranges;
      }
      for (const address of endpoint.addresses) {
        for (const port of slice.ports) this.#endpoints.add(`${address} ${port}`, entry);
        if (ref === undefined) {
          this.#endpoints.add(address, entry);
          this.#single.add(address, true);
          ranges = true;
        }
      }
    }
    return ranges;
  }

  #removeSlice(slice: EndpointSlice): boolean {
    let ranges = false;
    const service = `${slice.namespace}/${slice.service}`;
    const set = this.#slicesByService.get(service);
    set?.delete(slice);
    if (set?.size === 0) this.#slicesByService.delete(service);
    for (const endpoint of slice.endpoints) {
      const known = this.#sliceRefs.get(endpoint);
      if (known === undefined) continue;
      this.#sliceRefs.delete(endpoint);
      for (const address of known.claimed) {
        this.#addresses.release(address, endpoint.podUid, this.#now());
        ranges = this.#countBlock(address, -1) || ranges;
      }
      for (const address of endpoint.addresses) {
        for (const port of slice.ports) this.#endpoints.remove(`${address} ${port}`, known.endpoint);
        if (known.endpoint.pod === undefined) {
          this.#endpoints.remove(address, known.endpoint);
          this.#single.remove(address, true);
          ranges = true;
        }
      }
    }
    return ranges;
  }

  #nodeChanged(before: Node | undefined, after: Node | undefined): void {
    for (const address of before?.addresses ?? []) {
      this.#single.remove(address, true);
      if (this.#nodeByAddress.get(address) === before) this.#nodeByAddress.delete(address);
    }
    for (const address of after?.addresses ?? []) {
      this.#single.add(address, true);
      this.#nodeByAddress.set(address, after as Node);
    }
    this.#onChange(true);
  }

  /** Counts a pod address in its block; true when the block came or went. */
  #countBlock(address: string, by: 1 | -1): boolean {
    const block = blockOf(address);
    const count = (this.#podBlocks.get(block) ?? 0) + by;
    if (count <= 0) this.#podBlocks.delete(block);
    else this.#podBlocks.set(block, count);
    return count === 0 || (count === 1 && by === 1);
  }
}

/** The /24 or /120 around a canonical address. */
function blockOf(address: string): string {
  if (!address.includes(':')) return `${address.slice(0, address.lastIndexOf('.'))}.0/24`;
  const bytes = parseAddress(address);
  if (bytes === undefined) return address;
  bytes[15] = 0;
  const groups = Array.from({ length: 8 }, (_, index) =>
    (((bytes[index * 2] as number) << 8) | (bytes[index * 2 + 1] as number)).toString(16),
  );
  return `${groups.join(':')}/120`;
}
