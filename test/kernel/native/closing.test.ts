// Links that are closed on another thread: the event loop goes on, the order is kept, and whatever else is closed
// meanwhile, or ends, nothing stays attached. bpftool is the witness.
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { type BpfLink, type BpfObject, openObject } from '../../../exporter/kernel/native.ts';
import { scaled } from '../../guests/scale.ts';
import {
  compile,
  compileTarget,
  Driven,
  firstLine,
  linkIds,
  openFiles,
  programIds,
  spawnChild,
  targetOffset,
  until,
} from './support.ts';

const objectPath = compile('attach');
const path = compileTarget();

function load(program = 'knpt_call'): BpfObject {
  const described = openObject(objectPath);
  const autoload = Object.fromEntries(described.programs.map(({ name }) => [name, name === program]));
  described.close();
  const object = openObject(objectPath, { autoload });
  object.load();
  return object;
}

function attach(object: BpfObject, count: number): BpfLink[] {
  const program = object.program('knpt_call');
  return Array.from({ length: count }, (_, cookie) =>
    program.attachUprobe({ path, symbol: 'knpt_target', cookie }),
  );
}

function counted(object: BpfObject): Record<string, number> {
  const { count, keys, values } = object.map('cookies').readAll();
  return Object.fromEntries(
    Array.from({ length: count }, (_, i) => [
      String(keys.readBigUInt64LE(i * 8)),
      Number(values.readBigUInt64LE(i * 8)),
    ]),
  );
}

describe('closeLater', () => {
  test('of 50 uprobes does not hold the event loop; they are detached one by one, in order', async () => {
    using object = load();
    const count = scaled(50, 12);
    const links = attach(object, count);
    const { id } = object.program('knpt_call').info();
    const ids = links.map((link) => link.info()?.id);
    let turns = 0;
    const turnsAtClose: number[] = [];
    const order: number[] = [];
    const closes = links.map((link, index) =>
      link.closeLater().then(() => {
        order.push(index);
        turnsAtClose.push(turns);
      }),
    );
    expect(links.every((link) => link.closed)).toBe(true);
    expect(linkIds([id]).length).toBeGreaterThan(count - 5); // asked for, hardly begun
    let closed = false;
    const all = Promise.all(closes).then(() => {
      closed = true;
    });
    let stillOrdered = true;
    while (!closed) {
      await turn();
      turns++;
      if (turns === 10) {
        // those that are still there are the last ones
        const left = linkIds([id]);
        stillOrdered = ids.slice(ids.length - left.length).every((link) => left.includes(link as number));
      }
    }
    await all;
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(stillOrdered).toBe(true);
    // at least one turn of the loop for each link; a close on this thread would leave none
    expect(turns).toBeGreaterThanOrEqual(count);
    expect(new Set(turnsAtClose).size).toBeGreaterThan(count / 2);
    expect(linkIds([id])).toEqual([]);
  });

  test('a link that is closing takes no calls, and its promise is the same however often it is asked for', async () => {
    using object = load();
    const [link] = attach(object, 1) as [BpfLink];
    const closing = link.closeLater();
    expect(link.closeLater()).toBe(closing);
    expect([link.closed, link.attached()]).toEqual([true, false]);
    expect(() => link.info()).toThrow('the BPF link is closed');
    await closing;
    link.close();
    await link.closeLater();
    const [other] = attach(object, 1) as [BpfLink];
    other.close();
    await other.closeLater();
  });

  test('close meanwhile returns when it is detached: of a link, and of the object', async () => {
    const files = openFiles();
    const object = load();
    const links = attach(object, 12);
    const { id } = object.program('knpt_call').info();
    const closes = links.map((link) => link.closeLater());
    links.at(-1)?.close(); // the last in the queue
    links[0]?.close(); // the one that is under way
    expect(linkIds([id]).length).toBeLessThanOrEqual(10);
    object.close();
    expect(linkIds([id])).toEqual([]);
    await Promise.all(closes);
    await until(() => !programIds('knpt_call').includes(id), 'the program to be freed');
    await until(() => openFiles() === files, 'descriptors to be closed');
  });

  test('nothing is counted once the promise is resolved; others of the object go on', async () => {
    using object = load();
    const driven = await Driven.start();
    try {
      const links = attach(object, 4);
      await driven.call(10);
      await Promise.all([links[1]?.closeLater(), links[3]?.closeLater()]);
      await driven.call(5);
      expect(counted(object)).toEqual({ 0: 15, 1: 10, 2: 15, 3: 10 });
    } finally {
      await driven.ended();
    }
  });
});

describe('whoever ends meanwhile leaves nothing', () => {
  for (const how of ['exit', 'throw', 'natural', 'object']) {
    test(`a process, by ${how}`, async () => {
      const child = spawnChild('closing', objectPath, path, how);
      const exit = once(child, 'exit');
      const program = Number((await firstLine(child)).split(' ')[1]);
      expect(await exit).toEqual([how === 'throw' ? 1 : 0, null]);
      expect(linkIds([program])).toEqual([]);
      await until(() => !programIds('knpt_call').includes(program), 'the program to be freed');
    });
  }

  for (const how of ['terminate', 'exit', 'throw', 'natural', 'object']) {
    test(`a worker, by ${how}`, async () => {
      const files = openFiles();
      const worker = new Worker(new URL('./children/closing.ts', import.meta.url), {
        workerData: [objectPath, path, how],
      });
      worker.on('error', () => {}); // 'throw' is on purpose
      const exit = new Promise((resolve) => worker.on('exit', resolve));
      const [{ program }] = await once(worker, 'message');
      if (how === 'terminate') void worker.terminate();
      await exit;
      await until(() => linkIds([program]).length === 0, 'the links to be closed');
      await until(() => !programIds('knpt_call').includes(program), 'the program to be freed');
      await until(() => openFiles() <= files, 'file descriptors to be closed');
    });
  }
});

test('a worker that is terminated with files to read and interfaces to list', async () => {
  const files = openFiles();
  for (let i = 0; i < scaled(5); i++) {
    const worker = new Worker(new URL('./children/pool.ts', import.meta.url));
    await once(worker, 'message');
    expect(await worker.terminate()).toBe(1);
  }
  await until(() => openFiles() <= files, 'file descriptors to be closed');
});

test('many places of a file with one link, each with its cookie (uprobe_multi)', async (context) => {
  const missing = new KernelFeatures().missing('attach:TRACE_UPROBE_MULTI');
  if (missing !== undefined) return context.skip(missing);
  using object = load('knpt_call_multi');
  const driven = await Driven.start();
  try {
    const program = object.program('knpt_call_multi');
    const offset = targetOffset();
    expect(() => program.attachUprobeMulti({ path, offsets: [] })).toThrow('at least one');
    expect(() => program.attachUprobeMulti({ path, offsets: [1, 2], cookies: [1] })).toThrow(
      'as many cookies',
    );
    expect(() => program.attachUprobeMulti({ path: '/nonexistent', offsets: [1] })).toThrow(/\(ENOENT\)/);
    const link = program.attachUprobeMulti({ path, offsets: [offset], cookies: [2n ** 63n] });
    expect(link.info()?.type).toBe('uprobe_multi');
    await driven.call(20);
    await link.closeLater();
    await driven.call(5);
    expect(counted(object)).toEqual({ [String(2n ** 63n)]: 20 });
  } finally {
    await driven.ended();
  }
  return undefined;
});
