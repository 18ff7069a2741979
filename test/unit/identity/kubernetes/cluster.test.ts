// The indexes after any sequence of changes equal those built from the end state at once.
import { describe, expect, it } from 'vitest';
import { AddressBook } from '../../../../exporter/identity/kubernetes/address_book.ts';
import { Cluster } from '../../../../exporter/identity/kubernetes/cluster.ts';
import {
  projectEndpointSlice,
  projectNode,
  projectPod,
  projectService,
} from '../../../../exporter/identity/kubernetes/objects.ts';
import { type FakeObject, keyOf } from './fake_api_server.ts';
import { containerId, node, pod, service, slice } from './fixtures.ts';

/** mulberry32 */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

interface World {
  readonly pods: Map<string, FakeObject>;
  readonly services: Map<string, FakeObject>;
  readonly slices: Map<string, FakeObject>;
  readonly nodes: Map<string, FakeObject>;
}

const PROJECTIONS = {
  pods: projectPod,
  services: projectService,
  slices: projectEndpointSlice,
  nodes: projectNode,
} as const;
type Kind = keyof World;

function put(cluster: Cluster, kind: Kind, object: FakeObject, initial: boolean): void {
  // biome-ignore lint/suspicious/noExplicitAny: the kind decides both types
  (cluster[kind] as any).set(PROJECTIONS[kind](object), initial);
}

/** Every answer that the cluster can give about the addresses, ports and containers of the test. */
function answers(cluster: Cluster, containers: readonly string[]): object {
  const ips = Array.from({ length: 12 }, (_, index) => `10.1.0.${index}`);
  return {
    sizes: { ...cluster.sizes, pod_addresses: 0 },
    pods: ips.map((ip) => {
      const found = cluster.podAt(ip, Number.MAX_SAFE_INTEGER);
      return found?.ended === undefined ? [found?.holder.name, found?.holder.uid] : undefined;
    }),
    containers: containers.map((id) => cluster.podOfCgroup([id], undefined)?.name),
    services: Array.from({ length: 8 }, (_, index) => [
      cluster.serviceAt(`10.200.0.${index}`, 80)?.name,
      cluster.serviceByNodePort(30_000 + index)?.name,
      cluster
        .backends({ namespace: 'shop', name: `svc-${index}` })
        .pods.map((ref) => ref.uid)
        .sort(),
    ]),
    endpoints: ips.map((ip) => [
      cluster.endpointAt(ip, 8080)?.pod?.uid,
      cluster.endpointAtAddress(ip)?.service,
    ]),
    nodes: Array.from({ length: 4 }, (_, index) => [
      cluster.nodeAt(`192.0.2.${index}`)?.name,
      cluster.zoneOf(`node-${index}`),
    ]),
    blocks: [...cluster.podBlocks()].sort(),
    singles: [...cluster.singleAddresses()].sort(),
    cidrs: [...cluster.podCidrs()].map(({ cidr }) => cidr).sort(),
  };
}

