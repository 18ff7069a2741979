// What becomes of counted requests whose edge goes: nothing stays in memory for it, and what can no longer be counted is
// said. The kernel's map and records are made up here; with the real ones test/kernel/http counts.
import { beforeEach, expect, test } from 'vitest';
import type { BpfMap } from '../../../exporter/kernel/native.ts';
import type { NamedEdge } from '../../../exporter/probes/edges.ts';
import type { Names } from '../../../exporter/probes/requests/names.ts';
import type { RequestKey, RequestRecords } from '../../../exporter/probes/requests/records.ts';
import { type RequestSeries, RequestTable } from '../../../exporter/probes/requests/table.ts';

/** A key of the tests: edge, number of the name, hash of the name; a value: one bucket of durations, and nothing else. */
const KEY_SIZE = 16;
const VALUE_SIZE = 8;
const FULL = 100;

const records = {
  key: { size: KEY_SIZE },
  totals: {
    size: VALUE_SIZE,
    duration: 0,
    durations: 0,
    firstByte: 0,
    firstBytes: 0,
    requestBytes: 0,
    requestSizes: 0,
    responseBytes: 0,
    responseSizes: 0,
    bucketStride: 8,
    sizeBuckets: 1,
    durationBuckets: 1,
  },
  decodeKey: (keys: Buffer, at: number): RequestKey => ({
    edgeId: keys.readUInt32LE(at),
    name: keys.readUInt32LE(at + 4),
    nameHash: keys.readBigUInt64LE(at + 8),
    status: 200,
    operation: 1,
    detail: 1,
    error: '',
  }),
} as unknown as RequestRecords;

let kernel: Map<string, number>;
let edges: Set<number>;
let counted: Record<string, number>;
/** Series that are held, by what they were made for. */
let table: RequestTable<RequestSeries>;
/** Numbers of names by hash. */
let numbers: Map<bigint, number>;

const keyOf = (edge: number, name: number, hash: bigint): string => {
  const key = Buffer.alloc(KEY_SIZE);
  key.writeUInt32LE(edge, 0);
  key.writeUInt32LE(name, 4);
  key.writeBigUInt64LE(hash, 8);
  return key.toString('latin1');
};

const bytesOf = (count: number): Buffer => {
  const value = Buffer.alloc(VALUE_SIZE);
  value.writeUInt32LE(count, 0);
  return value;
};

/** Edges stay the same object, as those of the directory do. */
const named = new Map<number, NamedEdge>();
const edgeOf = (id: number): NamedEdge => {
  const edge = named.get(id) ?? ({ port: id } as NamedEdge);
  named.set(id, edge);
  return edge;
};

beforeEach(() => {
  kernel = new Map();
  edges = new Set([7]);
  counted = {};
  numbers = new Map();
  const directory = {
    key: (id: number) => (edges.has(id) ? {} : undefined),
    name: (id: number) => (edges.has(id) ? edgeOf(id) : undefined),
  };
  const names = {
    overflow: '/overflow',
    nameOf: (number: number) => `/${number}`,
    resolve: ({ nameHash }: RequestKey) => {
      const number = numbers.get(nameHash);
      return number === undefined ? undefined : `/${number}`;
    },
  } as unknown as Names;
  const requests = {
    maxEntries: FULL,
    lookupAndDelete: (key: Buffer) => {
      const id = key.toString('latin1');
      const count = kernel.get(id);
      kernel.delete(id);
      return count === undefined ? undefined : bytesOf(count);
    },
  } as unknown as BpfMap;
  table = new RequestTable({
    requests,
    records,
    names,
    directory: directory as never,
    bounds: 0,
    series: (edge, _key, name) => ({
      add: ({ durations }) => {
        const id = `${edge.port} ${name}`;
        counted[id] = (counted[id] ?? 0) + (durations[0] ?? 0);
      },
      retain: () => {},
    }),
  });
});

function collect(times = 1): void {
  for (let i = 0; i < times; i++) {
    const entries = [...kernel];
    const keys = Buffer.concat(entries.map(([key]) => Buffer.from(key, 'latin1')));
    const values = Buffer.concat(entries.map(([, count]) => bytesOf(count)));
    const elements = entries.map((_, at) => at);
    const batch = { keys, values, stride: VALUE_SIZE, count: entries.length, elements, active: [] };
    for (const _ of table.account(batch)) {
      // to its end
    }
  }
}

const held = (name: string): boolean =>
  table.seriesOf(records.decodeKey(Buffer.from(keyOf(7, 0, 0n), 'latin1'), 0), name) !== undefined;

test('requests on an edge that was gone before they were read are said, and leave the kernel’s map', () => {
  kernel.set(keyOf(9, 2, 0n), 3);
  collect(2);
  expect(table.edgeGone).toBe(0); // the edge may be newer than the edges that were read
  kernel.set(keyOf(9, 2, 0n), 4);
  collect(2);
  expect({ left: kernel.size, gone: table.edgeGone, counted }).toEqual({ left: 0, gone: 4, counted: {} });
});

test('an edge that turns up a collection later loses nothing', () => {
  kernel.set(keyOf(9, 2, 0n), 3);
  collect(2);
  edges.add(9);
  collect(5);
  expect({ left: kernel.size, gone: table.edgeGone, counted }).toEqual({
    left: 1,
    gone: 0,
    counted: { '9 /2': 3 },
  });
});

test('late requests on an edge that was counted and is gone are said, too', () => {
  kernel.set(keyOf(7, 2, 0n), 3);
  collect();
  edges.delete(7);
  kernel.set(keyOf(7, 2, 0n), 5);
  collect(4);
  expect({ left: kernel.size, gone: table.edgeGone, counted }).toEqual({
    left: 0,
    gone: 2,
    counted: { '7 /2': 3 },
  });
  expect(held('/2')).toBe(false);
});

test('a series made under a name’s hash does not outlive its edge', () => {
  kernel.set(keyOf(7, 0, 99n), 1);
  numbers.set(99n, 2);
  collect(5); // counted, and its element removed: the number counts from now on, if there ever is another request
  expect({ left: kernel.size, counted }).toEqual({ left: 0, counted: { '7 /2': 1 } });
  expect(held('/2')).toBe(true);
  edges.delete(7);
  collect(40);
  expect(held('/2')).toBe(false);
});
