// Clients that dial a Service's address are counted by the pod that answers, which is on another node: nothing on this
// host but its connection tracking knows. The truth is what the servers counted, address by address.
import { mkdirSync, rmdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { parseAddress } from '../../../exporter/identity/address.ts';
import { type BpfObject, openObject } from '../../../exporter/kernel/native.ts';
import { cgroup2Mount, compile, u32 } from '../native/support.ts';
import {
  buildPeer,
  type Done,
  endPeers,
  NOTHING_LOST,
  PEER,
  patience,
  runClient,
  scaled,
  sh,
  startPeer,
} from './harness.ts';
import {
  Child,
  FAMILIES,
  type Family,
  NatLab,
  NODE_PORT,
  type Observation,
  observe,
  PORT,
  unavailable,
} from './nat/lab.ts';
import type { ObservedEdge } from './nat/observer.ts';

const CLUSTER = ['10.217.0.0/16', 'fd17::/16'];
const [UP, DOWN] = [700, 1900];

interface Served {
  readonly connections: number;
  readonly received: number;
  readonly sent: number;
}

let lab: NatLab;
let servers: Child;
/** One for almost all tests: in a guest loading the programs takes half a minute. */
let observer: Child;
const startObserver = () => observe(lab, CLUSTER, servers.process.pid as number);
beforeAll(async () => {
  buildPeer();
  lab = new NatLab('t');
  servers = await startServers();
  observer = await startObserver();
});
afterEach(endPeers);
afterAll(async () => {
  await observer?.end();
  await servers?.end();
  lab?.remove();
});

async function startServers(): Promise<Child> {
  const addresses = FAMILIES.flatMap(({ backends }) => backends);
  const child = new Child(lab.far, 'backends.ts', [String(PORT), ...addresses]);
  expect(await child.line()).toBe('ready');
  return child;
}

/** What the servers counted since the last time, by address. */
class Truth {
  #before: Record<string, Served> = {};

  async since(): Promise<Record<string, Served>> {
    const now = JSON.parse(await servers.ask()) as Record<string, Served>;
    const grown = Object.entries(now).map(([address, count]) => {
      const { connections = 0, received = 0, sent = 0 } = this.#before[address] ?? {};
      return [
        address,
        {
          connections: count.connections - connections,
          received: count.received - received,
          sent: count.sent - sent,
        },
      ] as const;
    });
    this.#before = now;
    return Object.fromEntries(grown.filter(([, { connections, sent }]) => connections + sent > 0));
  }
}

/** A client's edges, by who answered; as the servers count. */
function byBackend(edges: readonly ObservedEdge[], owner: string, dialled: string, port: number) {
  const mine = edges.filter((edge) => edge.role === 'client' && edge.owner === owner);
  for (const edge of mine) expect([edge.dialled, edge.port]).toEqual([dialled, port]);
  return Object.fromEntries(
    mine.map(({ reached, opened, sent, received }) => [
      reached,
      { connections: opened, received: sent, sent: received },
    ]),
  );
}

async function observed(by = observer): Promise<Observation> {
  return JSON.parse(await by.ask()) as Observation;
}

/** A connection ends, and one whose other end is unknown is counted, a moment after its client has gone on. */
async function eventually(read: (seen: Observation) => unknown, expected: unknown): Promise<void> {
  const deadline = Date.now() + patience(10_000);
  while (!isDeepStrictEqual(read(await observed()), expected) && Date.now() < deadline) await sleep(100);
  expect(read(await observed())).toEqual(expected);
}

for (const kind of ['nftables', 'iptables', 'ipvs'] as const) {
  const why = unavailable(kind);
  describe.skipIf(why)(`${kind}${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
    const truth = new Truth();
    beforeAll(async () => {
      await truth.since();
      lab.apply(kind);
    });
    afterAll(() => lab.clear(kind));

    async function expectSplit(owner: string, netns: string, family: Family, address: string, port: number) {
      const before = lab.tracked(family, address, port);
      const done = await runClient([owner, address, port, scaled(400, 40), UP, DOWN, 'client', 4], netns);
      expect(done.errors).toBe(0);
      const served = await truth.since();
      await eventually(({ edges }) => byBackend(edges, owner, address, port), served);
      expect(Object.keys(served).sort()).toEqual([...family.backends]);
      // The kernel's table says so too, as far as it still remembers.
      const tracked = lab.tracked(family, address, port);
      for (const [backend, count] of Object.entries(tracked))
        expect(count - (before[backend] ?? 0)).toBeLessThanOrEqual(served[backend]?.connections ?? 0);
      expect(Object.keys(tracked).sort()).toEqual([...family.backends]);
      expect((await observed()).lost).toEqual(NOTHING_LOST);
    }

    test.for(FAMILIES)('a Service address, dialled from a pod (IPv$version)', (family) =>
      expectSplit(`knp-${kind}-p${family.version}`.slice(0, 15), lab.client, family, family.service, 80),
    );

    test.for(FAMILIES)('a Service address, dialled on the node itself (IPv$version)', (family) =>
      expectSplit(`knp-${kind}-n${family.version}`.slice(0, 15), lab.node, family, family.service, 80),
    );

    test.for(FAMILIES)('a node port (IPv$version)', (family) =>
      expectSplit(`knp-${kind}-x${family.version}`.slice(0, 15), lab.client, family, family.node, NODE_PORT),
    );

    test('connections older than the agent', async () => {
      const name = (version: number) => `knp-${kind}-o${version}`.slice(0, 15);
      const clients = await Promise.all(
        FAMILIES.map(({ version, service }) =>
          startPeer(['hold', name(version), service, 80, 12, UP, DOWN], lab.client),
        ),
      );
      await truth.since();
      await observer.end();
      observer = await startObserver();
      for (const client of clients) await client.exchange();
      const served = await truth.since();
      expect(Object.keys(served).sort()).toEqual(FAMILIES.flatMap(({ backends }) => backends).sort());
      const bytes = (all: Record<string, Served>) =>
        Object.fromEntries(
          Object.entries(all).map(([address, { received, sent }]) => [address, [received, sent]]),
        );
      await eventually(
        ({ edges }) =>
          bytes(
            Object.assign(
              {},
              ...FAMILIES.map(({ version, service }) => byBackend(edges, name(version), service, 80)),
            ),
          ),
        bytes(served),
      );
      for (const client of clients) await client.end();
      await truth.since();
    });
  });
}

/** Beside connection tracking: a program on connect() gives the socket another address than the process asked for. */
describe('socket-level load balancing', () => {
  const group = `${cgroup2Mount()}/knp-nat-${process.pid}`;
  let redirect: BpfObject;
  const truth = new Truth();
  beforeAll(async () => {
    await truth.since();
    mkdirSync(group);
    redirect = openObject(compile('redirect'));
    redirect.load();
    for (const [index, { service, backends }] of FAMILIES.entries()) {
      const ports = Buffer.alloc(8);
      ports.writeUInt32LE(80, 0);
      ports.writeUInt32LE(PORT, 4);
      const addresses = [service, ...backends].map((each) => parseAddress(each) as Uint8Array);
      redirect.map('services').update(u32(index), Buffer.concat([...addresses, ports]));
    }
    for (const name of ['redirect4', 'redirect6']) redirect.program(name).attachCgroup({ path: group });
  });
  afterAll(() => {
    redirect?.close();
    rmdirSync(group);
  });

  const dial = (owner: string, address: string, port: number) => {
    const count = scaled(200, 20);
    return JSON.parse(
      sh(`echo $$ > ${group}/cgroup.procs
        ip netns exec ${lab.client} ${PEER} connect ${owner} ${address} ${port} ${count} ${UP} ${DOWN} client 4`),
    ) as Done;
  };

  test.for(FAMILIES)('what was dialled and the pod that was reached (IPv$version)', async (family) => {
    const owner = `knp-nat-lb${family.version}`;
    expect(dial(owner, family.service, 80).errors).toBe(0);
    const served = await truth.since();
    expect(Object.keys(served).sort()).toEqual([...family.backends]);
    await eventually(({ edges }) => byBackend(edges, owner, family.service, 80), served);
  });

  test.for(FAMILIES)('an address that is not translated is just that (IPv$version)', async (family) => {
    const owner = `knp-nat-id${family.version}`;
    const [backend] = family.backends;
    expect(dial(owner, backend, PORT).errors).toBe(0);
    const served = await truth.since();
    await eventually(({ edges }) => byBackend(edges, owner, backend, PORT), {
      '': served[backend],
    });
  });
});

describe('corners', () => {
  afterEach(() => lab.clear('nftables'));
  /** What another observer has to say of this traffic. */
  async function watched(keep: readonly string[], self: number, act: () => Promise<unknown>) {
    const other = await observe(lab, keep, self);
    try {
      await act();
      return (await observed(other)).edges;
    } finally {
      await other.end();
    }
  }
  const [four] = FAMILIES as [Family];
  const client = (name: string, address: string, port: number): Promise<Done> =>
    runClient([name, address, port, 20, UP, DOWN, 'client', 2], lab.client);
  const of = (edges: readonly ObservedEdge[], owner: string) =>
    edges.filter((edge) => edge.role === 'client' && edge.owner === owner);

  test('a refused connection counts at the pod that refused', async () => {
    lab.apply('nftables', 28771);
    const done = await client('knp-nat-refused', four.service, 80);
    const edges = of((await observed()).edges, 'knp-nat-refused');
    expect(done.refused).toBe(20);
    expect(edges.reduce((sum, { refused }) => sum + refused, 0)).toBe(20);
    expect(edges.map(({ reached, reachedPort }) => `${reached}:${reachedPort}`).sort()).toEqual(
      four.backends.map((backend) => `${backend}:28771`),
    );
  });

  test('where the pod is on this host its owner is known, and no address is kept beside it', async () => {
    lab.apply('nftables');
    const dial = () => client('knp-nat-local', four.service, 80);
    const edges = of(await watched(CLUSTER, process.pid, dial), 'knp-nat-local');
    expect(edges).toHaveLength(1);
    expect(edges[0]).toMatchObject({ dialled: four.service, reached: '', reachedPort: 0, opened: 20 });
    expect(edges[0]?.peer).not.toBe('');
  });

  test('what nobody asked to keep exact makes no edge of its own', async () => {
    lab.apply('nftables');
    const dial = () => client('knp-nat-fold', four.service, 80);
    const self = servers.process.pid as number;
    const edges = of(await watched(['10.217.9.0/24'], self, dial), 'knp-nat-fold');
    expect(edges).toHaveLength(1);
    expect(edges[0]).toMatchObject({ dialled: four.service, reached: '', opened: 20 });
  });

  test('without a translation nothing but the dialled address is kept, whoever had the ports before', async () => {
    lab.apply('nftables');
    await client('knp-nat-before', four.service, 80);
    lab.clear('nftables');
    await client('knp-nat-after', four.backends[0], PORT);
    const { edges } = await observed();
    expect(of(edges, 'knp-nat-after')).toEqual([
      expect.objectContaining({ dialled: four.backends[0], port: PORT, reached: '', opened: 20 }),
    ]);
  });
});