describe('Cluster', () => {
  it.each(Array.from({ length: 40 }, (_, index) => index + 1))('seed %d', (seed) => {
    const random = generator(seed);
    const upTo = (limit: number) => Math.floor(random() * limit);
    let clock = 1000;
    const cluster = new Cluster({ now: () => clock });
    const world: World = { pods: new Map(), services: new Map(), slices: new Map(), nodes: new Map() };
    const containers: string[] = [];
    // Each address belongs to one pod at a time; two slices never disagree, as they do not once all has settled.
    const change = (kind: Kind): FakeObject => {
      switch (kind) {
        case 'nodes':
          return node(
            `node-${upTo(4)}`,
            `192.0.2.${upTo(4)}`,
            random() < 0.5 ? `10.${upTo(4)}.0.0/16` : undefined,
            `zone-${upTo(2)}`,
          );
        case 'services':
          return service(`svc-${upTo(8)}`, {
            clusterIP: random() < 0.2 ? 'None' : `10.200.0.${upTo(8)}`,
            ports: [{ port: 80, nodePort: 30_000 + upTo(8) }],
          });
        case 'pods': {
          const used = new Set([...world.pods.values()].map((object) => object.status.podIP));
          const free = Array.from({ length: 12 }, (_, index) => `10.1.0.${index}`).filter(
            (ip) => !used.has(ip),
          );
          const ip = free[upTo(free.length)];
          const object = pod(`w-${upTo(5)}`, {
            ...(ip && random() < 0.9 && { ip }),
            hostNetwork: random() < 0.1,
            phase: random() < 0.1 ? 'Failed' : 'Running',
          });
          containers.push(containerId(`shop/${object.metadata.name}/app`));
          return object;
        }
        case 'slices': {
          const running = [...world.pods.values()].filter(
            (object) => object.status.podIP && !object.spec.hostNetwork && object.status.phase === 'Running',
          );
          return slice(
            `svc-${upTo(8)}`,
            running.filter(() => random() < 0.4),
          );
        }
      }
    };
    const kinds: Kind[] = ['pods', 'services', 'slices', 'nodes'];
    const unique = (kind: Kind, object: FakeObject): boolean => {
      // Services and nodes share no address in a cluster that has settled.
      const fields = (o: FakeObject) =>
        kind === 'services'
          ? [o.spec.clusterIP, o.spec.ports[0].nodePort]
          : kind === 'nodes'
            ? [o.status.addresses[0].address]
            : [];
      return ![...world[kind].values()].some(
        (other) =>
          keyOf(other) !== keyOf(object) &&
          fields(other).some((field) => field !== 'None' && fields(object).includes(field)),
      );
    };
    for (let step = 0; step < 150; step++) {
      clock += 10;
      const kind = kinds[upTo(4)] as Kind;
      if (random() < 0.35) {
        const keys = [...world[kind].keys()];
        const key = keys[upTo(keys.length)];
        if (key === undefined) continue;
        world[kind].delete(key);
        cluster[kind].delete(key);
      } else {
        const object = change(kind);
        if (!unique(kind, object)) continue;
        world[kind].set(keyOf(object), object);
        put(cluster, kind, object, false);
      }
    }
    // Slices follow the pods, as their controller makes them.
    for (const [key, object] of world.slices) {
      const living = object.endpoints
        .map((e: { targetRef: { name: string } }) => world.pods.get(`shop/${e.targetRef.name}`))
        .filter((p?: FakeObject) => p !== undefined);
      const fresh = slice(object.metadata.name.replace('-abcde', ''), living);
      world.slices.set(key, fresh);
      put(cluster, 'slices', fresh, false);
    }
    const fresh = new Cluster({ now: () => clock });
    for (const kind of kinds) for (const object of world[kind].values()) put(fresh, kind, object, true);
    // The names of deleted pods are kept for ten minutes, and forgotten at the next change.
    const forget = () => {
      clock += 601_000;
      const last = pod('last');
      put(cluster, 'pods', last, false);
      cluster.pods.delete(keyOf(last));
    };
    forget();
    expect(answers(cluster, containers)).toEqual(answers(fresh, containers));

    // A list that says nothing is left empties every index.
    for (const kind of kinds) cluster[kind].retain(new Set());
    const empty = new Cluster();
    forget();
    expect(answers(cluster, containers)).toEqual(answers(empty, containers));
  });

  it('a deleted pod keeps its name for what its processes did last, within bounds', () => {
    let clock = 1000;
    const cluster = new Cluster({ now: () => clock });
    const idOf = ({ metadata }: FakeObject) => containerId(`shop/${metadata.name}/app`);
    const web = pod('web');
    const [id, { name }] = [idOf(web), web.metadata];
    put(cluster, 'pods', web, false);
    const uid = cluster.podOfCgroup([id], undefined)?.uid ?? '';
    cluster.pods.delete(keyOf(web));
    clock += 599_000;
    put(cluster, 'pods', pod('other'), false);
    expect(cluster.podOfCgroup([id], undefined)?.name).toBe(name);
    expect(cluster.podOfCgroup([], uid)?.name).toBe(name);
    clock += 2000;
    put(cluster, 'pods', pod('third'), false);
    expect(cluster.podOfCgroup([id], uid)).toBeUndefined();

    // However many go at once: the oldest names go first.
    const many = Array.from({ length: 10_001 }, () => pod('many'));
    for (const object of many) {
      put(cluster, 'pods', object, false);
      cluster.pods.delete(keyOf(object));
    }
    const kept = many.map((object) => cluster.podOfCgroup([idOf(object)], undefined) !== undefined);
    expect([kept[0], kept[1], kept[10_000]]).toEqual([false, true, true]);
  });

  it('says nothing where nothing changed', () => {
    let changes = 0;
    const cluster = new Cluster({ onChange: () => changes++ });
    const object = pod('web', { ip: '10.1.0.1' });
    put(cluster, 'pods', object, false);
    expect(changes).toBe(1);
    // A status that only says when it was last looked at.
    put(
      cluster,
      'pods',
      { ...object, status: { ...object.status, conditions: [{ type: 'Ready', lastProbeTime: 'now' }] } },
      false,
    );
    expect(changes).toBe(1);
  });
});

describe('AddressBook', () => {
  it('is bounded however often an address changes hands', () => {
    const book = new AddressBook<string>();
    for (let index = 0; index < 100_000; index++) {
      const address = `10.0.${index & 255}.${(index >> 8) & 255}`;
      book.claim(address, `uid-${index}`, `holder-${index}`, index, true);
      book.release(address, `uid-${index}`, index);
    }
    expect(book.size).toBeLessThanOrEqual(20_001);
  });

  it('keeps the certain holder when a slice lags behind', () => {
    const book = new AddressBook<string>();
    book.claim('10.0.0.1', 'old', 'old', 0, true);
    book.claim('10.0.0.1', 'new', 'new', 100, true);
    book.claim('10.0.0.1', 'old', 'old', 110, false);
    expect(book.holder('10.0.0.1', 200)?.holder).toBe('new');
    book.release('10.0.0.1', 'old', 120);
    book.release('10.0.0.1', 'old', 120);
    expect(book.holder('10.0.0.1', 200)).toEqual({ holder: 'new', ended: undefined });
    expect(book.holder('10.0.0.1', 50)?.holder).toBe('old');
  });

  it('a slice that was quicker than its pod does not stay behind the former holder', () => {
    const book = new AddressBook<string>();
    book.claim('10.0.0.1', 'old', 'old', 0, true);
    book.claim('10.0.0.1', 'new', 'new by slice', 100, false);
    book.claim('10.0.0.1', 'new', 'new', 101, true);
    book.release('10.0.0.1', 'old', 150);
    expect(book.holder('10.0.0.1', 120)?.holder).toBe('new');
    expect(book.holder('10.0.0.1', 200)).toEqual({ holder: 'new', ended: undefined });
  });
});
