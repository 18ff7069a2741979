// Garbage collection: run with --expose-gc. Objects without links are closed when unreachable; what is attached stays.

import { readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { BpfStats, openObject } from '../../../../exporter/kernel/native.ts';

const collect = (globalThis as { gc?: () => void }).gc;
if (!collect) throw new Error('run with --expose-gc');
const settle = async () => {
  for (let i = 0; i < 10; i++) {
    collect();
    await setImmediate();
  }
};
const files = () => readdirSync('/proc/self/fd').length;
const path = process.argv[2] as string;
const open = () => {
  const object = openObject(path, { rodata: { target_pid: process.pid } });
  object.load();
  return object;
};

const total = open();
const totals = total.map('totals');
const base = files();
/** In a function of its own, so that no slot of this frame still holds the last one. */
function forget(): void {
  for (let i = 0; i < 20; i++) {
    const object = open();
    object.map('events');
    object.program('knpt_ring').attach().close();
    new BpfStats();
  }
}
forget();
const dropped = files();
await settle();
const collected = files();

/** A map keeps its object alive, in whichever order the collector looks at them. */
const orphan = (() => open().map('totals'))();
await settle();
const usable = orphan.lookup(Buffer.alloc(4))?.length;

/** Attached and forgotten: still counting. Its map is shared so that the count can be seen. */
(() => {
  const object = openObject(path, { rodata: { target_pid: process.pid }, reuseMaps: { totals } });
  object.load();
  object.program('knpt_ring').attach();
})();
await settle();
for (let i = 0; i < 100; i++) void process.ppid;
const counted = Number(totals.lookup(Buffer.alloc(4))?.readBigUInt64LE(0));
process.stdout.write(JSON.stringify({ base, dropped, collected, usable, counted }));
