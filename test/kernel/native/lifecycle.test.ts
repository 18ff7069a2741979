// Whatever way it ends, nothing stays in the kernel and nothing crashes: close, twice, use after, workers, exit, kill,
// garbage collection. bpftool is the witness.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { BpfStats, KernelError, openObject, RingBuffer } from '../../../exporter/kernel/native.ts';
import {
  bpftool,
  callGetppid,
  compile,
  firstLine,
  linkIds,
  openFiles,
  programIds,
  runChild,
  spawnChild,
  u32,
  until,
} from './support.ts';

const path = compile('ring');

function misuse(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(KernelError);
    expect(error).toMatchObject({ code: 'MISUSE', errno: 0 });
    return (error as Error).message;
  }
  throw new Error('nothing was refused');
}

function open() {
  const object = openObject(path, { rodata: { target_pid: process.pid } });
  object.load();
  return object;
}

describe('close', () => {
  test('of an object takes its links, readers, maps and programs with it; twice is once', async () => {
    const files = openFiles();
    const object = open();
    const map = object.map('totals');
    const program = object.program('knpt_ring');
    const link = program.attach();
    const reader = new RingBuffer(object.map('events'), () => {});
    const { id } = program.info();
    expect(programIds('knpt_ring')).toContain(id);
    expect(linkIds([id])).toHaveLength(1);
    object.close();
    object.close();
    expect([object.closed, link.closed, reader.closed]).toEqual([true, true, true]);
    for (const handle of [link, reader, object]) handle.close();
    await until(() => !programIds('knpt_ring').includes(id), 'the program to be freed');
    expect(linkIds([id])).toEqual([]);
    expect(openFiles()).toBe(files);

    const closed = 'the BPF object is closed';
    expect(misuse(() => object.load())).toBe(closed);
    expect(misuse(() => object.btf())).toBe(closed);
    expect(misuse(() => object.map('events2'))).toBe(closed);
    expect(misuse(() => program.attach())).toBe(closed);
    expect(misuse(() => program.info())).toBe(closed);
    expect(misuse(() => program.testRun())).toBe(closed);
    expect(misuse(() => link.read())).toBe('the BPF link is closed');
    expect(misuse(() => link.info())).toBe('the BPF link is closed');
    expect(misuse(() => reader.take())).toBe('the ring buffer reader is closed');
    const mapClosed = "map 'totals': its BPF object is closed";
    expect(misuse(() => map.lookup(u32(0)))).toBe(mapClosed);
    expect(misuse(() => map.update(u32(0), Buffer.alloc(8)))).toBe(mapClosed);
    expect(misuse(() => map.readAll())).toBe(mapClosed);
    expect(misuse(() => map.clear())).toBe(mapClosed);
    expect(misuse(() => map.count())).toBe(mapClosed);
    expect(misuse(() => openObject(path, { reuseMaps: { totals: map } }))).toBe(mapClosed);
    expect(misuse(() => new RingBuffer(map, () => {}))).toBe(mapClosed);
  });

  test('of a link leaves the object usable, which can attach again', () => {
    using object = open();
    const program = object.program('knpt_ring');
    for (let i = 0; i < 3; i++) {
      const link = program.attach();
      callGetppid(10);
      link.close();
      callGetppid(10);
    }
    expect(object.map('totals').lookup(u32(0))?.readBigUInt64LE(0)).toBe(30n);
  });

  test('order: use before load, load twice, open but never loaded', () => {
    const object = openObject(path);
    expect(misuse(() => object.map('totals'))).toBe('the BPF object is not loaded');
    expect(misuse(() => object.program('knpt_ring').attach())).toBe('the BPF object is not loaded');
    expect(object.programs.map((p) => p.name)).toEqual(['knpt_ring']);
    object.load();
    expect(misuse(() => object.load())).toBe("BPF object 'ring' is already loaded");
    expect(misuse(() => object.program('none'))).toBe("BPF object 'ring' has no program 'none'");
    object.close();
    openObject(path).close();
    using without = openObject(path, { autoload: { knpt_ring: false } });
    without.load();
    expect(misuse(() => without.program('knpt_ring').attach())).toBe(
      "program 'knpt_ring' was not loaded (autoload is off)",
    );
  });

  test('of the statistics handle: runs are counted only while it is open', () => {
    using object = open();
    const program = object.program('knpt_ring');
    program.attach();
    const stats = new BpfStats();
    callGetppid(500);
    const { runCount, runTimeNs, id } = program.info();
    expect(runCount).toBeGreaterThanOrEqual(500);
    expect(runTimeNs).toBeGreaterThan(0);
    const seen = bpftool<{ run_cnt: number }>('prog', 'show', 'id', String(id));
    expect(seen.run_cnt).toBeGreaterThanOrEqual(runCount);
    stats.close();
    stats.close();
    expect(stats.closed).toBe(true);
  });
});

