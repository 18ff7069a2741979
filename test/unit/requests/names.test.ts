// Names of requests whose edge has no name yet: they wait for it, but neither for ever nor without number.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { BpfMap } from '../../../exporter/kernel/native.ts';
import { type NameBook, type NameEvent, Names } from '../../../exporter/probes/requests/names.ts';
import type { RequestRecords } from '../../../exporter/probes/requests/records.ts';

/** Edges that have a name, and which edges were answered. */
let named: Set<number>;
let answered: number[];
/** How often all edges were read. */
let reads: number;
/** Servers' names that the book was asked with. */
let servers: string[];
let names: Names;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  named = new Set([1]);
  answered = [];
  reads = 0;
  servers = [];
  const book: NameBook = {
    overflow: '*',
    size: 0,
    learn: ({ name }, text) => {
      servers.push(name);
      return text;
    },
    number: () => 2,
    name: () => '/a',
  };
  const records = {
    nameKey: { size: 4 },
    encodeNameKey: (_: number, { edgeId }: NameEvent, into: Buffer, at: number) =>
      into.writeUInt32LE(edgeId, at),
  } as unknown as RequestRecords;
  const map = {
    updateMany: (keys: Buffer, _: Buffer, count: number) => {
      for (let i = 0; i < count; i++) answered.push(keys.readUInt32LE(4 * i));
    },
  } as unknown as BpfMap;
  const directory = {
    name: (id: number) => (named.has(id) ? { server: { name: `server-${id}`, namespace: '' } } : undefined),
  };
  const learn = () => void reads++;
  names = new Names({ protocol: 1, map, records, book, directory: directory as never, learn });
});
afterEach(() => {
  vi.useRealTimers();
});

const event = (edgeId: number): NameEvent => {
  return { protocol: 1, edgeId, nameHash: BigInt(edgeId), text: '/a', cut: false };
};

test('a name waits for its edge', () => {
  names.take([event(1), event(5)]);
  expect({ answered, servers }).toEqual({ answered: [1], servers: ['server-1'] });
  named.add(5);
  names.answer();
  expect({ answered, servers }).toEqual({ answered: [1, 5], servers: ['server-1', 'server-5'] });
});

test('a name whose edge never gets one is answered after a while, and no edges are read for it any more', () => {
  names.take([event(9)]);
  vi.advanceTimersByTime(9_000);
  names.answer();
  expect(answered).toEqual([]);
  vi.advanceTimersByTime(2_000);
  names.answer();
  expect({ answered, servers }).toEqual({ answered: [9], servers: [''] });
  const before = reads;
  names.answer();
  names.take([event(1)]);
  expect(reads).toBe(before);
});

test('so many wait and no more: the oldest are answered without', () => {
  names.take(Array.from({ length: 1030 }, (_, i) => event(100 + i)));
  expect(answered).toEqual([100, 101, 102, 103, 104, 105]);
});
