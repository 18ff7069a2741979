// Ring buffers: every record arrives once and in order, in batches, one callback per turn of the event loop.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BpfObject, forEachRecord, openObject, RingBuffer } from '../../../exporter/kernel/native.ts';
import { scaled } from '../../guests/scale.ts';
import { callGetppid, compile, Driven, u32, u64, until } from './support.ts';

const path = compile('ring');
let driven: Driven;
beforeAll(async () => {
  driven = await Driven.start();
});
afterAll(() => driven.stop());

function load(options: { ringBytes: number; pid: number }): BpfObject {
  const object = openObject(path, {
    rodata: { target_pid: options.pid },
    maxEntries: { events: options.ringBytes },
  });
  object.load();
  object.program('knpt_ring').attach();
  return object;
}

/** Collects record numbers, checking each record. */
class Collector {
  received = 0;
  outOfOrder = 0;
  #last = -1;
  readonly onBatch = (batch: Buffer, count: number) => {
    let inBatch = 0;
    forEachRecord(batch, (at, size) => {
      if (size !== 16 || batch.readUInt32LE(at) !== 7) throw new Error('not a record of ours');
      const number = Number(batch.readBigUInt64LE(at + 8));
      if (number <= this.#last) this.outOfOrder++;
      this.#last = number;
      inBatch++;
    });
    if (inBatch !== count) throw new Error(`a batch of ${count} has ${inBatch} records`);
    this.received += inBatch;
  };
}

test('millions of records while they are being read: none lost, none twice, in order', async () => {
  // room for all of them, so that a slow machine cannot lose any
  using object = load({ ringBytes: 64 << 20, pid: driven.pid });
  const collector = new Collector();
  const reader = new RingBuffer(object.map('events'), collector.onBatch);
  const total = scaled(2_000_000, 100_000);
  await driven.call(total);
  await until(() => collector.received >= total, 'all records');
  expect(u64(object.map('totals').lookup(u32(0)))).toBe(total);
  expect(u64(object.map('totals').lookup(u32(1)))).toBe(0);
  expect(collector.received).toBe(total);
  expect(collector.outOfOrder).toBe(0);
  reader.close();
});

test('a ring that overflows: what arrives and what the program counted as lost add up', async () => {
  using object = load({ ringBytes: 4096, pid: process.pid });
  const collector = new Collector();
  const reader = new RingBuffer(object.map('events'), collector.onBatch);
  const [rounds, calls] = [scaled(500, 20), 1000];
  for (let i = 0; i < rounds; i++) {
    callGetppid(calls); // the event loop is held: 170 records fit, the rest cannot
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (let rest = reader.take(); rest; rest = reader.take()) collector.onBatch(rest.buffer, rest.count);
  const lost = u64(object.map('totals').lookup(u32(1)));
  expect(collector.received + lost).toBe(rounds * calls);
  expect(collector.outOfOrder).toBe(0);
  expect(lost).toBeGreaterThanOrEqual(rounds * (calls - 170));
  reader.close();
});

test('one callback per turn of the event loop, each with no more than a batch', async () => {
  using object = load({ ringBytes: 1 << 20, pid: process.pid });
  let turns = 0;
  let calls = 0;
  let callsInTurn = 0;
  let most = 0;
  let received = 0;
  const immediate = () => {
    turns++;
    callsInTurn = 0;
    if (received < 10_000) setImmediate(immediate);
  };
  const reader = new RingBuffer(
    object.map('events'),
    (batch, count) => {
      calls++;
      callsInTurn++;
      most = Math.max(most, callsInTurn);
      received += count;
      expect(batch.length).toBeLessThan(2400 + 24);
    },
    { batchBytes: 2400 },
  );
  callGetppid(10_000);
  setImmediate(immediate);
  await until(() => received >= 10_000, 'all records');
  expect(received).toBe(10_000);
  expect(calls).toBe(100);
  expect(most).toBe(1);
  expect(turns).toBeGreaterThanOrEqual(100);
  reader.close();
});

test('closing inside the callback, taking without the event loop, and misuse', async () => {
  using object = load({ ringBytes: 1 << 16, pid: process.pid });
  const map = object.map('events');
  let calls = 0;
  const reader: RingBuffer = new RingBuffer(map, () => {
    calls++;
    reader.close();
    reader.close();
  });
  callGetppid(10);
  await until(() => reader.closed, 'the callback');
  callGetppid(10);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(calls).toBe(1);
  expect(() => reader.take()).toThrow('the ring buffer reader is closed');

  const second = new RingBuffer(map, () => {
    throw new Error('not called: take comes first');
  });
  expect(second.take()?.count).toBe(10);
  expect(second.take()).toBeUndefined();
  second.unref().ref().close();
  expect(() => new RingBuffer(object.map('totals'), () => {})).toThrow("map 'totals' is not a ring buffer");
  expect(() => new RingBuffer(map, 'x' as unknown as () => void)).toThrow('needs a callback');
  expect(() => new RingBuffer(map, () => {}, { batchBytes: 0 })).toThrow(
    'batchBytes must be an integer from 1',
  );
  const third = new RingBuffer(map, () => {});
  object.close();
  expect(third.closed).toBe(true);
  expect(() => third.take()).toThrow('the ring buffer reader is closed');
});