describe('a process that ends', () => {
  for (const how of ['exit', 'throw', 'callback', 'natural', 'close']) {
    test(`by ${how} leaves nothing`, async () => {
      const child = spawnChild('hold', path, how);
      const exit = once(child, 'exit');
      const [, program, link] = (await firstLine(child)).split(' ').map(Number) as [number, number, number];
      const [code, signal] = await exit;
      expect([code, signal]).toEqual([how === 'throw' || how === 'callback' ? 1 : 0, null]);
      await until(() => !programIds('knpt_ring').includes(program), 'the program to be freed');
      expect(bpftool<{ id: number }[]>('link', 'show').some((l) => l.id === link)).toBe(false);
    });
  }

  test('by kill -9 leaves nothing', async () => {
    const child = spawnChild('hold', path, 'wait');
    const [, program, link] = (await firstLine(child)).split(' ').map(Number) as [number, number, number];
    expect(programIds('knpt_ring')).toContain(program);
    expect(linkIds([program])).toEqual([link]);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await until(() => !programIds('knpt_ring').includes(program), 'the program to be freed');
    expect(bpftool<{ id: number }[]>('link', 'show').some((l) => l.id === link)).toBe(false);
  });
});

describe('a worker that ends', () => {
  for (const how of ['terminate', 'exit', 'throw']) {
    test(`by ${how} leaves nothing, and the others go on`, async () => {
      const files = openFiles();
      const worker = new Worker(new URL('./children/worker.ts', import.meta.url), { workerData: { path } });
      worker.on('error', () => {}); // 'throw' is on purpose
      const [{ program }] = await once(worker, 'message');
      callGetppid(10); // same process id: the worker's program sees it, and its ring reader reports
      const [{ received }] = await once(worker, 'message');
      expect(received).toBe(10);
      callGetppid(1000); // records on their way while it ends
      const exit = new Promise((resolve) => worker.on('exit', resolve)); // once() would reject on 'error'
      if (how === 'terminate') void worker.terminate();
      else worker.postMessage(how);
      await exit;
      await until(() => !programIds('knpt_ring').includes(program), 'the program to be freed');
      expect(linkIds([program])).toEqual([]);
      await until(() => openFiles() <= files, 'file descriptors to be closed');
      using object = open();
      expect(object.map('totals').count()).toBe(2);
    });
  }

  test('eight at once, terminated at whatever point they have come to', async () => {
    const before = programIds('knpt_ring');
    const workers = Array.from(
      { length: 8 },
      () => new Worker(new URL('./children/worker.ts', import.meta.url), { workerData: { path } }),
    );
    await once(workers[0] as Worker, 'message');
    await Promise.all(workers.map((worker) => worker.terminate()));
    await until(() => programIds('knpt_ring').every((id) => before.includes(id)), 'the programs to be freed');
  });
});

test('garbage collection closes what is forgotten and unattached, and nothing else', () => {
  const result = runChild<Record<string, number>>('collect', { node: ['--expose-gc'], args: [path] });
  expect(result.dropped).toBeGreaterThan(result.base as number);
  expect(result.collected).toBe(result.base);
  expect(result.usable).toBe(8);
  expect(result.counted).toBe(100);
});
