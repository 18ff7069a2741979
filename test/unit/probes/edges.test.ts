// Naming many edges asks the kernel once per owner and collection, not once per edge: each question is a system call, and
// where pods come and go every edge is named anew at every collection.
import { beforeEach, describe, expect, test } from 'vitest';
import type { Identity, OwnerInfo } from '../../../exporter/identity/types.ts';
import type { EdgeBatch, EdgeKey, EdgeTable } from '../../../exporter/kernel/edge_table.ts';
import { EdgeDirectory } from '../../../exporter/probes/edges.ts';

const PORT = 8080;
const EDGES = 1000;
const CLIENTS = [100, 101, 102];
const SERVERS = [200, 201];

function edge(id: number): EdgeKey {
  return {
    id,
    role: 'client',
    scope: 'exact',
    transport: 'tcp',
    family: 4,
    owner: CLIENTS[id % CLIENTS.length] as number,
    peer: SERVERS[id % SERVERS.length] as number,
    range: 0,
    localPort: 0,
    remotePort: PORT,
    address: new Uint8Array(16),
    reached: new Uint8Array(16),
    reachedPort: 0,
    other: false,
  };
}

describe('names of edges', () => {
  let named: bigint[];
  let asked: string[];
  let acceptor: number | undefined;
  let revision: number;
  let directory: EdgeDirectory;
  const batch: EdgeBatch = {
    count: EDGES,
    ids: Uint32Array.from({ length: EDGES }, (_, i) => 1000 + i),
    values: Buffer.alloc(0),
    stride: 0,
  };

  beforeEach(() => {
    [named, asked, acceptor, revision] = [[], [], undefined, 1];
    const table = {
      nodeOwner: 0,
      otherOwner: 1,
      key: edge,
      owner: (id: number) => ({ id, pid: id, cgroupId: BigInt(id), flags: 0, comm: '', exe: '', path: [] }),
      nameCgroup: (id: bigint) => named.push(id),
      acceptor: (listener: number, port: number) => {
        asked.push(`${listener} ${port}`);
        return acceptor;
      },
    };
    const workload = ({ id }: OwnerInfo) => ({ name: `owner-${id}`, kind: `r${revision}`, namespace: '' });
    const identity = {
      get revision() {
        return revision;
      },
      local: workload,
      remote: ({ peer }: { peer: OwnerInfo }) => ({ workload: workload(peer) }),
      // One of the cgroups holds many programs.
      cgroupNamesWorkload: ({ id }: OwnerInfo) => id !== 102,
    };
    directory = new EdgeDirectory(table as unknown as EdgeTable, identity as unknown as Identity);
  });

  function collect(): string[] {
    directory.learn(batch);
    const names = Array.from(batch.ids, (id) => directory.name(id));
    return names.map((name) => `${name?.client.name} → ${name?.server.name} ${name?.client.kind}`);
  }

  test('the kernel is asked once per owner, however many edges there are', () => {
    const names = collect();
    expect(names).toEqual(
      Array.from(batch.ids, (id) => `owner-${100 + (id % 3)} → owner-${200 + (id % 2)} r1`),
    );
    expect(named.sort()).toEqual([100n, 101n]);
    expect(asked.sort()).toEqual([`200 ${PORT}`, `201 ${PORT}`]);
  });

  test('names that hold cost nothing; when identity changes the kernel is asked again, once per owner', () => {
    collect();
    [named, asked] = [[], []];
    collect();
    expect([named, asked]).toEqual([[], []]);
    revision++;
    expect(collect()[0]).toMatch(/ r2$/);
    expect(named.sort()).toEqual([100n, 101n]);
    expect(asked).toHaveLength(SERVERS.length);
  });

  test('who serves for a listener is asked anew at the next collection', () => {
    collect();
    [acceptor, revision] = [300, 2];
    expect(collect().every((name) => name.includes('→ owner-300'))).toBe(true);
  });
});
